// @ts-check
// The filters of the job list: a plain form, so that the page's URL contains the filters and can be shared.
import { html } from "./h.js";

export const FILTERS = ["prefix", "status", "dataset", "model", "archived"];
/**
 * Values of the filter for archived jobs. By default, archived jobs are not listed.
 * @type {Record<string, string>}
 */
const ARCHIVE = { "": "Not archived", true: "Archived", any: "All" };
/** @type {Api.JobStatus[]} */
const STATES = ["queued", "running", "completed", "failed", "stopped"];

/**
 * @param {object} props
 * @param {Record<string, string>} props.requested values of the filters
 * @param {Api.TrainingJobResponse[]} props.jobs whose datasets and models are suggested
 * @param {boolean} props.filtered whether any filter is set
 */
export function Filters({ requested, jobs, filtered }) {
  const archives = Object.entries(ARCHIVE);
  return html`<form class="filters" action="jobs" method="get" role="search" aria-label="Training runs"
    onformdata=${leaveOutEmpty}>
    <${Field} name="prefix" label="Job ID starts with" value=${requested.prefix} type="search" />
    <label class="field"><span>Status</span>
      <select name="status">
        <option value="" selected=${!requested.status}>Any</option>
        ${STATES.map((state) => html`<option value=${state} selected=${requested.status === state}>${state}</option>`)}
      </select>
    </label>
    <${Field} name="dataset" label="Dataset" value=${requested.dataset} known=${jobs.map((job) => job.dataset)} />
    <${Field} name="model" label="Model" value=${requested.model} known=${jobs.map((job) => job.model)} />
    <label class="field"><span>Archive</span>
      <select name="archived">
        ${archives.map(
          ([value, label]) => html`<option value=${value} selected=${requested.archived === value}>${label}</option>`,
        )}
      </select>
    </label>
    <div class="buttons">
      <button class="button">Filter</button>
      ${filtered && html`<a class="button quiet" href="jobs">Clear filters</a>`}
    </div>
  </form>`;
}

/**
 * @param {{ name: string, label: string, value: string, known?: Array<string | null>, type?: string }} props
 */
function Field({ name, label, value, known = [], type = "text" }) {
  const texts = [...new Set(known.filter(Boolean))];
  const list = texts.length ? `known-${name}` : undefined;
  return html`<label class="field"><span>${label}</span>
    <input type=${type} name=${name} defaultValue=${value} autocomplete="off" spellcheck=${false} autocapitalize="off"
      list=${list} />
    ${list && html`<datalist id=${list}>${texts.map((each) => html`<option value=${each} />`)}</datalist>`}
  </label>`;
}

/**
 * The API's query for these filters. Without `archived`, the API lists all jobs, archived or not.
 * @param {Record<string, string>} filters
 * @returns {Record<string, string>}
 */
export function apiQuery({ archived, ...others }) {
  return { ...others, archived: archived === "any" ? "" : archived || "false" };
}

/** @param {FormDataEvent} event */
function leaveOutEmpty(event) {
  for (const name of FILTERS) if (!event.formData.get(name)) event.formData.delete(name);
}
