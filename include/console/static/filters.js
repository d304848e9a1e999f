// The filters of the list: a plain form, so that they are in the address and a link to them works.
import { html } from "./h.js";

export const FILTERS = ["prefix", "status", "dataset", "model"];
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

function leaveOutEmpty(event) {
  for (const name of FILTERS) if (!event.formData.get(name)) event.formData.delete(name);
}
