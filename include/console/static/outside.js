// @ts-check
// Links to Airflow's own pages. Airflow may show the console in a frame that is not allowed to navigate Airflow's
// window. Therefore the link is created and clicked in the document of Airflow's window.
/** @import { Children } from "./h.js" */
import { html } from "./h.js";

/**
 * The URL of a run's page in Airflow's UI.
 * @param {string} dagId
 * @param {string} runId
 */
export function runPage(dagId, runId) {
  return `../../dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
}

/**
 * The URL of a task's page in Airflow's UI.
 * @param {string} dagId
 * @param {string} runId
 * @param {string} taskId
 */
export function taskPage(dagId, runId, taskId) {
  return `${runPage(dagId, runId)}/tasks/${encodeURIComponent(taskId)}`;
}

/** The URL of Airflow's login page. */
export const LOGIN = "../../auth/login";

/**
 * A link to a page of Airflow. If Airflow shows the console in a frame, the link opens in Airflow's window.
 * @param {{ href: string, children?: Children } & Record<string, unknown>} props
 */
export function AirflowLink({ href, children, ...rest }) {
  return html`<a href=${new URL(href, location.href)} onClick=${follow} ...${rest}>${children}</a>`;
}

/** @param {MouseEvent & { currentTarget: HTMLAnchorElement }} event */
function follow(event) {
  const framed = document.documentElement.classList.contains("framed");
  if (!framed || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const link = window.parent.document.createElement("a");
  link.href = event.currentTarget.href;
  link.click();
}
