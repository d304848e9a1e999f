// @ts-check
// The progress of a job.
import { serverNow } from "./clock.js";

/** @typedef {Api.TrainingJobResponse} Job */

/**
 * The number of finished epochs. For a resumed job it includes the parent's epochs, even before the first new epoch.
 * @param {Job} job
 */
export function finishedEpochs(job) {
  const inherited = job.parent_job_id && job.resumed_epoch !== null ? job.resumed_epoch + 1 : 0;
  return job.progress.finished_epochs ?? inherited;
}

/**
 * The number of trained epochs, including the finished fraction of the current epoch.
 * @param {Job} job
 */
export function trainedEpochs(job) {
  const { batch, batches } = job.progress;
  return finishedEpochs(job) + (batch && batches ? Math.min(1, batch / batches) : 0);
}

/**
 * Describe the newest state in S3: an epoch, or a batch within the next epoch. Null if there is none, or no longer.
 * @param {Job} job
 */
export function durableState(job) {
  if (job.last_checkpoint_expired_at) return null;
  const { durable_epochs: epochs, durable_batch: batch, batches } = job.progress;
  if (batch) return `epoch ${(epochs ?? 0) + 1}, batch ${batch}${batches ? ` of ${batches}` : ""}`;
  return epochs ? `epoch ${epochs}` : null;
}

/**
 * Describe what is left in S3 of a job whose state retention has deleted; null if it has not.
 * @param {Job} job
 */
export function leftAfterExpiry(job) {
  if (!job.last_checkpoint_expired_at) return null;
  return job.links.best_checkpoint === null ? "nothing" : "best.pt";
}

/**
 * The remaining seconds: the estimate, minus the time since it was made. Null if there is no estimate, or if it has
 * passed: it was wrong then, or no attempt has been training since.
 * @param {Job} job
 */
export function timeLeft(job, now = serverNow()) {
  const { eta_seconds: estimated, recorded_at: at } = job.progress;
  if (job.status !== "running" || estimated === null) return null;
  // A clock that is behind the server's must not increase the estimate.
  const passed = at ? Math.max(0, (now - Date.parse(at)) / 1000) : 0;
  return passed < estimated ? estimated - passed : null;
}

/**
 * Whether the job has a run that waits for a GPU, not for the user's quota.
 * @param {Job} job
 */
export function waitsForGpu(job) {
  return job.status === "queued" && job.run_id !== null && !job.waits_for_quota;
}

/**
 * Describe a waiting job's position in the queue, or say that it waits for the quota. Null if neither applies.
 * @param {Job} job
 */
export function queuePosition({ queue, waits_for_quota: held }) {
  if (held) return "waits for the quota";
  if (!queue) return null;
  return queue.place === 1 ? "next in the queue" : `number ${queue.place} in the queue`;
}
