// @ts-check
// The job of a Dag run, or the run's tasks until there is a job. Airflow shows this page as a tab of each run.
import { html } from "../h.js";
import { airflowUrl, fetchJson, TRAINING_DAG, trainingUrl } from "../api.js";
import { Note, Pending, Status } from "../elements.js";
import { JobView } from "../job-view.js";
import { usePolled } from "../live.js";
import { AirflowLink, runPage, taskPage } from "../outside.js";
import { Page, query, show } from "../page.js";
import { PausedNote } from "../paused.js";

/**
 * @typedef {object} Found what is known about the run
 * @property {string | null} jobId
 * @property {boolean} ended
 * @property {Airflow.TaskInstance[]} tasks
 * @property {Airflow.TaskInstance} [failed] the task that ended the run
 * @property {string | null} [reason] the error that ended the task
 */

const dagId = query.get("dag_id") ?? "";
const runId = query.get("run_id") ?? "";
const isTraining = dagId === TRAINING_DAG && runId !== "";
const ORDER = [
  "check_schema",
  "resolve_config",
  "check_dataset",
  "train",
  "upload_best",
  "upload_last",
  "record_checkpoints",
  "notify_backend",
];

function Run() {
  const { data, problem, again } = usePolled(load, ({ jobId, ended }) => (jobId || ended ? null : 2));
  if (!isTraining) return html`<${NoTraining} />`;
  if (data?.jobId) return html`<${JobView} jobId=${data.jobId} />`;
  const lead = html`Run <${AirflowLink} href=${runPage(dagId, runId)}>${runId}</${AirflowLink}>`;
  const heading = data?.ended ? "No training run" : "Waiting for training to start";
  return html`<${Page} tab="jobs" heading=${heading} title="Training run" lead=${lead}>
    <${Pending} loaded=${Boolean(data)} problem=${problem} again=${again} />
    ${data?.failed && html`<${Failure} taskId=${data.failed.task_id} reason=${data.reason ?? null} />`}
    ${
      data?.ended &&
      !data.failed &&
      html`<${Note} kind="warning">This Dag run has ended. Either it started no training run, or a later Dag run has
      taken over its training run.</${Note}>`
    }
    ${data && !data.ended && html`<${PausedNote} dagId=${dagId} />`}
    ${data && html`<${Tasks} tasks=${data.tasks} />`}
  </${Page}>`;
}

/** @param {{ taskId: string, reason: string | null }} props */
function Failure({ taskId, reason }) {
  const href = taskPage(dagId, runId, taskId);
  return html`<${Note} kind="failed" title=${`Task ${taskId} failed before training started`}>
    ${reason && html`<p>${reason}</p>`}
    <${AirflowLink} class="button" href=${href}>Open task ${taskId}</${AirflowLink}>
  </${Note}>`;
}

/** @param {{ tasks: Airflow.TaskInstance[] }} props */
function Tasks({ tasks }) {
  return html`<section class="card" aria-label="Tasks"><ul class="tasks">
    ${tasks.map(
      ({ task_id: id, state }) => html`<li key=${id}><span>${id}</span><${Status} of=${state ?? "waiting"} /></li>`,
    )}
  </ul></section>`;
}

function NoTraining() {
  const reason = dagId
    ? `This is a run of ${dagId}; only runs of ${TRAINING_DAG} are training runs.`
    : "The URL contains no run ID.";
  return html`<${Page} tab="jobs" heading="No training run" title="Training run">
    <${Note}>${reason}${" "}<a href="jobs">Show all training runs</a></${Note}>
  </${Page}>`;
}

/**
 * Find the run's job. If there is none, find the run's tasks and, if the run has ended, the error of the failed task.
 * @param {AbortSignal} signal
 * @returns {Promise<Found>}
 */
async function load(signal) {
  if (!isTraining) return { jobId: null, ended: true, tasks: [] };
  const run = ["dags", dagId, "dagRuns", runId];
  /** @type {Api.JobsPage} */
  const page = await fetchJson(trainingUrl(["jobs"], { dag_id: dagId, run_id: runId, limit: 1 }), { signal });
  if (page.jobs.length) return { jobId: page.jobs[0].job_id, ended: false, tasks: [] };
  /** @type {[Airflow.DagRun, Airflow.TaskInstances]} */
  const [{ state }, { task_instances: tasks }] = await Promise.all([
    fetchJson(airflowUrl(run), { signal }),
    fetchJson(airflowUrl([...run, "taskInstances"]), { signal }),
  ]);
  const ended = state === "success" || state === "failed";
  const failed = ended ? tasks.find((task) => task.state === "failed") : undefined;
  const reason = failed && (await reasonOf(failed, signal).catch(() => null));
  return { jobId: null, ended, failed, reason, tasks: inOrder(tasks) };
}

/** @param {Airflow.TaskInstance[]} tasks */
function inOrder(tasks) {
  const rank = (/** @type {Airflow.TaskInstance} */ { task_id: id }) =>
    ORDER.includes(id) ? ORDER.indexOf(id) : ORDER.length;
  return [...tasks].sort((one, other) => rank(one) - rank(other));
}

/**
 * The message of the exception that ended the task, from its structured log.
 * @param {Airflow.TaskInstance} task
 * @param {AbortSignal} signal
 */
async function reasonOf({ task_id: taskId, try_number: attempt }, signal) {
  const segments = ["dags", dagId, "dagRuns", runId, "taskInstances", taskId, "logs", String(attempt)];
  /** @type {Airflow.TaskLog} */
  const log = await fetchJson(airflowUrl(segments), { signal });
  const errors = log.content.flatMap((line) => line.error_detail ?? []);
  return errors.at(-1)?.exc_value ?? null;
}

show(Run);
