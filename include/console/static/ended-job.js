// @ts-check
// Actions on a job that has ended, for users who may change it: archive and delete.
/** @import { ActionProps } from "./actions.js" */
import { html } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { useDeletion } from "./deletion.js";
import { useAction } from "./elements.js";
import { formatBytes } from "./format.js";

/** @param {ActionProps} props */
export function Archive({ job, setJob, report }) {
  const { busy, act } = useAction(report);
  const archived = job.archived_at !== null;
  const url = trainingUrl(["jobs", job.job_id, "archive"]);
  const change = () => act(async () => setJob(await fetchJson(url, { method: archived ? "DELETE" : "POST" })));
  const title = archived ? "Show it in the list again" : "Hide it from the list; nothing is deleted";
  return html`<button type="button" class="button quiet" disabled=${busy} onClick=${change} title=${title}>
    ${archived ? "Unarchive" : "Archive"}</button>`;
}

/**
 * A button that asks twice before it deletes the job, because a deletion cannot be undone.
 * @param {Omit<ActionProps, "setJob">} props
 */
export function Delete({ job, report }) {
  const url = trainingUrl(["jobs", job.job_id], { confirm: job.job_id });
  const { step, setStep, remove } = useDeletion(url, "jobs", report);
  if (step === "closed") {
    return html`<button type="button" class="button quiet" onClick=${() => setStep("first")}>Delete</button>`;
  }
  const bytes = (job.best_checkpoint_size ?? 0) + (job.last_checkpoint_size ?? 0);
  const size = bytes ? ` (${formatBytes(bytes)})` : "";
  const first = step === "first";
  const next = html`<button type="button" class="button danger" onClick=${() => setStep("second")}>
    Delete this training run…</button>`;
  const deleting = step === "deleting";
  const last = html`<button type="button" class="button danger" disabled=${deleting} onClick=${remove}>
    ${deleting ? "Deleting…" : "Delete permanently"}</button>`;
  return html`<span class="confirm" role="group" aria-label="Delete this training run">
    <span>${
      first
        ? `This deletes the training run’s record, curves, pictures and both checkpoints${size}.`
        : "This cannot be undone, and the training run can no longer be resumed."
    }</span>
    ${first ? next : last}
    <button type="button" class="button quiet" disabled=${deleting} onClick=${() => setStep("closed")}>Keep it</button>
  </span>`;
}
