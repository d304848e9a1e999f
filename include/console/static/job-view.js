// @ts-check
// All details of one job, updated live. The page `job` shows them; so does the page `run`, once the run has a job.
/** @import { Problem } from "./api.js" */
import { html, useEffect, useState } from "./h.js";
import { Actions } from "./actions.js";
import { Checkpoints } from "./checkpoints.js";
import { JobClasses } from "./class-table.js";
import { Curves } from "./curves.js";
import { Announce, Pending, ProblemNote } from "./elements.js";
import { fetchJob } from "./job-data.js";
import { Lineage } from "./lineage.js";
import { isActive } from "./live.js";
import { useJob } from "./live-job.js";
import { Page } from "./page.js";
import { Parameters } from "./parameters.js";
import { Pictures } from "./pictures.js";
import { Summary } from "./summary.js";

/** @param {{ jobId: string }} props */
export function JobView({ jobId }) {
  const { job, epochs, problem, again, setJob } = useJob(jobId);
  const [refusal, report] = useState(/** @type {Problem | null} */ (null));
  const parent = useParent(job?.parent_job_id ?? null);
  // These elements stop polling when the run ends; a new key creates new elements, which poll again.
  const key = job && `${job.run_id} ${isActive(job)}`;
  const actions = job && html`<${Actions} job=${job} setJob=${setJob} report=${report} />`;
  return html`<${Page} tab="jobs" heading=${`Training ${jobId}`} title=${`${jobId} – Training`} actions=${actions}>
    <${ProblemNote} problem=${refusal} />
    <${Pending} loaded=${Boolean(job)} problem=${problem} again=${again} />
    <${Announce} text=${job ? `Training is ${job.status}` : ""} />
    ${
      job &&
      html`
      <${Summary} job=${job} />
      <${Curves} job=${job} epochs=${epochs} hasParent=${parent !== null} />
      <${Checkpoints} job=${job} />
      <${Pictures} key=${`pictures ${key}`} job=${job} />
      <${JobClasses} key=${`classes ${key}`} job=${job} />
      <${Lineage} job=${job} />
      <${Parameters} job=${job} parent=${parent} />`
    }
  </${Page}>`;
}

/**
 * The parent that a job continues or was fine-tuned from; null if there is no parent or it cannot be loaded.
 * @param {string | null} jobId
 */
function useParent(jobId) {
  const [parent, setParent] = useState(/** @type {Api.TrainingJobResponse | null} */ (null));
  useEffect(() => {
    setParent(null);
    if (jobId) fetchJob(jobId).then(setParent, () => setParent(null));
  }, [jobId]);
  return parent;
}
