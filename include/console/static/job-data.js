// @ts-check
// A job and its epochs, as the training API returns them.
import { fetchJson, trainingUrl } from "./api.js";

/**
 * Fetch one job.
 * @param {string} jobId
 * @param {AbortSignal} [signal]
 * @returns {Promise<Api.TrainingJobResponse>}
 */
export function fetchJob(jobId, signal) {
  return fetchJson(trainingUrl(["jobs", jobId]), { signal });
}

/**
 * Fetch all recorded epochs of a job after the given epoch, page by page.
 * @param {string} jobId
 * @param {AbortSignal} [signal]
 */
async function fetchEpochs(jobId, after = -1, signal = undefined) {
  const epochs = [];
  /** @type {number | null} */
  let next = after;
  while (next !== null) {
    /** @type {Api.EpochsPage} */
    const page = await fetchJson(trainingUrl(["jobs", jobId, "epochs"], { after: next, limit: 5000 }), { signal });
    epochs.push(...page.epochs);
    ({ next } = page);
  }
  return epochs;
}

/**
 * Fetch the epochs that are not known yet, and return all. If the last known epoch has been recorded again or is gone,
 * all are fetched: a new attempt has repeated epochs, or the job has started over.
 * @param {string} jobId
 * @param {Api.RecordedEpoch[]} known
 * @param {AbortSignal} signal
 * @returns {Promise<Api.RecordedEpoch[]>}
 */
export async function updateEpochs(jobId, known, signal) {
  const last = known.at(-1);
  if (last) {
    const [same, ...added] = await fetchEpochs(jobId, last.epoch - 1, signal);
    if (same?.epoch === last.epoch && same.recorded_at === last.recorded_at) {
      return added.length ? [...known, ...added] : known;
    }
  }
  return fetchEpochs(jobId, -1, signal);
}
