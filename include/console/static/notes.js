// @ts-check
// The most important notes on a job: why it failed, what it waits for, who uploaded it.
import { html } from "./h.js";
import { trainingUrl } from "./api.js";
import { Lines, Note, When } from "./elements.js";
import { formatClock, formatRemaining } from "./format.js";
import { isActive, useNow } from "./live.js";
import { durableState, queuePosition, waitsForGpu } from "./progress.js";

/** @typedef {Api.TrainingJobResponse} Job */

/** @param {{ job: Job }} props */
export function Notes({ job }) {
  const stopping = job.stop_requested && isActive(job);
  return html`
    ${job.error && html`<${Failure} job=${job} error=${job.error} />`}
    ${waitsForGpu(job) && !job.stop_requested && html`<${Queue} job=${job} />`}
    ${
      job.waits_for_quota &&
      html`<${Note} title="Waiting for the quota">
      <p>${job.triggered_by} has reached the quota for <a href="usage">GPUs in use at the same time</a>. When
        enough of this user’s training runs have ended, the waiting ones start in the order in which they were
        queued.</p></${Note}>`
    }
    ${
      stopping &&
      html`<${Note} kind="warning" title="Stop requested">
      The training run stops${" "}
      ${job.stop_after_epoch ? "at the end of the current epoch" : "after the current batch"}.${" "}
      Both checkpoints are kept, and the training run can be resumed.</${Note}>`
    }
    ${job.origin === "external" && html`<${External} job=${job} />`}
    ${
      job.archived_at &&
      html`<${Note} title="Archived">
      Archived <${When} at=${job.archived_at} /> and hidden from the list; nothing has been deleted.</${Note}>`
    }
    ${
      job.inexact_reason &&
      html`<${Note} kind="warning" title="Not bit-identical to an uninterrupted training run">
      ${job.inexact_reason}</${Note}>`
    }`;
}

/** @param {{ job: Job, error: string }} props */
function Failure({ job, error }) {
  const report = trainingUrl(["jobs", job.job_id, "dataset-report"]);
  const safe = durableState(job);
  return html`<${Note} kind="failed" title="Training failed">
    <${Lines} text=${error} name="the error" />
    ${
      job.links.dataset_report &&
      html`<p><a download=${`${job.job_id}-dataset.json`} href=${report}>
        Download the report of all problems in the dataset</a></p>`
    }
    ${safe && html`<p class="muted">A resumed training run continues after ${safe}.</p>`}</${Note}>`;
}

/**
 * The job's position in the queue, and its expected start time.
 * @param {{ job: Job }} props
 */
function Queue({ job }) {
  const now = useNow(true);
  const at = job.queue?.expected_start_at;
  const left = at && formatRemaining(Math.max(0, (Date.parse(at) - now) / 1000));
  const waiting = job.queue && job.queue.waiting > 1 ? ` of ${job.queue.waiting} jobs` : "";
  const position = job.queue ? `This job is ${queuePosition(job)}${waiting}. ` : "";
  return html`<${Note} title="Waiting for a GPU">
    <p>${position}Jobs that need the same number of GPUs start in the order in which they were queued.</p>
    <p class="muted">${
      at
        ? `Expected to start ${formatClock(at)}, in ${left}. The estimate is based on the current training runs and
          on how long similar ones took.`
        : "The start time cannot be estimated yet."
    }</p>
  </${Note}>`;
}

/**
 * A warning about checkpoints that were uploaded instead of trained here.
 * @param {{ job: Job }} props
 */
function External({ job }) {
  const finding = job.checkpoint_finding
    ? `The files cannot be loaded here: ${job.checkpoint_finding}.`
    : "Both files were inspected: they reference only code of PyTorch and Ultralytics.";
  return html`<${Note} kind="warning" title="Not trained here">
    <p>Uploaded by ${job.checkpoint_uploader ?? "an unknown user"}, not trained here.${" "}
      ${finding}${" "}The behaviour of the weights has not been checked.</p></${Note}>`;
}
