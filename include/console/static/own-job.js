// @ts-check
// What people can do with a finished job that they started themselves: archive it and delete it.
/** @import { ActionProps } from "./actions.js" */
/** @import { Problem } from "./api.js" */
import { html, useEffect, useState } from "./h.js";
import { fetchJson, fetchSession, trainingUrl } from "./api.js";
import { deleteAndWait } from "./deletion.js";
import { formatBytes } from "./format.js";

/** @param {ActionProps} props */
export function OwnJob({ job, setJob, report }) {
  const [user, setUser] = useState(/** @type {string | null} */ (null));
  useEffect(() => {
    fetchSession().then(
      ({ user: name }) => setUser(name),
      () => undefined,
    );
  }, []);
  if (user === null || user !== job.triggered_by) return null;
  return html`<${Archive} job=${job} setJob=${setJob} report=${report} />
    ${job.run_id !== null && html`<${Delete} job=${job} report=${report} />`}`;
}

/** @param {ActionProps} props */
function Archive({ job, setJob, report }) {
  const [busy, setBusy] = useState(false);
  const archived = job.archived_at !== null;
  const change = async () => {
    setBusy(true);
    try {
      const url = trainingUrl(["jobs", job.job_id, "archive"]);
      setJob(await fetchJson(url, { method: archived ? "DELETE" : "POST" }));
      report(null);
    } catch (problem) {
      report(/** @type {Problem} */ (problem));
    }
    setBusy(false);
  };
  const title = archived ? "Show it in the list again" : "Hide it from the list; nothing is deleted";
  return html`<button type="button" class="button quiet" disabled=${busy} onClick=${change} title=${title}>
    ${archived ? "Unarchive" : "Archive"}</button>`;
}

/**
 * Asks twice, because deleting cannot be undone.
 * @param {Omit<ActionProps, "setJob">} props
 */
function Delete({ job, report }) {
  const [step, setStep] = useState(/** @type {"closed" | "first" | "second" | "deleting"} */ ("closed"));
  const remove = async () => {
    setStep("deleting");
    try {
      await deleteAndWait(trainingUrl(["jobs", job.job_id], { confirm: job.job_id }));
      location.assign("jobs");
    } catch (problem) {
      report(/** @type {Problem} */ (problem));
      setStep("closed");
    }
  };
  if (step === "closed") {
    return html`<button type="button" class="button quiet" onClick=${() => setStep("first")}>Delete</button>`;
  }
  const bytes = (job.best_checkpoint_size ?? 0) + (job.last_checkpoint_size ?? 0);
  const size = bytes ? ` (${formatBytes(bytes)})` : "";
  const first = step === "first";
  const next = html`<button type="button" class="button danger" onClick=${() => setStep("second")}>
    Delete this training…</button>`;
  const deleting = step === "deleting";
  const last = html`<button type="button" class="button danger" disabled=${deleting} onClick=${remove}>
    ${deleting ? "Deleting…" : "Delete permanently"}</button>`;
  return html`<span class="confirm" role="group" aria-label="Delete this training">
    <span>${
      first
        ? `This deletes its record, its curves, its pictures and both checkpoints${size}.`
        : "This cannot be undone, and the training can no longer be resumed."
    }</span>
    ${first ? next : last}
    <button type="button" class="button quiet" disabled=${deleting} onClick=${() => setStep("closed")}>Keep it</button>
  </span>`;
}
