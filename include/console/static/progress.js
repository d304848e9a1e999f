// How far a job is, as of now.

/** Epochs behind it, the parent's included: a resumed job has those before its own first one has ended. */
export function finishedEpochs(job) {
  const inherited = job.parent_job_id && job.resumed_epoch !== null ? job.resumed_epoch + 1 : 0;
  return job.progress.finished_epochs ?? inherited;
}

/** Epochs that are trained, with the part of the one that goes on. */
export function trainedEpochs(job) {
  const { batch, batches } = job.progress;
  return finishedEpochs(job) + (batch && batches ? Math.min(1, batch / batches) : 0);
}

/** What is safe in S3, in words: an epoch, or a batch of the one after it; null where nothing is. */
export function durable(job) {
  const { durable_epochs: epochs, durable_batch: batch, batches } = job.progress;
  if (batch) return `epoch ${(epochs ?? 0) + 1}, batch ${batch}${batches ? ` of ${batches}` : ""}`;
  return epochs ? `epoch ${epochs}` : null;
}

/** Seconds that are left, less what has passed since they were estimated; null where nothing is known. */
export function timeLeft(job, now = Date.now()) {
  const { eta_seconds: estimated, recorded_at: at } = job.progress;
  if (job.status !== "running" || estimated === null) return null;
  // A clock that is wrong must not make it more than it was.
  const passed = at ? Math.max(0, (now - Date.parse(at)) / 1000) : 0;
  return Math.max(0, estimated - passed);
}

/** Whether a run owns the job and waits for its GPU. */
export function waitsForGpu(job) {
  return job.status === "queued" && job.run_id !== null;
}

/** Where a waiting job is in the queue, in words; null where it does not wait or nobody knows. */
export function placeInQueue({ queue }) {
  if (!queue) return null;
  return queue.place === 1 ? "next in the queue" : `place ${queue.place} in the queue`;
}
