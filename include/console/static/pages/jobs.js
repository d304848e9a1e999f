// @ts-check
// The list of training runs, the newest first, refreshed every three seconds.
import { html, useEffect, useMemo, useRef, useState } from "../h.js";
import { fetchJson, queryString, trainingUrl } from "../api.js";
import { Announce, Pending } from "../elements.js";
import { useMayStart } from "../session.js";
import { formatCount } from "../format.js";
import { usePolled } from "../live.js";
import { Page, query, show } from "../page.js";
import { apiQuery, Filters, FILTERS } from "../filters.js";
import { JobRow, COLUMNS } from "../job-row.js";
import { requestOf } from "../yolo-command.js";

/** @typedef {Api.TrainingJobResponse} Job */

const COMPARED = { least: 2, most: 6 };
const requested = Object.fromEntries(
  [...FILTERS, "cursor", "dag_id", "run_id"].map((name) => [name, query.get(name) ?? ""]),
);
const filtered = [...FILTERS, "dag_id", "run_id"].some((name) => requested[name]);

/** @type {(signal: AbortSignal) => Promise<Api.JobsPage>} */
const load = (signal) => fetchJson(trainingUrl(["jobs"], { ...apiQuery(requested), limit: 25 }), { signal });

function Jobs() {
  const { data, problem, again } = usePolled(load, 3);
  const mayStart = useMayStart();
  const start = mayStart && html`<a class="button primary" href="start">Start a training run</a>`;
  const jobs = data?.jobs ?? [];
  const nothing = html`<${NothingYet} mayStart=${mayStart} />`;
  return html`<${Page} tab="jobs" heading="Training runs" lead=${data && total(data)} actions=${start}>
    <${Filters} requested=${requested} jobs=${jobs} filtered=${filtered} />
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    <${Announce} text=${useChanges(jobs)} />
    ${data && (jobs.length ? html`<${Table} jobs=${jobs} />` : nothing)}
    ${data && html`<${Pager} next=${data.next} />`}
  </${Page}>`;
}

/** @param {Api.JobsPage} page */
function total({ total: all, total_is_estimate: estimated }) {
  const counted = all === 1 ? "1 training run" : `${formatCount(all)} training runs`;
  return `${estimated ? "about " : ""}${counted}${filtered ? " found" : ""}`;
}

/** @param {{ jobs: Job[] }} props */
function Table({ jobs }) {
  const [chosen, setChosen] = useState(/** @type {string[]} */ ([]));
  const choose = (/** @type {string} */ id, /** @type {boolean} */ isChosen) =>
    setChosen((before) => (isChosen ? [...before, id] : before.filter((each) => each !== id)));
  // A new training run may move a chosen one to the next page; only those that are listed are sent and counted.
  const listed = jobs.filter(({ job_id: id }) => chosen.includes(id)).length;
  const enough = listed >= COMPARED.least && listed <= COMPARED.most;
  const heads = COLUMNS.map(
    ([name, shown]) => html`<th role="columnheader" scope="col" key=${name}>${shown ?? name}</th>`,
  );
  return html`
    <form id="comparison" class="comparison" action="compare" method="get">
      <button class="button" disabled=${!enough} aria-describedby="comparison-rule">Compare</button>
      <span id="comparison-rule" class="muted">${rule(listed)}</span>
    </form>
    <div class="scroller">
      <table class="jobs" role="table" aria-label="Training runs">
        <thead role="rowgroup"><tr role="row">${heads}</tr></thead>
        <tbody role="rowgroup">
          ${jobs.map(
            (job) => html`<${JobRow} key=${job.job_id} job=${job} chosen=${chosen.includes(job.job_id)}
            choose=${choose} />`,
          )}
        </tbody>
      </table>
    </div>`;
}

/** @param {number} chosen */
function rule(chosen) {
  if (chosen < COMPARED.least) return "Select two to six training runs to compare.";
  return chosen > COMPARED.most ? `${chosen} selected; at most six can be compared.` : `${chosen} selected`;
}

/**
 * Links to the previous and the next page. A cursor only points forward, so the URL keeps the cursors of earlier pages.
 * @param {{ next: string | null }} props
 */
function Pager({ next }) {
  const { cursor, ...filters } = requested;
  const trail = query.getAll("trail");
  const older = next && queryString({ ...filters, cursor: next, trail: [...trail, cursor || "first"].slice(-20) });
  const back = trail.at(-1);
  const newer = cursor && queryString({ ...filters, cursor: back === "first" ? "" : back, trail: trail.slice(0, -1) });
  if (!older && !cursor) return null;
  return html`<nav class="pager" aria-label="Pages">
    ${cursor ? html`<a class="button" rel="prev" href=${`jobs${newer}`}>Newer</a>` : html`<span />`}
    ${older && html`<a class="button" rel="next" href=${`jobs${older}`}>Older</a>`}
  </nav>`;
}

/**
 * Status changes since the last response, as a sentence.
 * @param {Job[]} jobs
 */
function useChanges(jobs) {
  const before = useRef(/** @type {Map<string, string | null>} */ (new Map()));
  const [changes, setChanges] = useState("");
  const states = useMemo(() => jobs.map(({ job_id: id, status }) => `${id} ${status}`).join("\n"), [jobs]);
  useEffect(() => {
    const known = before.current;
    const changed = jobs.filter(({ job_id: id, status }) => known.has(id) && known.get(id) !== status);
    if (changed.length) setChanges(changed.map((job) => `${job.job_id} is ${job.status}`).join(", "));
    before.current = new Map(jobs.map(({ job_id: id, status }) => [id, status]));
  }, [states]);
  return changes;
}

/**
 * Shown instead of an empty list: how to start a training run, or that none matches the filters.
 * @param {{ mayStart: boolean | null }} props
 */
function NothingYet({ mayStart }) {
  if (requested.cursor) return html`<div class="empty"><h2>There are no older training runs</h2></div>`;
  if (filtered) {
    return html`<div class="empty"><h2>No training run matches</h2>
      <p>Dataset and model must match exactly; the job ID may be a prefix. The filter Archive decides whether archived
        training runs are listed.${" "}
        <a href="jobs">Show all training runs</a></p></div>`;
  }
  return html`<div class="empty"><h2>No training runs</h2>
    <p>Archived training runs are not listed. <a href="jobs?archived=any">Show them, too</a></p>
    ${
      mayStart
        ? html`<p>Every parameter is optional. Without any, a small model is trained on the bundled handwritten
            digits.</p>
          <p><a class="button primary" href="start">Start a training run</a></p>
          <p class="muted">Or through Airflow’s REST API:</p>`
        : html`<p>You can view training runs but not start them. Someone with permission can start one here or through
            Airflow’s REST API:</p>`
    }
    <pre tabindex="0"><code>${requestOf({ dataset: "digits", epochs: 5, imgsz: 64 })}</code></pre>
  </div>`;
}

show(Jobs);
