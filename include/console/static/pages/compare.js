// Two to six trainings beside each other: curves, numbers, and what they were asked for.
import { html, useMemo } from "../h.js";
import { ask, epochsOf, training } from "../api.js";
import { Chart, Swatch } from "../chart.js";
import { Figure, Note, Refused, Status } from "../elements.js";
import { duration, parameter } from "../format.js";
import { isActive, usePolled } from "../live.js";
import { charts, headline, isJudged, lowerIsBetter, short } from "../metrics.js";
import { namesOf } from "../curves.js";
import { Page, query, show } from "../page.js";
import { flat, same } from "../parameters.js";
import { finishedEpochs } from "../progress.js";

const asked = [...new Set(query.getAll("id"))];
const ids = asked.slice(0, 6);

async function look(signal) {
  return Promise.all(
    ids.map(async (id) => {
      const [job, epochs] = await Promise.all([ask(training(["jobs", id]), { signal }), epochsOf(id, -1, signal)]);
      return { job, epochs };
    }),
  );
}

function Compare() {
  const { data, problem, again } = usePolled(look, (shown) => (shown.some(({ job }) => isActive(job)) ? 5 : null));
  return html`<${Page} tab="jobs" heading="Compare trainings" lead=${ids.join(", ")}>
    ${ids.length < 2 && html`<${Note} kind="warning">Choose two to six trainings <a href="jobs">in the list</a>; the address names ${ids.length || "none"}.</${Note}>`}
    ${asked.length > 6 && html`<${Note} kind="warning">The first six of ${asked.length} are shown: more cannot be told apart.</${Note}>`}
    <${Refused} problem=${problem} again=${again} />
    ${!data && !problem && html`<div class="loading" role="status">Loading…</div>`}
    ${data && html`<${Jobs} shown=${data} /><${Overlaid} shown=${data} /><${Metrics} shown=${data} /><${Differences} shown=${data} />`}
  </${Page}>`;
}

function Jobs({ shown }) {
  return html`<ul class="compared">${shown.map(
    ({ job }, tone) => html`<li key=${job.job_id} class="card">
    <${Swatch} tone=${tone} /><a href=${`job?id=${encodeURIComponent(job.job_id)}`}>${job.job_id}</a> <${Status} of=${job.status} />
    <span class="muted">${finishedEpochs(job)} of ${job.epochs ?? "?"} epochs, ${duration(job.duration_seconds)}</span>
  </li>`,
  )}</ul>`;
}

function Overlaid({ shown }) {
  const drawn = useMemo(() => drawings(shown), [shown]);
  return html`<section class="section" aria-labelledby="curves"><h2 id="curves">Curves</h2>
    ${
      drawn.length === 0
        ? html`<${Note}>None of them has finished an epoch yet.</${Note}>`
        : html`<div class="charts">${drawn.map((each) => html`<${Chart} key=${each.title} ...${each} sync="compared" />`)}</div>`
    }
  </section>`;
}

/** One chart for each metric, one line for each job that has it. */
function drawings(shown) {
  const last = Math.max(0, ...shown.map(({ epochs }) => (epochs.at(-1)?.epoch ?? -1) + 1));
  const counted = Array.from({ length: last }, (_, index) => index + 1);
  const names = new Set(shown.flatMap(({ epochs }) => [...namesOf(epochs)]));
  const groups = charts(names).flatMap(({ title, series }) => {
    if (title === "Learning rate") return [{ name: series[0].name, title }]; // the optimizer's groups follow each other
    return series.map(({ name, label }) => ({
      name,
      title: /loss$/i.test(title) ? `${title}, ${label}` : short(name),
    }));
  });
  return groups.map(({ name, title }) => ({
    title,
    epochs: counted,
    series: shown
      .map(({ job, epochs }, tone) => ({ label: job.job_id, tone, values: valuesOf(epochs, name, last) }))
      .filter(({ values }) => values.some((value) => value !== null)),
  }));
}

function valuesOf(epochs, name, length) {
  const values = new Array(length).fill(null);
  for (const { epoch, metrics } of epochs) values[epoch] = metrics[name] ?? null;
  return values;
}

function Metrics({ shown }) {
  const names = [...new Set(shown.flatMap(({ job }) => Object.keys(job.metrics ?? {})))].filter(isJudged);
  names.sort((one, other) => Number(lowerIsBetter(one)) - Number(lowerIsBetter(other)) || one.localeCompare(other));
  const main = shown.map(({ job }) => headline(job.metrics)?.name).find(Boolean);
  if (main) names.unshift(...names.splice(names.indexOf(main), 1));
  if (!names.length) return null;
  return html`<${Beside} id="metrics" title="Metrics" about="Of best.pt, once a training has ended; of its last epoch until then."
    jobs=${shown.map(({ job }) => job)} rows=${names.map((name) => {
      const values = shown.map(({ job }) => job.metrics?.[name] ?? null);
      const best = bestOf(name, values);
      return {
        name: /^(train|val)\//.test(name) ? name : short(name),
        cells: values.map(
          (value) => html`<${Figure} value=${value} digits=${4} />
      ${value !== null && value === best && html` <span class="tag best">best</span>`}`,
        ),
      };
    })} />`;
}

function bestOf(name, values) {
  const known = values.filter((value) => typeof value === "number");
  if (known.length < 2 || new Set(known).size === 1) return undefined;
  return lowerIsBetter(name) ? Math.min(...known) : Math.max(...known);
}

function Differences({ shown }) {
  const specs = shown.map(({ job }) => flat(job.spec));
  const names = [...new Set(specs.flatMap((spec) => Object.keys(spec)))].filter((name) => name !== "job_id");
  const different = names.filter((name) => specs.some((spec) => !same(spec[name], specs[0][name])));
  if (!different.length)
    return html`<section class="section"><h2>Parameters</h2><p class="muted">They were asked for with the same parameters.</p></section>`;
  return html`<${Beside} id="parameters" title="Parameters that differ" jobs=${shown.map(({ job }) => job)}
    rows=${different.map((name) => ({ name, cells: specs.map((spec) => html`<code>${parameter(spec[name])}</code>`) }))} />`;
}

function Beside({ id, title, about, jobs, rows }) {
  return html`<section class="section" aria-labelledby=${id}><h2 id=${id}>${title}</h2>
    ${about && html`<p class="muted">${about}</p>`}
    <div class="scroller" tabindex="0" role="group" aria-label=${`Table: ${title}`}><table class="parameters beside" aria-labelledby=${id}>
      <thead><tr><th scope="col"><span class="hidden">Name</span></th>
        ${jobs.map((job, tone) => html`<th scope="col" key=${job.job_id}><${Swatch} tone=${tone} /> ${job.job_id}</th>`)}</tr></thead>
      <tbody>${rows.map(({ name, cells }) => html`<tr key=${name}><th scope="row">${name}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody>
    </table></div>
  </section>`;
}

show(Compare);
