// What surrounds every page: the way to the others, its heading, and its first appearance.
import { html, render, useEffect } from "./h.js";

const TABS = [
  ["jobs", "Trainings"],
  ["models", "Models"],
];

/** Whether Airflow shows this page as the tab of a run: the way to the other pages is in Airflow's menu then. */
function isTabOfRun() {
  const framed = document.documentElement.classList.contains("framed");
  return framed && location.pathname.endsWith("/run") && !window.parent.location.pathname.includes("/plugin/trainings");
}

/** The frame of a page. `heading` is its h1, `actions` stand beside it. */
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

/** Put a page into the document. */
export function show(component) {
  render(html`<${component} />`, document.getElementById("page"));
}

/** The values of the page's own query. */
export const query = new URLSearchParams(location.search);
