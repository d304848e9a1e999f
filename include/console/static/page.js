// @ts-check
// The frame of every page: links to the other pages, the heading, and the first rendering.
/** @import { Children } from "./h.js" */
import { html, render, useEffect } from "./h.js";

const TABS = [
  ["jobs", "Training runs"],
  ["datasets", "Datasets"],
  ["models", "Models"],
  ["usage", "GPU hours"],
];

/** Whether Airflow shows this page as a tab of a run; users then reach the other pages through Airflow's menu. */
function isTabOfRun() {
  const framed = document.documentElement.classList.contains("framed");
  const fromMenu = () => /\/plugin\/(trainings|datasets)\b/.test(window.parent.location.pathname);
  return framed && location.pathname.endsWith("/run") && !fromMenu();
}

/**
 * The frame of a page. `heading` is its h1, `title` the browser tab's title; `actions` appear beside the heading.
 * @param {{
 *   tab: string, heading: string, title?: string, lead?: Children, actions?: Children, children?: Children,
 * }} props
 */
export function Page({ tab, heading, title = heading, lead, actions, children }) {
  useEffect(() => {
    document.title = title;
  }, [title]);
  return html`
    ${
      !isTabOfRun() &&
      html`<nav class="tabs" aria-label="Console">
      ${TABS.map(([page, name]) => html`<a href=${page} aria-current=${tab === page ? "page" : undefined}>${name}</a>`)}
    </nav>`
    }
    <main id="content" tabindex="-1">
      <header class="heading">
        <div><h1>${heading}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>
        ${actions && html`<div class="actions">${actions}</div>`}
      </header>
      ${children}
    </main>`;
}

/**
 * Render a page into the document.
 * @param {import("preact").ComponentType} component
 */
export function show(component) {
  render(html`<${component} />`, /** @type {HTMLElement} */ (document.getElementById("page")));
  // The Back button may restore a page from memory, where the button that the user pressed last is still disabled.
  window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
}

/** The query parameters in this page's URL. */
export const query = new URLSearchParams(location.search);
