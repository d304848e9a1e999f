// The head of a job's page: what it is doing, how far it is, and what the reader should know about it.
import { html, useMemo } from "./h.js";
import { airflow, ask, training } from "./api.js";
import { Figure, Lines, Note, Progress, Status, When } from "./elements.js";
import { clock, duration, moment, remaining } from "./format.js";
import { isActive, useNow, usePolled } from "./live.js";
import { headline } from "./metrics.js";
import { AirflowLink, runPage } from "./outside.js";
import { durable, finishedEpochs, placeInQueue, timeLeft, waitsForGpu } from "./progress.js";

export function Summary({ job }) {
  const finished = finishedEpochs(job);
  const { epochs, epoch_seconds: seconds, batch, batches } = job.progress;
  const running = job.status === "running";
  const left = remaining(timeLeft(job, useNow(running)));
  return html`<${Notes} job=${job} />
    <div class="card summary">
      <div class="summary-head">
        <${Status} of=${job.status} />
        <span class="number">epoch ${finished} of ${epochs ?? "?"}${
          running &&
          batch &&
          batches &&
          html`
          <small class="muted"> + batch ${batch} of ${batches}</small>`
        }</span>
        <span class="muted">${running && [left && `${left} left`, seconds && `${duration(seconds)} for the last epoch`].filter(Boolean).join(", ")}</span>
      </div>
      <${Progress} job=${job} />
      <${Facts} job=${job} />
    </div>`;
}

function Notes({ job }) {
  const safe = durable(job);
  return html`
    ${
      job.error &&
      html`<${Note} kind="failed" title="The training failed">
      <${Lines} text=${job.error} name="the error" />${
        job.links.dataset_report &&
        html`<p><a download=${`${job.job_id}-dataset.json`}
        href=${training(["jobs", job.job_id, "dataset-report"])}>Download all problems of the dataset</a></p>`
      }${safe && html`<p class="muted">Resuming goes on after ${safe}.</p>`}</${Note}>`
    }
    ${waitsForGpu(job) && !job.stop_requested && html`<${Queue} job=${job} />`}
    ${
      job.stop_requested &&
      isActive(job) &&
      html`<${Note} kind="warning" title="Stop requested">
      The training ends ${job.stop_after_epoch ? "with the epoch" : "after the batch"} it is in; both checkpoints are kept, and it can be resumed.</${Note}>`
    }
    ${
      job.origin === "external" &&
      html`<${Note} kind="warning" title="Not trained here">
      <p>Uploaded by ${job.checkpoint_uploader ?? "somebody"}, not produced by a training run here.
        ${
          job.checkpoint_finding
            ? html`${" "}The files cannot be loaded here: ${job.checkpoint_finding}.`
            : " Both files were inspected: they name no code other than that of PyTorch and Ultralytics."
        }
        ${" "}What the weights do, nobody has checked.</p></${Note}>`
    }
    ${
      job.archived_at &&
      html`<${Note} title="Archived">
      Archived <${When} at=${job.archived_at} />. The list hides it; nothing has been deleted.</${Note}>`
    }
    ${
      job.inexact_reason &&
      html`<${Note} kind="warning" title="Not bit-identical to an uninterrupted training">
      ${job.inexact_reason}</${Note}>`
    }`;
}

/** Where it waits, and until when. */
function Queue({ job }) {
  const now = useNow(true);
  const { expected_start_at: at, waiting } = job.queue ?? {};
  const left = at && remaining(Math.max(0, (Date.parse(at) - now) / 1000));
  return html`<${Note} title="Waiting for a GPU">
    <p>${job.queue ? `It is ${placeInQueue(job)}${waiting > 1 ? `, of ${waiting} that wait` : ""}. ` : ""}Jobs start in the order in which they came.</p>
    <p class="muted">${
      at
        ? html`Expected to start ${clock(at)}, in ${left}: estimated from the trainings that run and from how long similar ones took.`
        : "When it will start is unknown: no similar training has been completed yet."
    }</p>
  </${Note}>`;
}

