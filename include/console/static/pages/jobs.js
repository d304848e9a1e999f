// Trainings: all of them, the newest first, live.
import { html, useEffect, useMemo, useRef, useState } from "../h.js";
import { ask, queryOf, training } from "../api.js";
import { Announce, Refused, useMayStart } from "../elements.js";
import { count } from "../format.js";
import { usePolled } from "../live.js";
import { Page, query, show } from "../page.js";
import { Filters, FILTERS, queryFor } from "../filters.js";
import { JobRow, COLUMNS } from "../job-row.js";
import { NothingYet } from "../nothing-yet.js";

const COMPARED = { least: 2, most: 6 };
const asked = Object.fromEntries(
  [...FILTERS, "cursor", "dag_id", "run_id"].map((name) => [name, query.get(name) ?? ""]),
);
const filtered = [...FILTERS, "dag_id", "run_id"].some((name) => asked[name]);

function Jobs() {
  const load = (signal) => ask(training(["jobs"], { ...queryFor(asked), limit: 25 }), { signal });
  const { data, problem, again } = usePolled(load, 3);
  const mayStart = useMayStart();
  const start = mayStart && html`<a class="button primary" href="start">Start a training</a>`;
  const jobs = data?.jobs ?? [];
  return html`<${Page} tab="jobs" heading="Trainings" lead=${data && total(data)} actions=${start}>
    <${Filters} asked=${asked} jobs=${jobs} filtered=${filtered} />
    <${Refused} problem=${problem} again=${again} />
    <${Announce} text=${useChanges(jobs)} />
    ${!data && !problem && html`<div class="loading" role="status">Loading…</div>`}
    ${data && (jobs.length ? html`<${Table} jobs=${jobs} />` : html`<${NothingYet} filtered=${filtered} mayStart=${mayStart} />`)}
    ${data && html`<${Pager} next=${data.next} />`}
  </${Page}>`;
}

function total({ total: all, total_is_estimate: estimated }) {
  const few = all === 1 ? "1 training" : `${count(all)} trainings`;
  return `${estimated ? "about " : ""}${few}${filtered ? " found" : ""}`;
}

function Table({ jobs }) {
  const [chosen, setChosen] = useState([]);
  const choose = (id, is) => setChosen((before) => (is ? [...before, id] : before.filter((each) => each !== id)));
  const enough = chosen.length >= COMPARED.least && chosen.length <= COMPARED.most;
  return html`
    <form id="comparison" class="comparison" action="compare" method="get">
      <button class="button" disabled=${!enough} aria-describedby="comparison-rule">Compare</button>
      <span id="comparison-rule" class="muted">${rule(chosen.length)}</span>
    </form>
    <div class="scroller">
      <table class="jobs" role="table" aria-label="Trainings">
        <thead role="rowgroup"><tr role="row">
          ${COLUMNS.map(([name, shown]) => html`<th role="columnheader" scope="col" key=${name}>${shown ?? name}</th>`)}
        </tr></thead>
        <tbody role="rowgroup">
          ${jobs.map((job) => html`<${JobRow} key=${job.job_id} job=${job} chosen=${chosen.includes(job.job_id)} choose=${choose} />`)}
        </tbody>
      </table>
    </div>`;
}

function rule(number) {
  if (number < COMPARED.least) return "Choose two to six trainings to compare them.";
  return number > COMPARED.most ? `${number} chosen: at most six can be compared.` : `${number} chosen`;
}

/** The pages before are remembered in the address: a page's own cursor only leads forward. */
function Pager({ next }) {
  const { cursor, ...filters } = asked;
  const trail = query.getAll("trail");
  const older = next && queryOf({ ...filters, cursor: next, trail: [...trail, cursor || "first"].slice(-20) });
  const back = trail.at(-1);
  const newer = cursor && queryOf({ ...filters, cursor: back === "first" ? "" : back, trail: trail.slice(0, -1) });
  if (!older && !cursor) return null;
  return html`<nav class="pager" aria-label="Pages">
    ${cursor ? html`<a class="button" rel="prev" href=${`jobs${newer}`}>Newer</a>` : html`<span />`}
    ${older && html`<a class="button" rel="next" href=${`jobs${older}`}>Older</a>`}
  </nav>`;
}

/** What became of the jobs since the last look, as a sentence. */
function useChanges(jobs) {
  const before = useRef(new Map());
  const [said, setSaid] = useState("");
  const states = useMemo(() => jobs.map(({ job_id: id, status }) => `${id} ${status}`).join("\n"), [jobs]);
  useEffect(() => {
    const changed = jobs.filter(
      ({ job_id: id, status }) => before.current.has(id) && before.current.get(id) !== status,
    );
    if (changed.length) setSaid(changed.map((job) => `${job.job_id} is ${job.status}`).join(", "));
    before.current = new Map(jobs.map(({ job_id: id, status }) => [id, status]));
  }, [states]);
  return said;
}

show(Jobs);
