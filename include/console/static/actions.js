// What may be done with a job. Viewers do not see it; the server refuses them anyway.
import { html, useRef, useState } from "./h.js";
import { ask, training } from "./api.js";
import { isActive } from "./live.js";
import { useMayStart } from "./elements.js";

export function Actions({ job, setJob, report }) {
  const mayStart = useMayStart();
  if (!mayStart) return null;
  const id = encodeURIComponent(job.job_id);
  const resumable = !isActive(job) && job.links.last_checkpoint !== null;
  const stoppable = isActive(job) && !job.stop_requested;
  return html`
    ${stoppable && html`<${Stop} job=${job} setJob=${setJob} report=${report} />`}
    ${resumable && html`<a class="button primary" href=${`start?resume=${id}`}>Resume with more epochs</a>`}
    <a class="button" href=${`start?from=${id}`}>Train again with changes</a>`;
}

function Stop({ job, setJob, report }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const confirm = useRef(null);
  const stop = async () => {
    setBusy(true);
    try {
      setJob(await ask(training(["jobs", job.job_id, "stop"]), { method: "POST" }));
      report(null);
    } catch (problem) {
      report(problem);
      setAsking(false);
    }
    setBusy(false);
  };
  const begin = () => {
    setAsking(true);
    setTimeout(() => confirm.current?.focus());
  };
  if (!asking) return html`<button type="button" class="button danger" onClick=${begin}>Stop after this epoch</button>`;
  return html`<span class="confirm" role="group" aria-label="Stop after this epoch">
    <span>Really stop?</span>
    <button type="button" class="button danger" ref=${confirm} disabled=${busy} onClick=${stop}>Yes, stop</button>
    <button type="button" class="button quiet" onClick=${() => setAsking(false)}>No, go on</button>
  </span>`;
}
