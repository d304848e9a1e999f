// @ts-check
// Two to six training runs side by side: curves, metrics and parameters.
/** @import { Series } from "../chart.js" */
/** @import { ChartGroup } from "../metrics.js" */
import { html, useMemo } from "../h.js";
import { Chart, Swatch } from "../chart.js";
import { Figure, JobLink, Note, Pending, Status } from "../elements.js";
import { formatDuration, formatParameter } from "../format.js";
import { fetchJob, updateEpochs } from "../job-data.js";
import { isActive, usePolled } from "../live.js";
import { chartGroups, headline, isComparable, lowerIsBetter, shortName } from "../metrics.js";
import { namesOf } from "../curves.js";
import { Page, query, show } from "../page.js";
import { flatten, isSame } from "../parameters.js";
import { finishedEpochs } from "../progress.js";

/** @typedef {{ job: Api.TrainingJobResponse, epochs: Api.RecordedEpoch[] }} Compared */

const MOST = 6;
const requested = [...new Set(query.getAll("id"))];
const ids = requested.slice(0, MOST);
/**
 * The epochs that have been loaded, by job: the jobs are loaded again every few seconds, but not thousands of epochs.
 * @type {Map<string, Api.RecordedEpoch[]>}
 */
const loaded = new Map();

/**
 * @param {AbortSignal} signal
 * @returns {Promise<Compared[]>}
 */
async function load(signal) {
  return Promise.all(
    ids.map(async (id) => {
      const [job, epochs] = await Promise.all([fetchJob(id, signal), updateEpochs(id, loaded.get(id) ?? [], signal)]);
      loaded.set(id, epochs);
      return { job, epochs };
    }),
  );
}

function Compare() {
  const { data, problem, again } = usePolled(load, (shown) => (shown.some(({ job }) => isActive(job)) ? 5 : null));
  return html`<${Page} tab="jobs" heading="Compare training runs" lead=${ids.join(", ")}>
    ${
      ids.length < 2 &&
      html`<${Note} kind="warning">Select two to six training runs <a href="jobs">in the list</a>;${" "}
      ${ids.length || "none"} selected.</${Note}>`
    }
    ${
      requested.length > MOST &&
      html`<${Note} kind="warning">Only the first six of ${requested.length} are shown.</${Note}>`
    }
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    ${
      data &&
      html`<${Jobs} shown=${data} /><${Overlaid} shown=${data} /><${Metrics} shown=${data} />
      <${Differences} shown=${data} />`
    }
  </${Page}>`;
}

/** @param {{ shown: Compared[] }} props */
function Jobs({ shown }) {
  return html`<ul class="compared">${shown.map(
    ({ job }, tone) => html`<li key=${job.job_id} class="card">
    <${Swatch} tone=${tone} /><${JobLink} id=${job.job_id} />${" "}
    <${Status} of=${job.status} />
    <span class="muted">${finishedEpochs(job)} of ${job.epochs ?? "?"} epochs,${" "}
      ${formatDuration(job.duration_seconds)}</span>
  </li>`,
  )}</ul>`;
}

/** @param {{ shown: Compared[] }} props */
function Overlaid({ shown }) {
  const charts = useMemo(() => chartsOf(shown), [shown]);
  return html`<section class="section" aria-labelledby="curves"><h2 id="curves">Curves</h2>
    ${
      charts.length === 0
        ? html`<${Note}>None of these training runs has finished an epoch yet.</${Note}>`
        : html`<div class="charts">
          ${charts.map((each) => html`<${Chart} key=${each.title} ...${each} sync="compared" />`)}</div>`
    }
  </section>`;
}

/**
 * One chart for each metric, with one line for each job that has this metric.
 * @param {Compared[]} shown
 */
function chartsOf(shown) {
  const last = Math.max(0, ...shown.map(({ epochs }) => (epochs.at(-1)?.epoch ?? -1) + 1));
  const counted = Array.from({ length: last }, (_, index) => index + 1);
  const names = new Set(shown.flatMap(({ epochs }) => [...namesOf(epochs)]));
  return chartGroups(names)
    .flatMap(metricsOf)
    .map(({ name, title }) => ({ title, epochs: counted, series: seriesOf(shown, name, last) }));
}

/**
 * Which metrics of a group are drawn, each in a separate chart.
 * @param {ChartGroup} group
 */
function metricsOf({ kind, title, series }) {
  if (kind === "rate") return [{ name: series[0].name, title }]; // All parameter groups follow a similar schedule.
  return series.map(({ name, label }) => ({ name, title: kind === "loss" ? `${title}, ${label}` : shortName(name) }));
}

