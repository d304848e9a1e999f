// @ts-check
// The training runs that a job was resumed or fine-tuned from, and those that started from the job, as a tree.
import { html } from "./h.js";
import { fetchJson, queryString, trainingUrl } from "./api.js";
import { Figure, JobLink, ProblemNote, Status, When } from "./elements.js";
import { usePolled } from "./live.js";
import { headline } from "./metrics.js";

/** @param {{ job: Api.TrainingJobResponse }} props */
export function Lineage({ job }) {
  /** @type {(signal: AbortSignal) => Promise<Api.Lineage>} */
  const load = (signal) => fetchJson(trainingUrl(["jobs", job.job_id, "lineage"]), { signal });
  const { data, problem, again } = usePolled(load, 30);
  const jobs = data?.jobs ?? [];
  const known = new Set(jobs.map(({ job_id: id }) => id));
  const roots = jobs.filter(({ parent_job_id: parent }) => parent === null || !known.has(parent));
  const parent = job.parent_job_id;
  const comparison = parent && known.has(parent) && `compare${queryString({ id: [job.job_id, parent] })}`;
  return html`<section class="section" aria-labelledby="lineage">
    <div class="section-heading"><h2 id="lineage">Lineage</h2>
      ${comparison && html`<a href=${comparison}>Compare with parent</a>`}
    </div>
    <${ProblemNote} problem=${data ? null : problem} again=${again} />
    ${data && parent && !known.has(parent) && html`<p class="muted">Its parent ${parent} has been deleted.</p>`}
    ${jobs.length === 1 && !parent && html`<p class="muted">This training run has no parent and no children.</p>`}
    ${
      jobs.length > 1 &&
      html`<div class="card"><${Branch} jobs=${jobs} siblings=${roots} current=${job.job_id} /></div>`
    }
    ${data?.truncated && html`<p class="muted">Only some of the related training runs are shown.</p>`}
  </section>`;
}

/** @param {{ jobs: Api.RelatedJob[], siblings: Api.RelatedJob[], current: string }} props */
function Branch({ jobs, siblings, current }) {
  return html`<ul class="tree">${siblings.map((job) => {
    const children = jobs.filter(({ parent_job_id: parent }) => parent === job.job_id);
    return html`<li key=${job.job_id}>
      <${Entry} job=${job} isCurrent=${job.job_id === current} />
      ${children.length > 0 && html`<${Branch} jobs=${jobs} siblings=${children} current=${current} />`}
    </li>`;
  })}</ul>`;
}

/** @param {{ job: Api.RelatedJob, isCurrent: boolean }} props */
function Entry({ job, isCurrent }) {
  const quality = headline(job.metrics);
  return html`<div class="entry ${isCurrent ? "current" : ""}">
    ${isCurrent ? html`<strong aria-current="page">${job.job_id}</strong>` : html`<${JobLink} id=${job.job_id} />`}
    <${Status} of=${job.status} />
    <span class="muted">${summaryOf(job)}</span>
    ${quality && html`<span class="muted">${quality.label} <${Figure} value=${quality.value} /></span>`}
    <small class="muted"><${When} at=${job.created_at} /></small>
  </div>`;
}

/** @param {Api.RelatedJob} job */
function summaryOf(job) {
  const resumed = job.parent_job_id && job.resumed_epoch !== null && job.resumed_epoch >= 0;
  const parts = [
    job.fine_tuned && "fine-tuned from its parent's best.pt",
    resumed && `resumed after epoch ${Number(job.resumed_epoch) + 1}`,
    `epoch ${job.epoch === null ? 0 : job.epoch + 1} of ${job.epochs ?? "?"}`,
  ];
  return parts.filter(Boolean).join(", ");
}
