// @ts-check
// The head of a job's page: its status, its progress, and notes on the job.
/** @import { Children } from "./h.js" */
import { html, useMemo } from "./h.js";
import { airflowUrl, fetchJson } from "./api.js";
import { serverNow } from "./clock.js";
import { Figure, Progress, Status, When } from "./elements.js";
import { formatDateTime, formatDuration, formatRemaining } from "./format.js";
import { isActive, useNow, usePolled } from "./live.js";
import { headline } from "./metrics.js";
import { Notes } from "./notes.js";
import { AirflowLink, runPage } from "./outside.js";
import { durableState, finishedEpochs, leftAfterExpiry, timeLeft } from "./progress.js";
import { versionPage } from "./registration.js";

/** @typedef {Api.TrainingJobResponse} Job */

/**
 * An attempt reports every ten seconds while it trains, but not while it validates. After this many seconds without a
 * report, it may have ended: the time until the next attempt is not part of the duration.
 */
const LONGEST_SILENCE = 600;

/** @param {{ job: Job }} props */
export function Summary({ job }) {
  const finished = finishedEpochs(job);
  const { epochs, epoch_seconds: seconds, batch, batches } = job.progress;
  const running = job.status === "running";
  const left = formatRemaining(timeLeft(job, useNow(running)));
  const pace = [left && `${left} left`, seconds && `${formatDuration(seconds)} for the last epoch`];
  const within = running && batch && batches;
  return html`<${Notes} job=${job} />
    <div class="card summary">
      <div class="summary-head">
        <${Status} of=${job.status} />
        <span class="number">epoch ${finished} of ${epochs ?? "?"}
          ${within && html`<small class="muted"> + batch ${batch} of ${batches}</small>`}</span>
        <span class="muted">${running && pace.filter(Boolean).join(", ")}</span>
      </div>
      <${Progress} job=${job} />
      ${job.preparation && html`<p class="muted" role="status">${job.preparation}</p>`}
      <${Facts} job=${job} />
    </div>`;
}

/** @param {{ job: Job }} props */
function Facts({ job }) {
  const { dag_id: dagId, run_id: runId } = job;
  // An element stops polling when its run ends; a new key creates a new element, which polls again.
  const key = `${runId} ${isActive(job)}`;
  const owner = dagId && runId && html`<${Owner} key=${key} dagId=${dagId} runId=${runId} />`;
  return html`<dl class="facts">
    <${Inputs} job=${job} />
    <${Times} job=${job} />
    <${Machine} job=${job} />
    <${Interruptions} job=${job} />
    ${owner && html`<${Fact} name="Run">${owner}</${Fact}>`}
  </dl>`;
}

/** @param {{ name: string, children?: Children }} props */
function Fact({ name, children }) {
  return html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
}

/** @param {{ job: Job }} props */
function Inputs({ job }) {
  const quality = headline(job.metrics);
  const second = quality?.name === "metrics/mAP50-95(B)" ? job.metrics?.["metrics/mAP50(B)"] : undefined;
  const left = leftAfterExpiry(job);
  const behind = left ? 0 : finishedEpochs(job) - (job.progress.durable_epochs ?? 0);
  const weights = job.initial_weights_sha256;
  return html`
    ${
      quality &&
      html`<${Fact} name=${quality.label}><${Figure} value=${quality.value} />
      ${second !== undefined && html` <small class="muted">mAP50 <${Figure} value=${second} /></small>`}</${Fact}>`
    }
    <${Fact} name="Model">${job.model ?? "–"}${job.task && html` <small class="muted">${job.task}</small>`}</${Fact}>
    ${
      weights &&
      html`<${Fact} name="Initial weights">
      <code title=${`${job.initial_weights_path}, SHA-256 ${weights}`}>${weights.slice(0, 12)}…</code></${Fact}>`
    }
    <${Fact} name="Dataset"><${Dataset} job=${job} /></${Fact}>
    <${Fact} name="Safe in S3"><span class="number">${left ?? durableState(job) ?? "nothing yet"}</span>
      ${behind > 0 && html` <small class="muted">${behind} behind</small>`}</${Fact}>`;
}

/**
 * A link to the registered version that `dataset` refers to; without a version, the value of `dataset`.
 * @param {{ job: Job }} props
 */
function Dataset({ job: { dataset, dataset_name: name, dataset_version: version } }) {
  if (!name || !version) return dataset ?? "–";
  return html`<a href=${versionPage(name, version)}>${`${name}@${version}`}</a>`;
}

