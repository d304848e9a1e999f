// What may be picked in the form: data sets and models that were trained before, stored weights, pretrained models of
// the task, and its architectures.
import { useEffect, useState } from "./h.js";
import { ask, training } from "./api.js";

const SUFFIX = { detect: "", segment: "-seg", classify: "-cls", pose: "-pose", obb: "-obb" };
const FAMILIES = ["yolo11", "yolo26"];
const SIZES = [..."nsmlx"];

/** Names to pick from, by the name of the field; any other text may be typed. */
export function useSuggestions(task) {
  const [jobs, setJobs] = useState([]);
  const [stored, setStored] = useState([]);
  useEffect(() => {
    ask(training(["jobs"], { limit: 200 })).then(
      ({ jobs: found }) => setJobs(found),
      () => undefined,
    );
    ask(training(["pretrained"])).then(
      ({ files }) => setStored(files.map(({ name }) => name)),
      () => undefined,
    );
  }, []);
  const known = (name) => jobs.map((job) => job[name]).filter(Boolean);
  const suffix = SUFFIX[task] ?? "";
  const architectures = FAMILIES.flatMap((family) => SIZES.map((size) => `${family}${size}${suffix}`));
  const pretrained = architectures.map((name) => `${name}.pt`);
  const ofTask = jobs
    .filter((job) => (job.task ?? "detect") === task)
    .map(({ model }) => model)
    .filter(Boolean);
  return {
    dataset: [...new Set([...(task === "detect" ? ["digits"] : []), ...known("dataset")])],
    model: [...new Set([...ofTask, ...stored, ...pretrained, ...architectures])],
  };
}
