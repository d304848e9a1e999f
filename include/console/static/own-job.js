// What is offered for a job that has ended to the person who has started it: to archive and to delete it.
import { html, useEffect, useState } from "./h.js";
import { ask, training, whoLooks } from "./api.js";
import { size } from "./format.js";

export function OwnJob({ job, setJob, report }) {
  const [user, setUser] = useState(null);
  useEffect(() => {
    whoLooks().then(
      ({ user: name }) => setUser(name),
      () => undefined,
    );
  }, []);
  if (user === null || user !== job.triggered_by) return null;
  return html`<${Archive} job=${job} setJob=${setJob} report=${report} />
    ${job.run_id !== null && html`<${Delete} job=${job} report=${report} />`}`;
}

function Archive({ job, setJob, report }) {
  const [busy, setBusy] = useState(false);
  const archived = job.archived_at !== null;
  const change = async () => {
    setBusy(true);
    try {
      setJob(await ask(training(["jobs", job.job_id, "archive"]), { method: archived ? "DELETE" : "POST" }));
      report(null);
    } catch (problem) {
      report(problem);
    }
    setBusy(false);
  };
  return html`<button type="button" class="button quiet" disabled=${busy} onClick=${change}
    title=${archived ? "List it again" : "Hide it from the list; nothing is deleted"}>${archived ? "Unarchive" : "Archive"}</button>`;
}

/** Asked twice, because it cannot be undone. */
function Delete({ job, report }) {
  const [step, setStep] = useState(0);
  const remove = async () => {
    setStep(3);
    try {
      await ask(training(["jobs", job.job_id], { confirm: job.job_id }), { method: "DELETE" });
      location.assign("jobs");
    } catch (problem) {
      report(problem);
      setStep(0);
    }
  };
  if (step === 0) return html`<button type="button" class="button quiet" onClick=${() => setStep(1)}>Delete</button>`;
  const bytes = (job.best_checkpoint_size ?? 0) + (job.last_checkpoint_size ?? 0);
  return html`<span class="confirm" role="group" aria-label="Delete this training">
    <span>${
      step === 1
        ? `Its row, its curves, its pictures and both checkpoints${bytes ? ` (${size(bytes)})` : ""} are deleted.`
        : "This cannot be undone, and nobody can resume it afterwards."
    }</span>
    ${
      step === 1
        ? html`<button type="button" class="button danger" onClick=${() => setStep(2)}>Delete this training…</button>`
        : html`<button type="button" class="button danger" disabled=${step === 3} onClick=${remove}>Delete it for good</button>`
    }
    <button type="button" class="button quiet" onClick=${() => setStep(0)}>Keep it</button>
  </span>`;
}