function Facts({ job }) {
  const quality = headline(job.metrics);
  const second = quality?.label === "mAP50-95" ? job.metrics["metrics/mAP50(B)"] : undefined;
  const { durable_epochs: safe, goodput } = job.progress;
  const waits = job.status === "queued";
  const behind = finishedEpochs(job) - (safe ?? 0);
  return html`<dl class="facts">
    ${
      quality &&
      html`<${Fact} name=${quality.label}><${Figure} value=${quality.value} />${
        second !== undefined &&
        html`
      ${" "}<small class="muted">mAP50 <${Figure} value=${second} /></small>`
      }</${Fact}>`
    }
    <${Fact} name="Model">${job.model ?? "–"}${job.task && html` <small class="muted">${job.task}</small>`}</${Fact}>
    ${
      job.initial_weights_sha256 &&
      html`<${Fact} name="Initial weights"><code
      title=${`${job.initial_weights_path}, SHA-256 ${job.initial_weights_sha256}`}>${job.initial_weights_sha256.slice(0, 12)}…</code></${Fact}>`
    }
    <${Fact} name="Data set">${job.dataset ?? "–"}</${Fact}>
    <${Fact} name="Safe in S3"><span class="number">${durable(job) ?? "nothing yet"}</span>
      ${behind > 0 && html` <small class="muted">${behind} behind</small>`}</${Fact}>
    <${Fact} name="Duration"><${Duration} job=${job} /></${Fact}>
    ${(waits || job.waited_seconds >= 1) && html`<${Fact} name="Waited"><${Waited} job=${job} /></${Fact}>`}
    <${Fact} name="Started">${job.started_at ? html`<${When} at=${job.started_at} />` : isActive(job) ? "not yet" : "never"}</${Fact}>
    ${job.machine && html`<${Fact} name="Machine">${job.machine}</${Fact}>`}
    ${
      job.gpu_name &&
      html`<${Fact} name="GPU">${job.gpu_name === "CPU" ? "none: the CPU trains" : job.gpu_name}
      ${job.gpu_driver && html` <small class="muted">driver ${job.gpu_driver}</small>`}</${Fact}>`
    }
    ${job.triggered_by && html`<${Fact} name="Started by">${job.triggered_by}</${Fact}>`}
    ${job.completed_at && html`<${Fact} name="Completed"><span title=${moment(job.completed_at)}><${When} at=${job.completed_at} /></span></${Fact}>`}
    ${job.attempt > 1 && html`<${Fact} name="Attempts"><span title="It was interrupted, and went on by itself.">${job.attempt}</span></${Fact}>`}
    ${
      job.lost_seconds >= 1 &&
      html`<${Fact} name="Trained again"><span class="number"
      title="What was trained after the newest state when it was interrupted.">${duration(job.lost_seconds)}</span></${Fact}>`
    }
    ${
      goodput !== null &&
      html`<${Fact} name="Goodput"><span class="number"
      title="The share of the time since its start that went into training that counts.">${Math.round(goodput * 100)} %</span></${Fact}>`
    }
    ${job.dag_id && job.run_id && html`<${Fact} name="Run"><${Owner} job=${job} /></${Fact}>`}
  </dl>`;
}

function Fact({ name, children }) {
  return html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
}

/** For a GPU, in all: a wait that goes on is not yet in the row. */
function Waited({ job }) {
  const waits = job.status === "queued" && job.queued_at;
  const now = useNow(Boolean(waits));
  const present = waits ? Math.max(0, (now - Date.parse(job.queued_at)) / 1000) : 0;
  return html`<span class="number" title="For a GPU; not part of the duration">${duration((job.waited_seconds ?? 0) + present)}</span>`;
}

/** It goes on while the server has nothing new to say. */
function Duration({ job }) {
  const told = useMemo(() => Date.now(), [job]);
  const since = (useNow(job.status === "running") - told) / 1000;
  const passed = job.status === "running" && job.duration_seconds !== null ? Math.max(0, since) : 0;
  return html`<span class="number">${duration(job.duration_seconds === null ? null : job.duration_seconds + passed)}</span>`;
}

/** The run that owns the job, and its state: the column status alone does not say whether anybody trains. */
function Owner({ job }) {
  const load = (signal) => ask(airflow(["dags", job.dag_id, "dagRuns", job.run_id]), { signal });
  const { data } = usePolled(load, (run) => (/^(queued|running)$/.test(run.state) ? 5 : null));
  return html`<${AirflowLink} href=${runPage(job.dag_id, job.run_id)} title=${job.run_id}>Airflow run</${AirflowLink}>
    ${data && html` <small class="muted">${data.state}</small>`}`;
}
