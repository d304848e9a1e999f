// @ts-check
// Ultralytics' pictures of a training run, sample predictions first. Each picture can be enlarged.
import { html } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { Note, ProblemNote } from "./elements.js";
import { formatBytes } from "./format.js";
import { Gallery } from "./gallery.js";
import { isActive, usePolled } from "./live.js";

/** @typedef {Api.TrainingJobResponse} Job */

const PREDICTIONS = /^val_batch\d+_pred/;

/** @type {Array<[pattern: RegExp, caption: string]>} */
const CAPTIONS = [
  [/^val_batch(\d+)_pred/, "Predictions, validation batch $1"],
  [/^val_batch(\d+)_calibrated/, "Distances after calibration, validation batch $1"],
  [/^val_batch(\d+)_labels/, "Labels, validation batch $1"],
  [/^train_batch(\d+)/, "Training batch $1"],
  [/^confusion_matrix_normalized/, "Confusion matrix, normalized"],
  [/^confusion_matrix/, "Confusion matrix"],
  [/^iou_bar_chart/, "Intersection over union of each class"],
  [/^results/, "Results"],
  [/^labels_correlogram/, "Label correlogram"],
  [/^labels/, "Labels"],
  [/^Box_?(PR|F1|P|R)_curve/, "$1 curve of boxes"],
  [/^Mask_?(PR|F1|P|R)_curve/, "$1 curve of masks"],
  [/^Pose_?(PR|F1|P|R)_curve/, "$1 curve of keypoints"],
];

/** @param {{ job: Job }} props */
export function Pictures({ job }) {
  /** @type {(signal: AbortSignal) => Promise<Api.Pictures>} */
  const load = (signal) => fetchJson(trainingUrl(["jobs", job.job_id, "pictures"]), { signal });
  const { data, problem, again } = usePolled(load, isActive(job) ? 20 : null);
  const pictures = predictionsFirst(data?.pictures ?? []);
  const shown = pictures.map((picture) => ({
    url: trainingUrl(["jobs", job.job_id, "pictures", picture.name]),
    caption: captionOf(picture.name),
    about: `${picture.name}, ${formatBytes(picture.size)}`,
  }));
  const none = data && pictures.length === 0;
  if (none && !isActive(job)) return null;
  return html`<section class="section" aria-labelledby="pictures">
    <h2 id="pictures">Pictures</h2>
    <${ProblemNote} problem=${data ? null : problem} again=${again} />
    ${none && html`<${Note}>Sample predictions and Ultralytics’ plots appear when training has finished.</${Note}>`}
    <${Gallery} pictures=${shown} />
  </section>`;
}

/**
 * Put predictions first, because users want to see them first; all other pictures keep the server's order.
 * @param {Api.Picture[]} pictures
 */
function predictionsFirst(pictures) {
  const isPrediction = (/** @type {Api.Picture} */ { name }) => PREDICTIONS.test(name);
  return [...pictures.filter(isPrediction), ...pictures.filter((each) => !isPrediction(each))];
}

/** @param {string} name */
export function captionOf(name) {
  const stem = name.replace(/\.\w+$/, "");
  for (const [pattern, caption] of CAPTIONS) {
    const found = stem.match(pattern);
    if (found) return found[0].replace(pattern, caption);
  }
  return stem.replaceAll("_", " ");
}
