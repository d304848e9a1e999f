// One training in the list.
import { html } from "./h.js";
import { Figure, Progress, Sparkline, Status, When } from "./elements.js";
import { duration, remaining } from "./format.js";
import { durable, finishedEpochs, placeInQueue, timeLeft } from "./progress.js";
import { headline, short } from "./metrics.js";

/** Name of each column, and what is shown instead of it. */
export const COLUMNS = [
  ["Compare", html`<span class="hidden">Compare</span>`],
  ["Training"],
  ["Status"],
  ["Model"],
  ["Data set"],
  ["Progress"],
  ["mAP"],
  ["Duration"],
  ["Durable"],
  ["Started by"],
];

export function JobRow({ job, chosen, choose }) {
  const id = job.job_id;
  return html`<tr role="row" class=${chosen ? "chosen" : ""}>
    <td role="cell" class="pick"><input type="checkbox" form="comparison" name="id" value=${id} checked=${chosen}
      aria-label=${`Compare ${id}`} onChange=${(event) => choose(id, event.currentTarget.checked)} /></td>
    <th role="rowheader" scope="row" class="name"><a href=${`job?id=${encodeURIComponent(id)}`}>${id}</a></th>
    <td role="cell" data-label="Status"><${Status} of=${job.status} />${
      job.origin === "external" &&
      html`
      <small class="muted" title="Uploaded, not produced by a training run here">external</small>`
    }${
      job.archived_at &&
      html`
      <small class="muted">archived</small>`
    }</td>
    <td role="cell" data-label="Model"><span class="clip" title=${job.model}>${job.model ?? "–"}</span></td>
    <td role="cell" data-label="Data set"><span class="clip" title=${job.dataset}>${job.dataset ?? "–"}</span></td>
    <td role="cell" data-label="Progress" class="how-far"><${HowFar} job=${job} /></td>
    <td role="cell" data-label="mAP"><${Quality} job=${job} /></td>
    <td role="cell" data-label="Duration" class="number">${duration(job.duration_seconds)}</td>
    <td role="cell" data-label="Durable" class="number"><${Durable} job=${job} /></td>
    <td role="cell" data-label="Started by"><span>${job.triggered_by ?? "–"}</span><br /><small class="muted"><${When} at=${job.created_at} /></small></td>
  </tr>`;
}

function HowFar({ job }) {
  const { epochs } = job.progress;
  const finished = finishedEpochs(job);
  const place = placeInQueue(job);
  if (place && !finished) return html`<span class="muted">${place}</span>`;
  if (!epochs && !finished) return html`<span class="muted">not begun</span>`;
  const left = remaining(timeLeft(job));
  return html`<${Progress} job=${job} name=${`Progress of ${job.job_id}`} />
    <small class="muted">${finished} of ${epochs ?? "?"} epochs${left && ` · ${left} left`}</small>`;
}

function Quality({ job }) {
  const best = headline(job.metrics);
  if (!best) return html`<span class="muted">–</span>`;
  const all = Object.entries(job.metrics).filter(([name]) => name.startsWith("metrics/"));
  return html`<span class="quality" title=${all.map(([name, value]) => `${short(name)} ${value}`).join("\n")}>
    <${Figure} value=${best.value} /><${Sparkline} values=${job.fitness_curve} />
  </span>`;
}

/** What is safe in S3, against the last epoch that was trained. */
function Durable({ job }) {
  const { durable_epochs: epochs, durable_batch: batch } = job.progress;
  const finished = finishedEpochs(job);
  const safe = durable(job);
  if (!finished && !safe) return html`<span class="muted">–</span>`;
  const behind = (epochs ?? 0) < finished;
  const title = `Safe in S3: ${safe ?? "nothing"}, of ${finished} finished epochs`;
  return html`<span title=${title} class=${behind && job.status !== "running" ? "behind" : ""}>${epochs ?? 0}${batch ? "+" : ""} / ${finished}</span>`;
}
