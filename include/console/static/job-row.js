// @ts-check
// One training run in the list.
/** @import { InputChange } from "./h.js" */
import { html } from "./h.js";
import { Figure, JobLink, Progress, Sparkline, Status, When } from "./elements.js";
import { formatDuration, formatRemaining } from "./format.js";
import { durableState, finishedEpochs, leftAfterExpiry, queuePosition, timeLeft } from "./progress.js";
import { headline, shortName } from "./metrics.js";

/** @typedef {Api.TrainingJobResponse} Job */

/**
 * The name of each column, and optionally the element that its header shows instead of the name.
 * @type {Array<[name: string, shown?: unknown]>}
 */
export const COLUMNS = [
  ["Compare", html`<span class="hidden">Compare</span>`],
  ["Training run"],
  ["Status"],
  ["Model"],
  ["Dataset"],
  ["Progress"],
  ["Metric"],
  ["Duration"],
  ["Safe in S3"],
  ["Started by"],
];

/** @param {{ job: Job, chosen: boolean, choose: (jobId: string, chosen: boolean) => void }} props */
export function JobRow({ job, chosen, choose }) {
  const id = job.job_id;
  const onChange = (/** @type {InputChange} */ event) => choose(id, event.currentTarget.checked);
  const external = html` <small class="muted" title="Uploaded, not trained here">external</small>`;
  return html`<tr role="row" class=${chosen ? "chosen" : ""}>
    <td role="cell" class="pick"><input type="checkbox" form="comparison" name="id" value=${id} checked=${chosen}
      aria-label=${`Compare ${id}`} onChange=${onChange} /></td>
    <th role="rowheader" scope="row" class="name"><${JobLink} id=${id} /></th>
    <td role="cell" data-label="Status"><${Status} of=${job.status} />
      ${job.origin === "external" && external}${job.archived_at && html` <small class="muted">archived</small>`}</td>
    <td role="cell" data-label="Model"><span class="clip" title=${job.model}>${job.model ?? "–"}</span></td>
    <td role="cell" data-label="Dataset"><span class="clip" title=${job.dataset}>${job.dataset ?? "–"}</span></td>
    <td role="cell" data-label="Progress" class="how-far"><${EpochsDone} job=${job} /></td>
    <td role="cell" data-label="Metric"><${Quality} job=${job} /></td>
    <td role="cell" data-label="Duration" class="number">${formatDuration(job.duration_seconds)}</td>
    <td role="cell" data-label="Safe in S3" class="number"><${Durable} job=${job} /></td>
    <td role="cell" data-label="Started by"><span>${job.triggered_by ?? "–"}</span><br />
      <small class="muted"><${When} at=${job.created_at} /></small></td>
  </tr>`;
}

/** @param {{ job: Job }} props */
function EpochsDone({ job }) {
  const { epochs } = job.progress;
  const finished = finishedEpochs(job);
  const position = queuePosition(job);
  if (position && !finished) return html`<span class="muted">${position}</span>`;
  if (!epochs && !finished) return html`<span class="muted">not started</span>`;
  const left = formatRemaining(timeLeft(job));
  return html`<${Progress} job=${job} name=${`Progress of ${job.job_id}`} />
    <small class="muted">${finished} of ${epochs ?? "?"} epochs${left && ` · ${left} left`}</small>`;
}

/** @param {{ job: Job }} props */
function Quality({ job }) {
  const best = headline(job.metrics);
  if (!best) return html`<span class="muted">–</span>`;
  const all = Object.entries(job.metrics ?? {}).filter(([name]) => name.startsWith("metrics/"));
  return html`<span class="quality" title=${all.map(([name, value]) => `${shortName(name)} ${value}`).join("\n")}>
    <${Figure} value=${best.value} /><${Sparkline} values=${job.fitness_curve} />
  </span><br /><small class="muted">${best.label}</small>`;
}

/**
 * The number of epochs that are safe in S3, and the number of finished epochs.
 * @param {{ job: Job }} props
 */
function Durable({ job }) {
  const { durable_epochs: epochs, durable_batch: batch } = job.progress;
  const finished = finishedEpochs(job);
  const left = leftAfterExpiry(job);
  if (left) return html`<span class="muted" title="last.pt was deleted by the retention policy">${left}</span>`;
  const safe = durableState(job);
  if (!finished && !safe) return html`<span class="muted">–</span>`;
  const behind = (epochs ?? 0) < finished;
  const title = `Safe in S3: ${safe ?? "nothing"}; finished epochs: ${finished}`;
  const warned = behind && job.status !== "running" ? "behind" : "";
  return html`<span title=${title} class=${warned}>${epochs ?? 0}${batch ? "+" : ""} / ${finished}</span>`;
}
