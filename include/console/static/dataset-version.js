// @ts-check
// One version of a dataset: its content, the check's warnings, samples, the jobs trained on it, its changes, and the
// actions on it.
/** @import { Problem } from "./api.js" */
import { html, useState } from "./h.js";
import { fetchJson, queryString, trainingUrl } from "./api.js";
import { ClassTable } from "./class-table.js";
import { useDeletion } from "./deletion.js";
import { Copy, JobLink, Note, Pending, ProblemNote, Status, useAction, When } from "./elements.js";
import { Difference } from "./difference.js";
import { formatBytes, formatCount } from "./format.js";
import { Gallery } from "./gallery.js";
import { usePolled } from "./live.js";
import { explainNotYourVersion } from "./ownership.js";
import { Page, query } from "./page.js";
import { useSession } from "./session.js";

/** @typedef {Api.DatasetVersionResponse} Version */

/** @param {{ name: string, version: string }} props */
export function VersionView({ name, version: number }) {
  /** @type {(signal: AbortSignal) => Promise<Version>} */
  const load = (signal) => fetchJson(trainingUrl(["datasets", name, "versions", number]), { signal });
  const { data, problem, again } = usePolled(load, 60);
  const [refusal, report] = useState(/** @type {Problem | null} */ (null));
  const actions = data && html`<${Actions} version=${data} changed=${again} report=${report} />`;
  const lead = html`<a href=${`dataset${queryString({ name })}`}>All versions of ${name}</a>`;
  return html`<${Page} tab="datasets" heading=${`${name} version ${number}`} title=${`${name}@${number} – Dataset`}
    lead=${lead} actions=${actions}>
    <${ProblemNote} problem=${refusal} />
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    ${
      data &&
      html`
      ${
        data.archived_at &&
        html`<${Note} title="Archived">Archived <${When} at=${data.archived_at} />. Training runs that specify${" "}
        <code>${name}</code> without a version skip this version; nothing has been deleted.</${Note}>`
      }
      <${Facts} version=${data} />
      <${Warnings} version=${data} />
      <${Difference} name=${name} version=${data.version} base=${query.get("base")} />
      ${data.class_table?.length ? html`<${ClassTable} table=${data.class_table} task=${data.task} />` : null}
      <${Samples} version=${data} />
      <${Jobs} jobs=${data.jobs} />`
    }
  </${Page}>`;
}

/** @param {{ version: Version }} props */
function Facts({ version: of }) {
  const parameter = `${of.name}@${of.version}`;
  /** @type {Array<[string, unknown]>} */
  const facts = [
    ["Task", of.task],
    ["Training images", html`<span class="number">${formatCount(of.train_images)}</span>`],
    ["Validation images", html`<span class="number">${formatCount(of.val_images)}</span>`],
    ["Size", html`<span class="number">${formatBytes(of.size)}</span>`],
    ["Registered", html`<${When} at=${of.created_at} />`],
    ["Registered by", of.created_by ?? "–"],
    ["Content", html`<code title=${of.fingerprint}>${of.fingerprint.slice(0, 12)}…</code>`],
  ];
  return html`<div class="card"><dl class="facts">
      ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
    ${of.note && html`<p class="source">${of.note}</p>`}
    <p class="muted source">Parameter <code>dataset</code>: <code>${parameter}</code>${" "}
      <${Copy} text=${parameter} name="Copy the value of dataset">Copy</${Copy}></p>
    <p class="muted source">Source: <code>${of.source}</code></p>
    ${of.origin && html`<p class="muted source">Converted from <code>${of.origin}</code></p>`}
  </div>`;
}

/** @param {{ version: Version }} props */
function Warnings({ version: { warnings } }) {
  if (!warnings?.length) return null;
  return html`<section class="section" aria-labelledby="warnings"><h2 id="warnings">Warnings</h2>
    <ul class="findings">${warnings.map(
      ({ kind, title, remedy, count }) => html`<li key=${kind}>${capitalized(title)}${" "}
      <span class="number">(${formatCount(count)})</span>: <span class="muted">${remedy}</span></li>`,
    )}</ul></section>`;
}

