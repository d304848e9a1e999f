// @ts-check
// The actions on a job. Viewers do not see the buttons, and the server would refuse their requests.
/** @import { Problem } from "./api.js" */
import { html, useRef, useState } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { isActive } from "./live.js";
import { useDeletion } from "./deletion.js";
import { useAction } from "./elements.js";
import { formatBytes } from "./format.js";
import { useSession } from "./session.js";
import { explainNotYours } from "./ownership.js";
import { waitsForGpu } from "./progress.js";

/**
 * @typedef {object} ActionProps
 * @property {Api.TrainingJobResponse} job
 * @property {(job: Api.TrainingJobResponse) => void} setJob receives the job that the server returns
 * @property {(problem: Problem | null) => void} report shows why an action failed; null if it succeeded
 */

/** Id of the sentence that says why actions are disabled. */
const REASON = "not-yours";

/** @param {ActionProps} props */
export function Actions({ job, setJob, report }) {
  const session = useSession();
  if (!session?.may_start) return null;
  const id = encodeURIComponent(job.job_id);
  const resumable = !isActive(job) && job.links.last_checkpoint !== null;
  const stoppable = isActive(job) && (!job.stop_requested || job.stop_after_epoch);
  const reason = explainNotYours(session, job);
  const refused = (/** @type {string} */ label) =>
    html`<button type="button" class="button" disabled aria-describedby=${REASON} title=${reason}>${label}</button>`;
  const own = reason === null;
  return html`
    ${stoppable && (own ? html`<${Stop} job=${job} setJob=${setJob} report=${report} />` : refused(stopLabel(job)))}
    ${
      resumable &&
      (own
        ? html`<a class="button primary" href=${`start?resume=${id}`}>Resume with more epochs</a>`
        : refused("Resume with more epochs"))
    }
    ${
      job.best_checkpoint_sha256 &&
      html`<a class="button" href=${`start?from=${id}&model=job:${id}`}>Fine-tune from this</a>`
    }
    <a class="button" href=${`start?from=${id}`}>Train again with changes</a>
    ${!isActive(job) && (own ? html`<${Archive} job=${job} setJob=${setJob} report=${report} />` : refused("Archive"))}
    ${
      !isActive(job) &&
      job.run_id !== null &&
      (own ? html`<${Delete} job=${job} report=${report} />` : refused("Delete"))
    }
    ${!own && html`<p class="muted" id=${REASON}>${reason}</p>`}`;
}

/**
 * The resource that the job waits for before it trains; null if it does not wait.
 * @param {Api.TrainingJobResponse} job
 */
function awaited(job) {
  if (job.waits_for_quota) return "the quota";
  return waitsForGpu(job) ? "a GPU" : null;
}

/** @param {Api.TrainingJobResponse} job */
const stopLabel = (job) => (awaited(job) ? "Cancel" : "Stop");

/** @param {ActionProps} props */
function Stop({ job, setJob, report }) {
  const [asking, setAsking] = useState(false);
  const { busy, act } = useAction(report);
  const confirm = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const stop = async (/** @type {Api.StopBody["when"]} */ when) => {
    const url = trainingUrl(["jobs", job.job_id, "stop"]);
    await act(async () => setJob(await fetchJson(url, { method: "POST", body: { when } })));
    setAsking(false);
  };
  const ask = () => {
    setAsking(true);
    setTimeout(() => confirm.current?.focus());
  };
  if (!asking) {
    return html`<button type="button" class="button danger" onClick=${ask}>${stopLabel(job)}</button>`;
  }
  const now = (/** @type {string} */ label, /** @type {string | undefined} */ title) =>
    html`<button type="button" class="button danger" ref=${confirm} disabled=${busy} title=${title}
      onClick=${() => stop("now")}>${label}</button>`;
  const keep = (/** @type {string} */ label) =>
    html`<button type="button" class="button quiet" onClick=${() => setAsking(false)}>${label}</button>`;
  const waitsFor = awaited(job);
  if (waitsFor) {
    return html`<span class="confirm" role="group" aria-label="Cancel this training run">
      <span>Cancel this training run? It is waiting for ${waitsFor} and has nothing to save.</span>
      ${now("Cancel this training run", undefined)}
      ${keep("Keep it in the queue")}
    </span>`;
  }
  return html`<span class="confirm" role="group" aria-label="Stop this training run">
    <span>Stop this training run? It can be resumed from where it stops.</span>
    ${now("Stop now", "Stops after the current batch")}
    ${
      !job.stop_requested &&
      html`<button type="button" class="button danger" disabled=${busy} onClick=${() => stop("after_epoch")}
      title="Stops at the end of the current epoch">Stop after this epoch</button>`
    }
    ${keep("Keep training")}
  </span>`;
}

/** @param {ActionProps} props */
function Archive({ job, setJob, report }) {
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
function Delete({ job, report }) {
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
