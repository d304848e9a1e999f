// Both checkpoints of a job: what each is for, where it is, and the lines to use it.
import { html, useState } from "./h.js";
import { requireRedirect, training } from "./api.js";
import { Copy, Note, useMayStart } from "./elements.js";
import { moment, size } from "./format.js";
import { isActive } from "./live.js";
import { durable } from "./progress.js";

export function Checkpoints({ job }) {
  const mayStart = useMayStart();
  const none = job.links.best_checkpoint === null && job.links.last_checkpoint === null;
  if (none && job.epoch === null && !isActive(job)) return null;
  return html`<section class="section" aria-labelledby="checkpoints">
    <h2 id="checkpoints">Checkpoints</h2>
    <div class="pair">
      <${Checkpoint} job=${job} kind="best" purpose="Deploy it: the best weights, without optimizer."
        use=${prediction(job)} />
      <${Checkpoint} job=${job} kind="last" purpose="Continue from it: the whole state of the training."
        use=${resumption(job)} after=${mayStart && !isActive(job) && "Or press “Resume with more epochs” above."} />
    </div>
  </section>`;
}

function Checkpoint({ job, kind, purpose, use, after }) {
  const [problem, setProblem] = useState(null);
  const file = `${kind}.pt`;
  const [path, sha256, bytes] = ["path", "sha256", "size"].map((part) => job[`${kind}_checkpoint_${part}`]);
  const there = job.links[`${kind}_checkpoint`] !== null;
  return html`<article class="card checkpoint" aria-label=${file}>
    <header><h3>${file}</h3><span class="muted number">${bytes !== null ? size(bytes) : ""}</span></header>
    <p class="muted">${purpose}</p>
    ${!there && html`<p>${missing(job, kind)}</p>`}
    ${
      there &&
      html`<div class="actions">
      <a class="button" href=${training(["jobs", job.job_id, "checkpoints", kind])} download
        onClick=${(event) => download(event, setProblem)}>Download ${file}</a>
      ${path && html`<${Copy} text=${path} name=${`Copy s3:// path of ${file}`}>Copy s3:// path</${Copy}>`}
    </div>`
    }
    ${problem && html`<${Note} kind="failed" title="Not downloaded"><p>${problem.message}</p></${Note}>`}
    ${path && html`<p class="path"><code>${path}</code></p>`}
    ${
      sha256 &&
      html`<p class="hash"><span class="muted">SHA-256</span> <code title=${sha256}>${sha256.slice(0, 12)}…</code>
      <${Copy} text=${sha256} name=${`Copy SHA-256 of ${file}`}>Copy</${Copy}></p>`
    }
    ${
      there &&
      !path &&
      html`<p class="muted">The newest one that was verified in S3${kind === "last" && durable(job) ? `, after ${durable(job)}` : ""};
      the final one is recorded when the training ends.</p>`
    }
    ${there && html`<details><summary>Use it</summary><pre tabindex="0"><code>${use}</code></pre>${after && html`<p class="muted">${after}</p>`}</details>`}
  </article>`;
}

/** Download, or say why not: of a refusal the browser would say no more than that it failed. */
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
    setProblem(problem);
  }
}

function missing(job, kind) {
  if (kind === "last" && job.last_checkpoint_expired_at) {
    return `The retention policy gave it up on ${moment(job.last_checkpoint_expired_at)}; best.pt is kept.`;
  }
  return isActive(job) ? "Not there yet: the first one comes when an epoch was stored." : "There is none.";
}

/** By itself Ultralytics runs whatever a file says. */
function prediction(job) {
  const file = `'${job.job_id.replaceAll("'", String.raw`'\''`)}-best.pt'`;
  return `# Says what the file is, and refuses one that could run code
python -m include.checkpoints.inspection ${file} &&
  ULTRALYTICS_SAFE_LOAD=1 yolo predict model=${file} source=picture.jpg`;
}

function resumption(job) {
  const conf = JSON.stringify({ resume_from: job.job_id, epochs: 2 * (job.epochs ?? 50) });
  return `curl -X POST ${new URL("../../api/v2/dags/train_yolo/dagRuns", location.href)} \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{"logical_date": null, "conf": ${conf}}'`;
}