/** @param {{ job: Job }} props */
function Times({ job }) {
  const waited = job.status === "queued" || (job.waited_seconds ?? 0) >= 1;
  const never = isActive(job) ? "not yet" : "never";
  return html`
    <${Fact} name="Duration"><${Duration} job=${job} /></${Fact}>
    ${waited && html`<${Fact} name="Waited"><${Waited} job=${job} /></${Fact}>`}
    <${Fact} name="Started">${job.started_at ? html`<${When} at=${job.started_at} />` : never}</${Fact}>
    ${job.triggered_by && html`<${Fact} name="Started by">${job.triggered_by}</${Fact}>`}
    ${
      job.completed_at &&
      html`<${Fact} name="Completed">
      <span title=${formatDateTime(job.completed_at)}><${When} at=${job.completed_at} /></span></${Fact}>`
    }`;
}

/** @param {{ job: Job }} props */
function Machine({ job }) {
  return html`
    ${job.machine && html`<${Fact} name="Machine">${job.machine}</${Fact}>`}
    ${
      job.gpu_name &&
      html`<${Fact} name="GPU">${job.gpu_name === "CPU" ? "none (trained on the CPU)" : job.gpu_name}
      ${job.gpu_driver && html` <small class="muted">driver ${job.gpu_driver}</small>`}</${Fact}>`
    }`;
}

/**
 * The cost of interruptions: attempts, repeated training and goodput.
 * @param {{ job: Job }} props
 */
function Interruptions({ job }) {
  const { goodput } = job.progress;
  const attempts = "This training run was interrupted and resumed automatically.";
  const repeated = "Training that had to be repeated after interruptions.";
  const share = "Share of the duration spent training, not counting training that was later repeated.";
  return html`
    ${(job.attempt ?? 0) > 1 && html`<${Fact} name="Attempts"><span title=${attempts}>${job.attempt}</span></${Fact}>`}
    ${
      (job.lost_seconds ?? 0) >= 1 &&
      html`<${Fact} name="Repeated">
      <span class="number" title=${repeated}>${formatDuration(job.lost_seconds)}</span></${Fact}>`
    }
    ${
      goodput !== null &&
      html`<${Fact} name="Goodput">
      <span class="number" title=${share}>${Math.round(goodput * 100)} %</span></${Fact}>`
    }`;
}

/**
 * The time spent waiting for the quota or a GPU, including the current wait, which the row does not contain yet.
 * @param {{ job: Job }} props
 */
function Waited({ job }) {
  const since = job.status === "queued" ? job.queued_at : null;
  const now = useNow(since !== null);
  const current = since ? Math.max(0, (now - Date.parse(since)) / 1000) : 0;
  const seconds = (job.waited_seconds ?? 0) + current;
  const title = "Time spent waiting for the quota or a GPU; not part of the duration";
  return html`<span class="number" title=${title}>${formatDuration(seconds)}</span>`;
}

/**
 * The duration. While the job runs, the time since the newest attempt's last report is added.
 * @param {{ job: Job }} props
 */
function Duration({ job }) {
  const answered = useMemo(() => serverNow(), [job.status, job.attempt, job.duration_seconds]);
  const running = job.status === "running";
  const since = (useNow(running) - answered) / 1000;
  const seconds = job.duration_seconds;
  const most = job.attempt === null ? Infinity : LONGEST_SILENCE; // the attempts of a host application do not report
  const passed = running ? Math.min(most, Math.max(0, since)) : 0;
  const title = "Time with a GPU; waits and the time between attempts are not included";
  return html`<span class="number" title=${title}>${formatDuration(seconds === null ? null : seconds + passed)}</span>`;
}

/**
 * The run that owns the job, and the run's state: the job's status alone does not say whether a run is active.
 * @param {{ dagId: string, runId: string }} props
 */
function Owner({ dagId, runId }) {
  /** @type {(signal: AbortSignal) => Promise<Airflow.DagRun>} */
  const load = (signal) => fetchJson(airflowUrl(["dags", dagId, "dagRuns", runId]), { signal });
  const { data, problem } = usePolled(load, (run) => (/^(queued|running)$/.test(run.state) ? 5 : null));
  if (problem?.status === 404) return html`<span title=${runId}>not in Airflow</span>`;
  return html`<${AirflowLink} href=${runPage(dagId, runId)} title=${runId}>Airflow run</${AirflowLink}>
    ${data && html` <small class="muted">${data.state}</small>`}`;
}
