// Everything about one job, live. It is the page `job`, and what `run` shows when its run has a job.
import { html, useEffect, useState } from "./h.js";
import { ask, training } from "./api.js";
import { Actions } from "./actions.js";
import { Checkpoints } from "./checkpoints.js";
import { Curves } from "./curves.js";
import { Announce, Refused } from "./elements.js";
import { Lineage } from "./lineage.js";
import { useJob } from "./live.js";
import { Page } from "./page.js";
import { Parameters } from "./parameters.js";
import { Pictures } from "./pictures.js";
import { Summary } from "./summary.js";

export function JobView({ jobId }) {
  const { job, epochs, problem, again, setJob } = useJob(jobId);
  const [refusal, report] = useState(null);
  const parent = useParent(job?.parent_job_id);
  const actions = job && html`<${Actions} job=${job} setJob=${setJob} report=${report} />`;
  return html`<${Page} tab="jobs" heading=${`Training ${jobId}`} title=${`${jobId} – Training`} actions=${actions}>
    <${Refused} problem=${refusal} />
    <${Refused} problem=${problem} again=${again} />
    <${Announce} text=${job ? `Training is ${job.status}` : ""} />
    ${!job && !problem && html`<div class="loading" role="status">Loading…</div>`}
    ${
      job &&
      html`
      <${Summary} job=${job} />
      <${Curves} job=${job} epochs=${epochs} />
      <${Checkpoints} job=${job} />
      <${Pictures} job=${job} />
      <${Lineage} job=${job} />
      <${Parameters} job=${job} parent=${parent} />`
    }
  </${Page}>`;
}

/** The job that this one continues, if it is still there. */
function useParent(jobId) {
  const [parent, setParent] = useState(null);
  useEffect(() => {
    if (jobId) ask(training(["jobs", jobId])).then(setParent, () => setParent(null));
  }, [jobId]);
  return parent;
}
