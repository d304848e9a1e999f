// @ts-check
// Deletes through the API, which triggers a run of `delete_data`, and waits until that run has ended.
import { useState } from "./h.js";
import { Problem, fetchJson, trainingUrl } from "./api.js";

const PAUSE = 1000;
const CONFLICT = 409;
const ERROR = 500;

/**
 * The steps of a deletion, which the user confirms once or twice; `remove` deletes the resource.
 * @param {string} url of the resource
 * @param {string} next the page to open after the deletion
 * @param {(problem: Problem) => void} report receives the reason if the deletion fails
 */
export function useDeletion(url, next, report) {
  const [step, setStep] = useState(/** @type {"closed" | "first" | "second" | "deleting"} */ ("closed"));
  const remove = async () => {
    setStep("deleting");
    try {
      await deleteAndWait(url);
      location.assign(next);
    } catch (problem) {
      report(/** @type {Problem} */ (problem));
      setStep("closed");
    }
  };
  return { step, setStep, remove };
}

/**
 * Delete the resource at the URL, and wait until the deletion has ended. Raises Problem if the deletion fails.
 * @param {string} url
 */
async function deleteAndWait(url) {
  /** @type {Api.DeletionStarted} */
  const { run_id: runId } = await fetchJson(url, { method: "DELETE" });
  for (;;) {
    const progress = await fetchProgress(runId);
    if (progress?.state === "deleted") return;
    if (progress?.state === "refused") throw new Problem(CONFLICT, progress.error ?? "Nothing was deleted.");
    if (progress?.state === "failed") throw new Problem(ERROR, progress.error ?? "The deletion failed.");
    await new Promise((wake) => setTimeout(wake, PAUSE));
  }
}

/**
 * Fetch the progress of the deletion; null while the server does not respond.
 * @param {string} runId
 * @returns {Promise<Api.DeletionProgress | null>}
 */
async function fetchProgress(runId) {
  try {
    return await fetchJson(trainingUrl(["deletions", runId]));
  } catch (error) {
    if (/** @type {Problem} */ (error).isTransient) return null;
    throw error;
  }
}
