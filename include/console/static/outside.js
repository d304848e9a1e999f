// @ts-check
// Links to Airflow's own pages. This frame must not navigate the window around it, but that window's own document may:
// the link is created and followed there.
/** @import { Children } from "./h.js" */
import { html } from "./h.js";

/**
 * The page of a run in Airflow's UI.
 * @param {string} dagId
 * @param {string} runId
 */
export function runPage(dagId, runId) {
  return `../../dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
}

/**
 * The page of one task of a run.
 * @param {string} dagId
 * @param {string} runId
 * @param {string} taskId
 */
export function taskPage(dagId, runId, taskId) {
  return `${runPage(dagId, runId)}/tasks/${encodeURIComponent(taskId)}`;
}

/** Airflow's login page. */
export const LOGIN = "../../auth/login";

/**
 * A link to a page of Airflow. Inside Airflow's frame it opens in the window around it.
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
