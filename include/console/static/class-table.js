// @ts-check
// How often each class occurs in a dataset.
import { html, useState } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { formatCount } from "./format.js";
import { isActive, usePolled } from "./live.js";

const SHOWN = 30;

/**
 * What the table counts, by task. For tasks that are not listed here, the table counts instances.
 * @type {Record<string, string>}
 */
const COUNTED = { classify: "Images", semantic: "Images that contain the class" };

/**
 * The classes of the dataset that a job trains on, shown once the dataset has been checked.
 * @param {{ job: Api.TrainingJobResponse }} props
 */
export function JobClasses({ job }) {
  /** @type {(signal: AbortSignal) => Promise<Api.ClassTable>} */
  const load = (signal) => fetchJson(trainingUrl(["jobs", job.job_id, "class-table"]), { signal });
  const { data } = usePolled(load, ({ classes }) => (classes === null && isActive(job) ? 5 : null));
  if (!data?.classes?.length) return null;
  const report = trainingUrl(["jobs", job.job_id, "dataset-report"]);
  return html`<div><${ClassTable} table=${data.classes} task=${job.task} />
    ${
      job.links.dataset_report &&
      html`<p><a download=${`${job.job_id}-dataset.json`} href=${report}>
        Download the dataset report</a>, which lists all warnings</p>`
    }</div>`;
}

/** @param {{ table: Api.ClassCount[], task: string | null }} props */
export function ClassTable({ table, task }) {
  const [all, setAll] = useState(false);
  const shown = all ? table : table.slice(0, SHOWN);
  const counted = COUNTED[task ?? ""] ?? "Instances";
  const most = Math.max(1, ...table.map(({ train }) => train));
  return html`<section class="section" aria-labelledby="classes"><h2 id="classes">Classes</h2>
    <p class="muted">${counted} in each split.</p>
    <div class="scroller" tabindex="0" role="group" aria-label="Table of classes">
      <table class="classes" aria-labelledby="classes">
        <thead><tr><th scope="col">Class</th><th scope="col" class="number">train</th>
          <th scope="col" class="number">val</th><th scope="col"><span class="hidden">Share</span></th></tr></thead>
        <tbody>${shown.map(
          ({ name, train, val }, index) => html`<tr key=${index}><th scope="row">${name}</th>
          <td class="number">${formatCount(train)}</td>
          <td class="number ${val ? "" : "lacking"}" title=${val ? undefined : "Not in val, so not validated"}>
            ${formatCount(val)}</td>
          <td class="share"><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
            <rect width=${(train / most) * 100} height="8" /></svg></td></tr>`,
        )}</tbody>
      </table></div>
    ${
      table.length > SHOWN &&
      html`<p><button type="button" class="button small" onClick=${() => setAll(!all)}>
        ${all ? "Show fewer" : `Show all ${formatCount(table.length)} classes`}</button></p>`
    }
  </section>`;
}
