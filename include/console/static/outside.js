// Airflow's own pages. The frame may not navigate the window around it, but a link that belongs to that window's
// document may be followed: it is Airflow's own.
import { html } from "./h.js";

/** The page of a run in Airflow's UI. */
export function runPage(dagId, runId) {
  return `../../dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
}

/** The page of one task of a run. */
export function taskPage(dagId, runId, taskId) {
  return `${runPage(dagId, runId)}/tasks/${encodeURIComponent(taskId)}`;
}

/** The page where one logs in. */
export const LOGIN = "../../auth/login";

/** A link to a page of Airflow; within Airflow's frame it opens in the window around it. */
export function AirflowLink({ href, children, ...rest }) {
  return html`<a href=${new URL(href, location.href)} onClick=${follow} ...${rest}>${children}</a>`;
}

function follow(event) {
  if (!document.documentElement.classList.contains("framed") || event.ctrlKey || event.metaKey || event.shiftKey)
    return;
  event.preventDefault();
  const link = window.parent.document.createElement("a");
  link.href = event.currentTarget.href;
  link.click();
}
