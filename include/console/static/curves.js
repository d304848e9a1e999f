// @ts-check
// The curves of one job, and the numbers behind them.
/** @import { Series } from "./chart.js" */
import { html, useMemo, useState } from "./h.js";
import { Chart } from "./chart.js";
import { JobLink, Note } from "./elements.js";
import { formatDuration, formatNumber } from "./format.js";
import { isActive } from "./live.js";
import { chartGroups, shortName } from "./metrics.js";

/** @typedef {Api.RecordedEpoch[]} Epochs */

const ROWS = 300;

/** @param {{ job: Api.TrainingJobResponse, epochs: Epochs, hasParent: boolean }} props */
export function Curves({ job, epochs, hasParent }) {
  const resumed = job.parent_job_id && job.resumed_epoch !== null ? job.resumed_epoch + 1 : 0;
  const charts = useMemo(() => chartsOf(epochs), [epochs]);
  if (epochs.length === 0 && !isActive(job)) return null;
  const parent = job.parent_job_id ?? "";
  return html`<section class="section" aria-labelledby="curves">
    <div class="section-heading"><h2 id="curves">Curves</h2>
      ${
        resumed > 0 &&
        epochs.length > 0 &&
        html`<p class="muted">Paler lines show the epochs up to ${resumed}, which were trained by${" "}
        ${hasParent ? html`<${JobLink} id=${parent} />` : parent}</p>`
      }
    </div>
    ${
      epochs.length === 0
        ? html`<${Note}>Curves appear after the first epoch.</${Note}>`
        : html`<div class="charts">
          ${charts.map((each) => html`<${Chart} key=${each.title} ...${each} resumed=${resumed} sync="epochs" />`)}
        </div>
        <${Numbers} epochs=${epochs} resumed=${resumed} parent=${parent} />`
    }
  </section>`;
}

/** @param {Epochs} epochs */
function chartsOf(epochs) {
  const counted = epochs.map(({ epoch }) => epoch + 1);
  const valuesOf = (/** @type {string} */ name) => epochs.map(({ metrics }) => metrics[name] ?? null);
  return chartGroups(namesOf(epochs)).map(({ title, series }) => ({
    title,
    epochs: counted,
    series: distinct(series.map(({ name, label }) => ({ label, values: valuesOf(name) }))),
  }));
}

/**
 * Draw identical lines once: the parameter groups of an optimizer usually have the same learning rate.
 * @param {Series[]} series
 * @returns {Series[]}
 */
function distinct(series) {
  /** @type {Map<string, Series>} */
  const lines = new Map();
  for (const { label, values } of series) {
    const key = values.join();
    lines.set(key, { values, label: [lines.get(key)?.label, label].filter(Boolean).join(", ") });
  }
  return [...lines.values()];
}

/**
 * The names of the metrics that at least one epoch has: the first epoch may lack some of them.
 * @param {Epochs} epochs
 */
export function namesOf(epochs) {
  return new Set(epochs.flatMap(({ metrics }) => Object.keys(metrics)));
}

/** @typedef {{ epochs: Epochs, resumed: number, parent: string }} NumbersProps */

/** @param {NumbersProps} props */
function Numbers({ epochs, resumed, parent }) {
  const [open, setOpen] = useState(false);
  const onToggle = (/** @type {Event & { currentTarget: HTMLDetailsElement }} */ event) =>
    setOpen(event.currentTarget.open);
  return html`<details onToggle=${onToggle}>
    <summary>Numbers</summary>
    ${open && html`<${Table} epochs=${epochs} resumed=${resumed} parent=${parent} />`}
  </details>`;
}

/** @param {NumbersProps} props */
function Table({ epochs, resumed, parent }) {
  const [all, setAll] = useState(false);
  const names = [...namesOf(epochs)].sort((one, other) => rankOf(one) - rankOf(other) || one.localeCompare(other));
  const rows = all ? epochs : epochs.slice(-ROWS);
  const heads = names.map((name) => html`<th scope="col" class="number" title=${name}>${headingOf(name)}</th>`);
  return html`
    ${
      rows.length < epochs.length &&
      html`<p>The last ${ROWS} of ${epochs.length} epochs.${" "}
      <button type="button" class="button small" onClick=${() => setAll(true)}>Show all</button></p>`
    }
    <div class="scroller tall" tabindex="0" role="group" aria-label="Numbers by epoch">
      <table class="numbers">
        <caption class="hidden">Numbers by epoch</caption>
        <thead><tr><th scope="col">Epoch</th>${heads}
          <th scope="col" class="number">Fitness</th><th scope="col" class="number">Duration</th></tr></thead>
        <tbody>${rows.map((row) => {
          const inherited = row.epoch < resumed;
          return html`<tr key=${row.epoch} class=${inherited ? "inherited" : ""}>
          <th scope="row" class="number" title=${inherited ? `trained by ${parent}` : undefined}>${row.epoch + 1}</th>
          ${names.map((name) => html`<td class="number">${formatNumber(row.metrics[name], 4)}</td>`)}
          <td class="number">${formatNumber(row.fitness, 4)}</td><td class="number">${formatDuration(row.seconds)}</td>
        </tr>`;
        })}</tbody>
      </table>
    </div>`;
}

/**
 * Return the rank of a column: metrics come first, then losses, then all other columns.
 * @param {string} name
 */
function rankOf(name) {
  const found = ["metrics/", "train/", "val/", "lr/"].findIndex((kind) => name.startsWith(kind));
  return found < 0 ? 4 : found;
}

/** @param {string} name */
function headingOf(name) {
  return /^(train|val)\//.test(name) ? name.replace("/", " ").replaceAll("_", " ") : shortName(name);
}
