// @ts-check
// Shown instead of an empty list: explains how to start a training run, or says that no run matches the filters.
import { html } from "./h.js";
import { requestOf } from "./yolo-command.js";

/** @param {{ filtered: boolean, mayStart: boolean | null }} props */
export function NothingYet({ filtered, mayStart }) {
  if (filtered) {
    return html`<div class="empty"><h2>No training run matches</h2>
      <p>Dataset and model must match exactly; the job ID may be a prefix.${" "}
        <a href="jobs">Show all training runs</a></p></div>`;
  }
  return html`<div class="empty"><h2>No training runs yet</h2>
    ${
      mayStart
        ? html`<p>Every parameter is optional. Without any, a small model is trained on the bundled handwritten
            digits.</p>
          <p><a class="button primary" href="start">Start the first training run</a></p>
          <p class="muted">Or through Airflow’s REST API:</p>`
        : html`<p>You can view training runs but not start them. Someone with permission can start one here or through
            Airflow’s REST API:</p>`
    }
    <pre tabindex="0"><code>${requestOf({ dataset: "digits", epochs: 5, imgsz: 64 })}</code></pre>
  </div>`;
}
