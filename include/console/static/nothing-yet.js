// What the list shows when there is nothing in it: how to get something.
import { html } from "./h.js";

export function NothingYet({ filtered, mayStart }) {
  if (filtered) {
    return html`<div class="empty"><h2>No training matches</h2>
      <p>Filters compare whole names; only the job's id may be its beginning. <a href="jobs">Show all trainings</a></p></div>`;
  }
  return html`<div class="empty"><h2>No trainings yet</h2>
    ${
      mayStart
        ? html`<p>Every parameter may stay empty: then a small model is trained on the bundled handwritten digits.</p>
          <p><a class="button primary" href="start">Start the first training</a></p><p class="muted">Or over Airflow’s REST API:</p>`
        : html`<p>You may look at trainings but not start them. Somebody who may can do it here, or over Airflow’s REST API:</p>`
    }
    <pre tabindex="0"><code>${COMMAND}</code></pre>
  </div>`;
}

const COMMAND = `curl -X POST ${new URL("../../api/v2/dags/train_yolo/dagRuns", location.href)} \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{"logical_date": null, "conf": {"dataset": "digits", "epochs": 5, "imgsz": 64}}'`;
