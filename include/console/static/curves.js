// The curves of one job, and the numbers behind them.
import { html, useMemo, useState } from "./h.js";
import { Chart } from "./chart.js";
import { Note } from "./elements.js";
import { duration, number } from "./format.js";
import { isActive } from "./live.js";
import { charts, short } from "./metrics.js";

const ROWS = 300;

export function Curves({ job, epochs }) {
  const resumed = job.parent_job_id && job.resumed_epoch !== null ? job.resumed_epoch + 1 : 0;
  const drawn = useMemo(() => drawings(epochs), [epochs]);
  if (epochs.length === 0 && !isActive(job)) return null;
  return html`<section class="section" aria-labelledby="curves">
    <div class="section-heading"><h2 id="curves">Curves</h2>
      ${
        resumed > 0 &&
        epochs.length > 0 &&
        html`<p class="muted">Paler up to epoch ${resumed}: trained by
        ${" "}<a href=${`job?id=${encodeURIComponent(job.parent_job_id)}`}>${job.parent_job_id}</a></p>`
      }
    </div>
    ${
      epochs.length === 0
        ? html`<${Note}>The first curve is here when the first epoch has ended.</${Note}>`
        : html`<div class="charts">
          ${drawn.map((each) => html`<${Chart} key=${each.title} ...${each} resumed=${resumed} sync="epochs" />`)}
        </div>
        <${Numbers} epochs=${epochs} resumed=${resumed} parent=${job.parent_job_id} />`
    }
  </section>`;
}

function drawings(epochs) {
  const counted = epochs.map(({ epoch }) => epoch + 1);
  return charts(namesOf(epochs)).map(({ title, series }) => ({
    title,
    epochs: counted,
    series: distinct(
      series.map(({ name, label }) => ({ label, values: epochs.map(({ metrics }) => metrics[name] ?? null) })),
    ),
  }));
}

/** Lines that lie on each other are one: the groups of an optimizer mostly share their learning rate. */
function distinct(series) {
  const lines = new Map();
  for (const { label, values } of series) {
    const key = values.join();
    lines.set(key, { values, label: [lines.get(key)?.label, label].filter(Boolean).join(", ") });
  }
  return [...lines.values()];
}

/** Every metric of any epoch: a first epoch may lack some. */
export function namesOf(epochs) {
  return new Set(epochs.flatMap(({ metrics }) => Object.keys(metrics)));
}

function Numbers({ epochs, resumed, parent }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>Numbers</summary>
    ${open && html`<${Table} epochs=${epochs} resumed=${resumed} parent=${parent} />`}
  </details>`;
}

function Table({ epochs, resumed, parent }) {
  const [all, setAll] = useState(false);
  const names = [...namesOf(epochs)].sort((one, other) => place(one) - place(other) || one.localeCompare(other));
  const rows = all ? epochs : epochs.slice(-ROWS);
  return html`
    ${
      rows.length < epochs.length &&
      html`<p>The last ${ROWS} of ${epochs.length} epochs.
      ${" "}<button type="button" class="button small" onClick=${() => setAll(true)}>Show all</button></p>`
    }
    <div class="scroller tall" tabindex="0" role="group" aria-label="Numbers of each epoch">
      <table class="numbers">
        <caption class="hidden">Numbers of each epoch</caption>
        <thead><tr><th scope="col">epoch</th>${names.map((name) => html`<th scope="col" class="number" title=${name}>${heading(name)}</th>`)}
          <th scope="col" class="number">fitness</th><th scope="col" class="number">took</th></tr></thead>
        <tbody>${rows.map(
          (row) => html`<tr key=${row.epoch} class=${row.epoch < resumed ? "inherited" : ""}>
          <th scope="row" class="number" title=${row.epoch < resumed ? `trained by ${parent}` : undefined}>${row.epoch + 1}</th>
          ${names.map((name) => html`<td class="number">${number(row.metrics[name], 4)}</td>`)}
          <td class="number">${number(row.fitness, 4)}</td><td class="number">${duration(row.seconds)}</td>
        </tr>`,
        )}</tbody>
      </table>
    </div>`;
}

/** Metrics first, then losses; the rest last. */
function place(name) {
  const found = ["metrics/", "train/", "val/", "lr/"].findIndex((kind) => name.startsWith(kind));
  return found < 0 ? 4 : found;
}

function heading(name) {
  return /^(train|val)\//.test(name) ? name.replace("/", " ").replaceAll("_", " ") : short(name);
}
