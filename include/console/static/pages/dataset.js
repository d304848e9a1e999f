// @ts-check
// One dataset: all its versions (?name=), a single version (&version=), or the check of a new one (&registration=).
/** @import { Problem } from "../api.js" */
import { html, useState } from "../h.js";
import { fetchJson, queryString, trainingUrl } from "../api.js";
import { Head, Note, Pending, ProblemNote, When } from "../elements.js";
import { useMayRegister } from "../session.js";
import { formatBytes, formatCount } from "../format.js";
import { usePolled } from "../live.js";
import { Page, query, show } from "../page.js";
import { Registration, versionPage } from "../registration.js";
import { UploadForm } from "../upload-form.js";
import { VersionView } from "../dataset-version.js";

const name = query.get("name") ?? "";
const version = query.get("version");
const registration = query.get("registration");
const before = query.get("before");
const COLUMNS = ["Version", "Images", "Size", "Registered", "Note", ""];
const NUMBERS = ["Images", "Size"];

function Dataset() {
  // During a check, the dataset may have no version yet, so versions are not requested.
  const [state, setState] = useState(
    /** @type {Api.DatasetRegistration["state"]} */ (registration ? "queued" : "registered"),
  );
  if (!name) {
    return html`<${Page} tab="datasets" heading="Dataset">
      <${Note} kind="warning">The URL contains no dataset name. <a href="datasets">Show all datasets</a></${Note}>
    </${Page}>`;
  }
  if (version) return html`<${VersionView} name=${name} version=${version} />`;
  return html`<${Page} tab="datasets" heading=${name} title=${`${name} – Dataset`}
    lead=${html`<a href="datasets">All datasets</a>`}>
    ${registration && html`<${Registration} name=${name} runId=${registration} report=${setState} />`}
    ${state === "registered" && html`<${Versions} />`}
    ${
      (state === "refused" || state === "failed") &&
      html`<${Uploaded} />
      <section class="section" aria-labelledby="new"><h2 id="new">Try again</h2>
      <${UploadForm} name=${name} task=${query.get("task") ?? undefined} /></section>`
    }
  </${Page}>`;
}

/** A button that deletes uploaded files that did not become a version. The server keeps files that are in use. */
function Uploaded() {
  const upload = query.get("upload");
  const [deleted, setDeleted] = useState(false);
  const [problem, report] = useState(/** @type {Problem | null} */ (null));
  if (!upload) return null;
  const remove = () =>
    fetchJson(trainingUrl(["uploads", upload]), { method: "DELETE" }).then(() => setDeleted(true), report);
  return html`<${ProblemNote} problem=${problem} />
    ${
      deleted
        ? html`<p class="muted" role="status">The uploaded files have been deleted.</p>`
        : html`<p><button type="button" class="button" onClick=${remove}>Delete the uploaded files</button></p>`
    }`;
}

function Versions() {
  const mayRegister = useMayRegister();
  /** @type {(signal: AbortSignal) => Promise<Api.DatasetVersionsPage>} */
  const load = (signal) => fetchJson(trainingUrl(["datasets", name], { before, limit: 50 }), { signal });
  const { data, problem, again } = usePolled(load, 15);
  const newest = data?.versions[0];
  return html`
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    ${data && html`<${Table} versions=${data.versions} isLastPage=${data.next === null} />`}
    ${
      data?.next &&
      html`<nav class="pager" aria-label="Pages"><span /><a class="button" rel="next"
      href=${`dataset${queryString({ name, before: data.next })}`}>Older</a></nav>`
    }
    ${
      mayRegister &&
      newest &&
      html`<section class="section" aria-labelledby="new"><h2 id="new">New version</h2>
      <p class="muted">Upload the whole dataset, not only the changes.</p>
      <${UploadForm} name=${name} task=${newest.task} /></section>`
    }`;
}

/** @param {{ versions: Api.DatasetSummary[], isLastPage: boolean }} props */
function Table({ versions, isLastPage }) {
  return html`<section aria-labelledby="versions"><h2 id="versions">Versions</h2>
    <div class="scroller" tabindex="0" role="group" aria-label="Table of versions">
      <table class="datasets" aria-labelledby="versions">
        <${Head} columns=${COLUMNS} numbers=${NUMBERS} />
        <tbody>${versions.map(
          (each, index) => html`<${Version} key=${each.version} of=${each} before=${versions[index + 1]}
          isFirst=${isLastPage && index === versions.length - 1} />`,
        )}</tbody>
      </table></div></section>`;
}

/**
 * @param {object} props
 * @param {Api.DatasetSummary} props.of
 * @param {Api.DatasetSummary} [props.before] the previous version, if it is on this page
 * @param {boolean} props.isFirst whether there is no previous version
 */
function Version({ of, before: earlier, isFirst }) {
  const page = versionPage(name, of.version);
  const compared = earlier ? `${page}&base=${earlier.version}` : page;
  return html`<tr>
    <th scope="row"><a href=${page}>Version ${of.version}</a>
      ${of.archived_at && html` <small class="muted">archived</small>`}</th>
    <td class="number">${formatCount(of.train_images)} + ${formatCount(of.val_images)}</td>
    <td class="number">${formatBytes(of.size)}</td>
    <td><${When} at=${of.created_at} />${of.created_by && html` <small class="muted">by ${of.created_by}</small>`}</td>
    <td class="reason">${of.note ?? "–"}</td>
    <td>${
      !isFirst &&
      html`<a href=${compared}>Differences from ${earlier ? `version ${earlier.version}` : "the previous version"}</a>`
    }</td>
  </tr>`;
}

show(Dataset);
