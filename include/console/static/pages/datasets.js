// @ts-check
// Registered datasets, and a form that uploads a new one.
import { html } from "../h.js";
import { fetchJson, queryString, trainingUrl } from "../api.js";
import { Head, Pending, When } from "../elements.js";
import { useMayRegister } from "../session.js";
import { formatBytes, formatCount } from "../format.js";
import { usePolled } from "../live.js";
import { Page, query, show } from "../page.js";
import { UploadForm } from "../upload-form.js";

const cursor = query.get("cursor");
const prefix = query.get("prefix") ?? "";
const archived = query.get("archived") ?? "";
const COLUMNS = ["Name", "Versions", "Task", "Images", "Size", "Newest version"];
const NUMBERS = ["Versions", "Images", "Size"];

/** @type {(signal: AbortSignal) => Promise<Api.DatasetsPage>} */
const load = (signal) =>
  fetchJson(trainingUrl(["datasets"], { prefix, archived: archived || "false", cursor, limit: 50 }), { signal });

function Datasets() {
  const mayRegister = useMayRegister();
  const { data, problem, again } = usePolled(load, 30);
  const lead = "Every version was checked when it was registered, and never changes.";
  return html`<${Page} tab="datasets" heading="Datasets" lead=${lead}>
    <${Filters} />
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    ${data?.datasets.length === 0 && html`<${Nothing} mayRegister=${mayRegister} />`}
    ${data && data.datasets.length > 0 && html`<${Table} datasets=${data.datasets} />`}
    ${data && html`<${Pager} next=${data.next} />`}
    ${
      mayRegister &&
      html`<section class="section" aria-labelledby="new"><h2 id="new">New dataset</h2>
      <p class="muted">Upload a .zip or a folder in the layout that <code>yolo train</code> accepts, or an .ndjson
        export. The files go straight to S3, are checked, and become the next version of the dataset that you name.</p>
      <${UploadForm} /></section>`
    }
  </${Page}>`;
}

function Filters() {
  const filtered = prefix || archived;
  return html`<form class="filters" action="datasets" method="get" role="search" aria-label="Datasets">
    <label class="field"><span>Name starts with</span><input type="search" name="prefix" defaultValue=${prefix}
      autocomplete="off" spellcheck=${false} autocapitalize="off" /></label>
    <label class="field"><span>Archive</span><select name="archived">
      <option value="" selected=${!archived}>Not archived</option>
      <option value="true" selected=${archived === "true"}>Archived</option>
    </select></label>
    <div class="buttons"><button class="button">Filter</button>
      ${filtered && html`<a class="button quiet" href="datasets">Clear filters</a>`}</div>
  </form>`;
}

/** @param {{ mayRegister: boolean | null }} props */
function Nothing({ mayRegister }) {
  if (cursor) return html`<div class="empty"><h2>There are no more datasets</h2></div>`;
  if (prefix || archived) {
    return html`<div class="empty"><h2>No dataset matches</h2>
      <p><a href="datasets">Show all datasets</a></p></div>`;
  }
  return html`<div class="empty"><h2>No datasets</h2>
    <p>Archived datasets are not listed. <a href="datasets?archived=true">Show them</a></p>
    <p>${
      mayRegister
        ? "Upload one below. A training run can also use unregistered data in S3."
        : "Someone with permission to register datasets can upload one here."
    }</p></div>`;
}

/** @param {{ datasets: Api.Dataset[] }} props */
function Table({ datasets }) {
  return html`<div class="scroller" tabindex="0" role="group" aria-label="Table of datasets">
    <table class="datasets" aria-label="Datasets">
      <${Head} columns=${COLUMNS} numbers=${NUMBERS} />
      <tbody>${datasets.map((entry) => html`<${Entry} key=${entry.newest.name} entry=${entry} />`)}</tbody>
    </table></div>`;
}

/** @param {{ entry: Api.Dataset }} props */
function Entry({ entry: { newest, versions } }) {
  return html`<tr>
    <th scope="row" class="name"><a href=${`dataset?name=${encodeURIComponent(newest.name)}`}>${newest.name}</a>
      ${newest.archived_at && html` <small class="muted">archived</small>`}</th>
    <td class="number">${versions}</td>
    <td>${newest.task}</td>
    <td class="number">${formatCount(newest.train_images)} + ${formatCount(newest.val_images)}</td>
    <td class="number">${formatBytes(newest.size)}</td>
    <td>version ${newest.version}, <${When} at=${newest.created_at} />
      ${newest.created_by && html` <small class="muted">by ${newest.created_by}</small>`}</td>
  </tr>`;
}

/** @param {{ next: string | null }} props */
function Pager({ next }) {
  if (!next && !cursor) return null;
  const page = (/** @type {string} */ position) => `datasets${queryString({ prefix, archived, cursor: position })}`;
  return html`<nav class="pager" aria-label="Pages">
    ${cursor ? html`<a class="button" href=${page("")}>First page</a>` : html`<span />`}
    ${next && html`<a class="button" rel="next" href=${page(next)}>More</a>`}
  </nav>`;
}

show(Datasets);
