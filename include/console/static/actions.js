// What may be done with a job. Viewers do not see it; the server refuses them anyway.
import { html, useRef, useState } from "./h.js";
import { ask, training } from "./api.js";
import { isActive } from "./live.js";
import { useMayStart } from "./elements.js";
import { OwnJob } from "./own-job.js";
import { waitsForGpu } from "./progress.js";

export function Actions({ job, setJob, report }) {
  const mayStart = useMayStart();
  if (!mayStart) return null;
  const id = encodeURIComponent(job.job_id);
  const resumable = !isActive(job) && job.links.last_checkpoint !== null;
  const stoppable = isActive(job) && (!job.stop_requested || job.stop_after_epoch);
  return html`
    ${stoppable && html`<${Stop} job=${job} setJob=${setJob} report=${report} />`}
    ${resumable && html`<a class="button primary" href=${`start?resume=${id}`}>Resume with more epochs</a>`}
    ${job.best_checkpoint_sha256 && html`<a class="button" href=${`start?from=${id}&model=job:${id}`}>Fine-tune from this</a>`}
    <a class="button" href=${`start?from=${id}`}>Train again with changes</a>
    ${!isActive(job) && html`<${OwnJob} job=${job} setJob=${setJob} report=${report} />`}`;
}

function Stop({ job, setJob, report }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const confirm = useRef(null);
  const stop = async (when) => {
    setBusy(true);
    try {
      setJob(await ask(training(["jobs", job.job_id, "stop"]), { method: "POST", body: { when } }));
      setAsking(false);
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
  const waits = waitsForGpu(job);
  if (!asking)
    return html`<button type="button" class="button danger" onClick=${begin}>${waits ? "Cancel" : "Stop"}</button>`;
  if (waits) {
    return html`<span class="confirm" role="group" aria-label="Cancel this training">
      <span>It waits for a GPU and has nothing to save: it ends at once.</span>
      <button type="button" class="button danger" ref=${confirm} disabled=${busy} onClick=${() => stop("now")}>Cancel this training</button>
      <button type="button" class="button quiet" onClick=${() => setAsking(false)}>Keep it in the queue</button>
    </span>`;
  }
  const later = !job.stop_requested;
  return html`<span class="confirm" role="group" aria-label="Stop this training">
    <span>Its state is kept; it can be resumed at that batch.</span>
    <button type="button" class="button danger" ref=${confirm} disabled=${busy} onClick=${() => stop("now")}
      title="After the batch it is in">Stop now</button>
    ${
      later &&
      html`<button type="button" class="button danger" disabled=${busy} onClick=${() => stop("after_epoch")}
      title="Its numbers are then those of a whole epoch">Stop after this epoch</button>`
    }
    <button type="button" class="button quiet" onClick=${() => setAsking(false)}>No, go on</button>
  </span>`;
}
