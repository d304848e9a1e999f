// @ts-check
// Suggests values in the form: datasets and models of the newest training runs, stored weights, and Ultralytics'
// pretrained models and architectures for the chosen task.
import { useEffect, useState } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";

/** @type {Record<string, string>} */
const SUFFIX = {
  detect: "",
  segment: "-seg",
  semantic: "-sem",
  depth: "-depth",
  classify: "-cls",
  pose: "-pose",
  obb: "-obb",
};
const FAMILIES = ["yolo11", "yolo26"];
/** Tasks that only the newest model family supports. */
const NEW_TASKS = ["semantic", "depth"];
const SIZES = [..."nsmlx"];

/**
 * The suggested texts for each field, by field name. Users may also type any other text.
 * @param {string} task
 * @returns {Record<string, string[]>}
 */
export function useSuggestions(task) {
  const [jobs, setJobs] = useState(/** @type {Api.TrainingJobResponse[]} */ ([]));
  const [stored, setStored] = useState(/** @type {string[]} */ ([]));
  useEffect(() => {
    // The form works without suggestions, so a failure is not shown.
    const ignore = () => undefined;
    /** @type {Promise<Api.JobsPage>} */
    const listed = fetchJson(trainingUrl(["jobs"], { limit: 200 }));
    listed.then((page) => setJobs(page.jobs), ignore);
    /** @type {Promise<Api.PretrainedFiles>} */
    const pretrained = fetchJson(trainingUrl(["pretrained"]));
    pretrained.then(({ files }) => setStored(files.map(({ name }) => name)), ignore);
  }, []);
  const suffix = SUFFIX[task] ?? "";
  const families = NEW_TASKS.includes(task) ? FAMILIES.slice(-1) : FAMILIES;
  const architectures = families.flatMap((family) => SIZES.map((size) => `${family}${size}${suffix}`));
  const pretrained = architectures.map((name) => `${name}.pt`);
  const ofTask = jobs.filter((job) => (job.task ?? "detect") === task);
  return {
    dataset: distinct([task === "detect" ? "digits" : null, ...jobs.map(({ dataset }) => dataset)]),
    model: distinct([...ofTask.map(({ model }) => model), ...stored, ...pretrained, ...architectures]),
  };
}

/** @param {Array<string | null>} names */
function distinct(names) {
  return [...new Set(names.flatMap((name) => name || []))];
}
