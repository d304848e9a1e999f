// The filters of the list: a plain form, so that they are in the address and a link to them works.
import { html } from "./h.js";

export const FILTERS = ["prefix", "status", "dataset", "model", "archived"];
/** Which jobs are listed: those of the archive are not, unless they are asked for. */
const ARCHIVE = { "": "Not archived", true: "Archived", any: "All" };
const STATES = ["queued", "running", "completed", "failed", "stopped"];

export function Filters({ asked, jobs, filtered }) {
  return html`<form class="filters" action="jobs" method="get" role="search" aria-label="Trainings" onformdata=${leaveOutEmpty}>
    <${Field} name="prefix" label="Job id starts with" value=${asked.prefix} type="search" />
    <label class="field"><span>Status</span>
      <select name="status">
        <option value="" selected=${!asked.status}>Any</option>
        ${STATES.map((state) => html`<option value=${state} selected=${asked.status === state}>${state}</option>`)}
      </select>
    </label>
    <${Field} name="dataset" label="Data set" value=${asked.dataset} known=${jobs.map((job) => job.dataset)} />
    <${Field} name="model" label="Model" value=${asked.model} known=${jobs.map((job) => job.model)} />
    <label class="field"><span>Archive</span>
      <select name="archived">
        ${Object.entries(ARCHIVE).map(([value, shown]) => html`<option value=${value} selected=${asked.archived === value}>${shown}</option>`)}
      </select>
    </label>
    <div class="buttons">
      <button class="button">Filter</button>
      ${filtered && html`<a class="button quiet" href="jobs">Clear</a>`}
    </div>
  </form>`;
}

function Field({ name, label, value, known = [], type = "text" }) {
  const list = [...new Set(known.filter(Boolean))];
  return html`<label class="field"><span>${label}</span>
    <input type=${type} name=${name} defaultValue=${value} autocomplete="off" spellcheck=${false} autocapitalize="off"
      list=${list.length ? `known-${name}` : undefined} />
    ${list.length > 0 && html`<datalist id=${`known-${name}`}>${list.map((each) => html`<option value=${each} />`)}</datalist>`}
  </label>`;
}

/** What the API is asked for: it lists all jobs where it is not told which. */
export function queryFor({ archived, ...others }) {
  return { ...others, archived: archived === "any" ? "" : archived || "false" };
}

function leaveOutEmpty(event) {
  for (const name of FILTERS) if (!event.formData.get(name)) event.formData.delete(name);
}
