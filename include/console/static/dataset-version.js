// @ts-check
// One version of a dataset: its content, the check's warnings, samples, the jobs trained on it, and its changes.
/** @import { Problem } from "./api.js" */
import { html, useState } from "./h.js";
import { fetchJson, queryString, trainingUrl } from "./api.js";
import { ClassTable } from "./class-table.js";
import { Copy, JobLink, Note, Pending, ProblemNote, Status, When } from "./elements.js";
import { Difference } from "./difference.js";
import { formatBytes, formatCount } from "./format.js";
import { Gallery } from "./gallery.js";
import { usePolled } from "./live.js";
import { Page, query } from "./page.js";
import { VersionActions } from "./version-actions.js";

/** @typedef {Api.DatasetVersionResponse} Version */

/** @param {{ name: string, version: string }} props */
export function VersionView({ name, version: number }) {
  /** @type {(signal: AbortSignal) => Promise<Version>} */
  const load = (signal) => fetchJson(trainingUrl(["datasets", name, "versions", number]), { signal });
  const { data, problem, again } = usePolled(load, 60);
  const [refusal, report] = useState(/** @type {Problem | null} */ (null));
  const actions = data && html`<${VersionActions} version=${data} changed=${again} report=${report} />`;
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