/**
 * @param {Compared[]} shown
 * @param {string} name
 * @param {number} length
 * @returns {Series[]}
 */
function seriesOf(shown, name, length) {
  const all = shown.map(({ job, epochs }, tone) => ({
    label: job.job_id,
    tone,
    values: valuesOf(epochs, name, length),
  }));
  return all.filter(({ values }) => values.some((value) => value !== null));
}

/**
 * @param {Api.RecordedEpoch[]} epochs
 * @param {string} name
 * @param {number} length
 */
function valuesOf(epochs, name, length) {
  /** @type {Array<number | null>} */
  const values = new Array(length).fill(null);
  for (const { epoch, metrics } of epochs) values[epoch] = metrics[name] ?? null;
  return values;
}

/** @param {{ shown: Compared[] }} props */
function Metrics({ shown }) {
  const jobs = shown.map(({ job }) => job);
  const names = [...new Set(jobs.flatMap(({ metrics }) => Object.keys(metrics ?? {})))].filter(isComparable);
  names.sort((one, other) => Number(lowerIsBetter(one)) - Number(lowerIsBetter(other)) || one.localeCompare(other));
  const main = jobs.map(({ metrics }) => headline(metrics)?.name).find(Boolean);
  if (main) names.unshift(...names.splice(names.indexOf(main), 1));
  if (!names.length) return null;
  const rows = names.map((name) => {
    const values = jobs.map(({ metrics }) => metrics?.[name] ?? null);
    const best = bestOf(name, values);
    const cells = values.map((value) => [
      html`<${Figure} value=${value} digits=${4} />`,
      value !== null && value === best && html` <span class="tag best">best</span>`,
    ]);
    return { name: /^(train|val)\//.test(name) ? name : shortName(name), cells };
  });
  const about = "Completed and stopped training runs: metrics of best.pt. All others: metrics of the last epoch.";
  return html`<${SideBySide} id="metrics" title="Metrics" about=${about} jobs=${jobs} rows=${rows} />`;
}

/**
 * The best value; undefined unless there are at least two different values.
 * @param {string} name
 * @param {unknown[]} values
 */
function bestOf(name, values) {
  const known = values.filter((value) => typeof value === "number");
  if (known.length < 2 || new Set(known).size === 1) return undefined;
  return lowerIsBetter(name) ? Math.min(...known) : Math.max(...known);
}

/** @param {{ shown: Compared[] }} props */
function Differences({ shown }) {
  const specs = shown.map(({ job }) => flatten(job.spec));
  const names = [...new Set(specs.flatMap((spec) => Object.keys(spec)))].filter((name) => name !== "job_id");
  const different = names.filter((name) => specs.some((spec) => !isSame(spec[name], specs[0][name])));
  if (!different.length) {
    return html`<section class="section"><h2>Parameters</h2>
      <p class="muted">These training runs have the same parameters.</p></section>`;
  }
  const rows = different.map((name) => ({
    name,
    cells: specs.map((spec) => html`<code>${formatParameter(spec[name])}</code>`),
  }));
  const jobs = shown.map(({ job }) => job);
  return html`<${SideBySide} id="parameters" title="Parameters that differ" jobs=${jobs} rows=${rows} />`;
}

/**
 * @param {object} props
 * @param {string} props.id
 * @param {string} props.title
 * @param {string} [props.about]
 * @param {Api.TrainingJobResponse[]} props.jobs
 * @param {Array<{ name: string, cells: unknown[] }>} props.rows
 */
function SideBySide({ id, title, about, jobs, rows }) {
  const heads = jobs.map(
    (job, tone) => html`<th scope="col" key=${job.job_id}><${Swatch} tone=${tone} /> ${job.job_id}</th>`,
  );
  return html`<section class="section" aria-labelledby=${id}><h2 id=${id}>${title}</h2>
    ${about && html`<p class="muted">${about}</p>`}
    <div class="scroller" tabindex="0" role="group" aria-label=${`Table: ${title}`}>
      <table class="parameters beside" aria-labelledby=${id}>
        <thead><tr><th scope="col"><span class="hidden">Name</span></th>${heads}</tr></thead>
        <tbody>${rows.map(
          ({ name, cells }) => html`<tr key=${name}><th scope="row">${name}</th>
          ${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`,
        )}</tbody>
      </table></div>
  </section>`;
}

show(Compare);