/** @param {string} text */
function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {{ version: Version }} props */
function Samples({ version: { name, version } }) {
  const path = ["datasets", name, "versions", String(version), "samples"];
  /** @type {(signal: AbortSignal) => Promise<Api.Samples>} */
  const load = (signal) => fetchJson(trainingUrl(path), { signal });
  const { data } = usePolled(load, null);
  if (!data?.samples.length) return null;
  const pictures = data.samples.map((sample) => ({
    url: trainingUrl([...path, sample.name]),
    caption: `${sample.split}/${sample.image}`,
    about: "",
  }));
  return html`<section class="section" aria-labelledby="samples"><h2 id="samples">Samples with their labels</h2>
    <${Gallery} pictures=${pictures} /></section>`;
}

/** @param {{ jobs: Version["jobs"] }} props */
function Jobs({ jobs }) {
  return html`<section class="section" aria-labelledby="jobs"><h2 id="jobs">Training runs on this version</h2>
    ${
      jobs.length
        ? html`<ul class="compared">${jobs.map(
            ({ job_id: id, status }) => html`<li key=${id} class="card">
            <${JobLink} id=${id} /> <${Status} of=${status} /></li>`,
          )}</ul>`
        : html`<p class="muted">None yet.</p>`
    }
  </section>`;
}

/**
 * @typedef {object} ActionProps
 * @property {Version} version
 * @property {() => void} changed loads the version again
 * @property {(problem: Problem | null) => void} report shows why an action failed; null if it succeeded
 */

/** Id of the sentence that says why a version cannot be deleted. */
const REASON = "not-your-version";

/**
 * The actions on the version. Viewers do not see the buttons, and the server would refuse their requests.
 * @param {ActionProps} props
 */
function Actions({ version, changed, report }) {
  const { name, version: number, task } = version;
  const start = `start${queryString({ dataset: `${name}@${number}`, task })}`;
  const session = useSession();
  if (!session) return null;
  const reason = explainNotYourVersion(session, version);
  return html`
    ${session.may_start && html`<a class="button primary" href=${start}>Train on this version</a>`}
    ${
      session.may_register &&
      html`<a class="button" href=${`dataset${queryString({ name })}#new`}>New version</a>
        <${Archive} version=${version} changed=${changed} report=${report} />
        ${
          reason === null
            ? html`<${Delete} version=${version} report=${report} />`
            : html`<button type="button" class="button quiet" disabled aria-describedby=${REASON} title=${reason}>
                Delete</button>
              <p class="muted" id=${REASON}>${reason}</p>`
        }`
    }`;
}

/** @param {ActionProps} props */
function Archive({ version, changed, report }) {
  const { busy, act } = useAction(report);
  const archived = version.archived_at !== null;
  const action = archived ? "restore" : "archive";
  const url = trainingUrl(["datasets", version.name, "versions", String(version.version), action]);
  const change = () => act(() => fetchJson(url, { method: "POST" }).then(changed));
  const title = archived
    ? "Training runs that specify the dataset without a version may use this version again"
    : "Training runs that specify the dataset without a version skip this version; nothing is deleted";
  return html`<button type="button" class="button quiet" disabled=${busy} onClick=${change} title=${title}>
    ${archived ? "Restore" : "Archive"}</button>`;
}

/**
 * A button that asks before it deletes the version, because a deletion cannot be undone.
 * @param {Omit<ActionProps, "changed">} props
 */
function Delete({ version: { name, version }, report }) {
  const url = trainingUrl(["datasets", name, "versions", String(version)]);
  const { step, setStep, remove } = useDeletion(url, `dataset${queryString({ name })}`, report);
  if (step === "closed") {
    return html`<button type="button" class="button quiet" onClick=${() => setStep("first")}>Delete</button>`;
  }
  const deleting = step === "deleting";
  return html`<span class="confirm" role="group" aria-label="Delete this version">
    <span>This deletes version ${version} and the uploaded files that nothing else uses. This cannot be undone.</span>
    <button type="button" class="button danger" disabled=${deleting} onClick=${remove}>
      ${deleting ? "Deleting…" : "Delete permanently"}</button>
    <button type="button" class="button quiet" disabled=${deleting} onClick=${() => setStep("closed")}>Keep it</button>
  </span>`;
}
