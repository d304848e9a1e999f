// Deleting a job of one's own with all that it has stored: asked twice, because it cannot be undone.
import { html, useEffect, useState } from "./h.js";
import { ask, training, whoLooks } from "./api.js";
import { size } from "./format.js";

export function DeleteJob({ job, report }) {
  const [user, setUser] = useState(null);
  const [step, setStep] = useState(0);
  useEffect(() => {
    whoLooks().then(({ user: name }) => setUser(name), () => undefined);
  }, []);
  if (user === null || user !== job.triggered_by || job.run_id === null) return null;
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
    <span>${step === 1
      ? `Its row, its curves, its pictures and both checkpoints${bytes ? ` (${size(bytes)})` : ""} are deleted.`
      : "This cannot be undone, and nobody can resume it afterwards."}</span>
    ${step === 1
      ? html`<button type="button" class="button danger" onClick=${() => setStep(2)}>Delete this training…</button>`
      : html`<button type="button" class="button danger" disabled=${step === 3} onClick=${remove}>Delete it for good</button>`}
    <button type="button" class="button quiet" onClick=${() => setStep(0)}>Keep it</button>
  </span>`;
}
