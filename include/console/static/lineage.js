// Where a job comes from and what came of it: a tree of trainings that continue each other.
import { html } from "./h.js";
import { ask, queryOf, training } from "./api.js";
import { Figure, Refused, Status, When } from "./elements.js";
import { usePolled } from "./live.js";
import { headline } from "./metrics.js";

export function Lineage({ job }) {
  const load = (signal) => ask(training(["jobs", job.job_id, "lineage"]), { signal });
  const { data, problem, again } = usePolled(load, 30);
  const jobs = data?.jobs ?? [];
  const known = new Set(jobs.map(({ job_id: id }) => id));
  const roots = jobs.filter(({ parent_job_id: parent }) => !known.has(parent));
  return html`<section class="section" aria-labelledby="lineage">
    <div class="section-heading"><h2 id="lineage">Lineage</h2>
      ${job.parent_job_id && html`<a href=${`compare${queryOf({ id: [job.job_id, job.parent_job_id] })}`}>Compare with its parent</a>`}
    </div>
    <${Refused} problem=${data ? null : problem} again=${again} />
    ${jobs.length === 1 && html`<p class="muted">Trained from the start; nothing continues it yet.</p>`}
    ${jobs.length > 1 && html`<div class="card"><${Branch} jobs=${jobs} of=${roots} here=${job.job_id} /></div>`}
    ${data?.truncated && html`<p class="muted">Not all of them are shown.</p>`}
  </section>`;
}

function Branch({ jobs, of, here }) {
  return html`<ul class="tree">${of.map((job) => {
    const children = jobs.filter(({ parent_job_id: parent }) => parent === job.job_id);
    return html`<li key=${job.job_id}>
      <${Entry} job=${job} here=${job.job_id === here} />
      ${children.length > 0 && html`<${Branch} jobs=${jobs} of=${children} here=${here} />`}
    </li>`;
  })}</ul>`;
}

function Entry({ job, here }) {
  const quality = headline(job.metrics);
  return html`<div class="entry ${here ? "here" : ""}">
    ${
      here
        ? html`<strong aria-current="page">${job.job_id}</strong>`
        : html`<a href=${`job?id=${encodeURIComponent(job.job_id)}`}>${job.job_id}</a>`
    }
    <${Status} of=${job.status} />
    <span class="muted">${job.fine_tuned ? "fine-tuned from its parent's best.pt, " : ""}${job.resumed_epoch >= 0 && job.resumed_epoch !== null && job.parent_job_id ? `goes on after epoch ${job.resumed_epoch + 1}, ` : ""}
      epoch ${job.epoch === null ? 0 : job.epoch + 1} of ${job.epochs ?? "?"}</span>
    ${quality && html`<span class="muted">${quality.label} <${Figure} value=${quality.value} /></span>`}
    <small class="muted"><${When} at=${job.created_at} /></small>
  </div>`;
}
