// @ts-check
// One training run: /job?id=
import { html } from "../h.js";
import { Note } from "../elements.js";
import { JobView } from "../job-view.js";
import { Page, query, show } from "../page.js";

const id = query.get("id");

function Job() {
  if (id) return html`<${JobView} jobId=${id} />`;
  return html`<${Page} tab="jobs" heading="Training run">
    <${Note} kind="warning">The URL contains no job ID. <a href="jobs">Show all training runs</a></${Note}>
  </${Page}>`;
}

show(Job);
