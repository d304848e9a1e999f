// @ts-check
// Both checkpoints of a job, each with its purpose, its location and the commands that use it.
/** @import { Problem } from "./api.js" */
import { html, useState } from "./h.js";
import { requireRedirect, trainingUrl } from "./api.js";
import { Copy, Note } from "./elements.js";
import { useMayStart } from "./session.js";
import { formatBytes, formatDateTime } from "./format.js";
import { isActive } from "./live.js";
import { durableState } from "./progress.js";
import { requestOf } from "./yolo-command.js";

/**
 * @typedef {Api.TrainingJobResponse} Job
 * @typedef {"best" | "last"} Kind
 */

/** @param {{ job: Job }} props */
export function Checkpoints({ job }) {
  const mayStart = useMayStart();
  const none = job.links.best_checkpoint === null && job.links.last_checkpoint === null;
  if (none && job.epoch === null && !isActive(job)) return null;
  return html`<section class="section" aria-labelledby="checkpoints">
    <h2 id="checkpoints">Checkpoints</h2>
    <div class="pair">
      <${Checkpoint} job=${job} kind="best" purpose="For deployment: the best weights, without the optimizer."
        use=${prediction(job)} />
      <${Checkpoint} job=${job} kind="last" purpose="For resuming: the complete training state."
        use=${resumption(job)} after=${mayStart && !isActive(job) && "Or press “Resume with more epochs” above."} />
    </div>
  </section>`;
}

/**
 * @param {object} props
 * @param {Job} props.job
 * @param {Kind} props.kind
 * @param {string} props.purpose
 * @param {string} props.use commands to copy
 * @param {string | false | null} [props.after] shown below the commands
 */
function Checkpoint({ job, kind, purpose, use, after }) {
  const [problem, setProblem] = useState(/** @type {Problem | null} */ (null));
  const file = `${kind}.pt`;
  const path = job[`${kind}_checkpoint_path`];
  const sha256 = job[`${kind}_checkpoint_sha256`];
  const size = job[`${kind}_checkpoint_size`];
  const available = job.links[`${kind}_checkpoint`] !== null;
  return html`<article class="card checkpoint" aria-label=${file}>
    <header><h3>${file}</h3><span class="muted number">${size !== null ? formatBytes(size) : ""}</span></header>
    <p class="muted">${purpose}</p>
    ${!available && html`<p>${missing(job, kind)}</p>`}
    ${
      available &&
      html`<div class="actions">
      <a class="button" href=${trainingUrl(["jobs", job.job_id, "checkpoints", kind])} download
        onClick=${(/** @type {LinkClick} */ event) => download(event, setProblem)}>Download ${file}</a>
      ${path && html`<${Copy} text=${path} name=${`Copy s3:// path of ${file}`}>Copy s3:// path</${Copy}>`}
    </div>`
    }
    ${problem && html`<${Note} kind="failed" title="Download failed"><p>${problem.message}</p></${Note}>`}
    ${path && html`<p class="path"><code>${path}</code></p>`}
    ${
      sha256 &&
      html`<p class="hash"><span class="muted">SHA-256</span> <code title=${sha256}>${sha256.slice(0, 12)}…</code>
      <${Copy} text=${sha256} name=${`Copy SHA-256 of ${file}`}>Copy</${Copy}></p>`
    }
    ${available && !path && html`<p class="muted">${provisional(job, kind)}</p>`}
    ${
      available &&
      html`<details><summary>How to use it</summary><pre tabindex="0"><code>${use}</code></pre>
      ${after && html`<p class="muted">${after}</p>`}</details>`
    }
  </article>`;
}

/**
 * Download the file, or show why the server refuses: the browser would only say that the download failed.
 * @typedef {MouseEvent & { currentTarget: HTMLAnchorElement }} LinkClick
 * @param {LinkClick} event
 * @param {(problem: Problem | null) => void} setProblem
 */
async function download(event, setProblem) {
  const link = event.currentTarget;
  if (link.dataset.allowed) {
    delete link.dataset.allowed;
    return;
  }
  event.preventDefault();
  try {
    await requireRedirect(link.href);
    setProblem(null);
    link.dataset.allowed = "yes";
    link.click();
  } catch (problem) {
    setProblem(/** @type {Problem} */ (problem));
  }
}

/**
 * Explain why the checkpoint cannot be downloaded.
 * @param {Job} job
 * @param {Kind} kind
 */
function missing(job, kind) {
  if (kind === "last" && job.last_checkpoint_expired_at) {
    return `Deleted by the retention policy on ${formatDateTime(job.last_checkpoint_expired_at)}; best.pt is kept.`;
  }
  return isActive(job) ? "Available once the first epoch has been stored." : "No checkpoint.";
}

/**
 * Describe the file that can be downloaded before a final checkpoint is recorded.
 * @param {Job} job
 * @param {Kind} kind
 */
function provisional(job, kind) {
  const state = kind === "last" && durableState(job);
  const latest = `Latest state verified in S3${state ? `, after ${state}` : ""}.`;
  return isActive(job) ? `${latest} The final checkpoint is recorded when training ends.` : latest;
}

/**
 * Commands that inspect best.pt and then predict with it: Ultralytics alone would run any code that a file contains.
 * @param {Job} job
 */
function prediction(job) {
  const file = `'${job.job_id.replaceAll("'", String.raw`'\''`)}-best.pt'`;
  return `# Describes the file, and rejects one that could execute code
python -m include.checkpoints.inspection ${file} &&
  ULTRALYTICS_SAFE_LOAD=1 yolo predict model=${file} source=picture.jpg`;
}

/** @param {Job} job */
function resumption(job) {
  return requestOf({ resume_from: job.job_id, epochs: 2 * (job.epochs ?? 50) });
}
