// The training of a run: its job as soon as there is one, until then what the run is doing.
// Airflow shows this page as a tab of each run.
import { html } from "../h.js";
import { airflow, ask, training } from "../api.js";
import { Note, Refused, Status } from "../elements.js";
import { JobView } from "../job-view.js";
import { usePolled } from "../live.js";
import { AirflowLink, runPage, taskPage } from "../outside.js";
import { Page, query, show } from "../page.js";

const dagId = query.get("dag_id");
const runId = query.get("run_id");
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
const trains = dagId === "train_yolo" && runId;

function Run() {
  const { data, problem, again } = usePolled(look, ({ jobId, ended }) => (jobId || ended ? null : 2));
  if (!trains) return html`<${NoTraining} />`;
  if (data?.jobId) return html`<${JobView} jobId=${data.jobId} />`;
  return html`<${Page} tab="jobs" heading=${data?.ended ? "No training" : "Waiting for the training"}
    title="Training of a run" lead=${html`Run <${AirflowLink} href=${runPage(dagId, runId)}>${runId}</${AirflowLink}>`}>
    <${Refused} problem=${problem} again=${again} />
    ${!data && !problem && html`<div class="loading" role="status">Loading…</div>`}
    ${
      data?.failed &&
      html`<${Note} kind="failed" title=${`Task ${data.failed.task_id} failed before the training began`}>
      ${data.reason && html`<p>${data.reason}</p>`}
      <${AirflowLink} class="button" href=${taskPage(dagId, runId, data.failed.task_id)}>Open task ${data.failed.task_id}</${AirflowLink}>
    </${Note}>`
    }
    ${
      data?.ended &&
      !data.failed &&
      html`<${Note} kind="warning">The run has ended and no training is recorded for it:
      a later run may have taken its training over.</${Note}>`
    }
    ${
      data &&
      html`<section class="card" aria-label="Tasks"><ul class="tasks">
      ${data.tasks.map((task) => html`<li key=${task.task_id}><span>${task.task_id}</span><${Status} of=${task.state ?? "waiting"} /></li>`)}
    </ul></section>`
    }
  </${Page}>`;
}

function NoTraining() {
  return html`<${Page} tab="jobs" heading="No training" title="Training of a run">
    <${Note}>${dagId ? html`A run of ${dagId} is no training: only runs of train_yolo are.` : "The address names no run."}
      ${" "}<a href="jobs">Show all trainings</a></${Note}>
  </${Page}>`;
}

/** The run's job; before there is one, the run's tasks, and why there will be none. */
async function look(signal) {
  if (!trains) return { jobId: null, ended: true, tasks: [] };
  const found = await ask(training(["jobs"], { dag_id: dagId, run_id: runId, limit: 1 }), { signal });
  if (found.jobs.length) return { jobId: found.jobs[0].job_id };
  const run = ["dags", dagId, "dagRuns", runId];
  const [{ state }, { task_instances: tasks }] = await Promise.all([
    ask(airflow(run), { signal }),
    ask(airflow([...run, "taskInstances"]), { signal }),
  ]);
  const ended = state === "success" || state === "failed";
  const failed = ended ? tasks.find((task) => task.state === "failed") : undefined;
  const reason = failed && (await reasonOf(failed, signal).catch(() => null));
  return { jobId: null, ended, failed, reason, tasks: inOrder(tasks) };
}

function inOrder(tasks) {
  const place = ({ task_id: id }) => (ORDER.includes(id) ? ORDER.indexOf(id) : ORDER.length);
  return [...tasks].sort((one, other) => place(one) - place(other));
}

/** The sentence with which the task ended, out of its log. */
async function reasonOf({ task_id: taskId, try_number: attempt }, signal) {
  const log = await ask(airflow(["dags", dagId, "dagRuns", runId, "taskInstances", taskId, "logs", String(attempt)]), {
    signal,
  });
  const errors = log.content.flatMap((line) => line.error_detail ?? []);
  return errors.at(-1)?.exc_value ?? null;
}

show(Run);
