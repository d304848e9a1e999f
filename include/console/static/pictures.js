// @ts-check
// Ultralytics' pictures of a training: sample predictions first; each can be enlarged.
import { html, useEffect, useRef, useState } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { Note, ProblemNote } from "./elements.js";
import { formatBytes } from "./format.js";
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
  [/^(?:Box|Mask|Pose)?_?(PR|F1|P|R)_curve/, "$1 curve"],
];

/** @param {{ job: Job }} props */
export function Pictures({ job }) {
  /** @type {(signal: AbortSignal) => Promise<Api.Pictures>} */
  const load = (signal) => fetchJson(trainingUrl(["jobs", job.job_id, "pictures"]), { signal });
  const { data, problem, again } = usePolled(load, isActive(job) ? 20 : null);
  const [opened, setOpened] = useState(/** @type {number | null} */ (null));
  const pictures = predictionsFirst(data?.pictures ?? []);
  const none = data && pictures.length === 0;
  if (none && !isActive(job)) return null;
  return html`<section class="section" aria-labelledby="pictures">
    <h2 id="pictures">Pictures</h2>
    <${ProblemNote} problem=${data ? null : problem} again=${again} />
    ${none && html`<${Note}>Sample predictions and Ultralytics’ plots appear when the training has finished.</${Note}>`}
    <ul class="gallery">${pictures.map(
      (picture, index) => html`<li key=${picture.name}>
      <button type="button" onClick=${() => setOpened(index)}>
        <img src=${urlOf(job, picture)} alt=${captionOf(picture.name)} loading="lazy" decoding="async" />
        <span aria-hidden="true">${captionOf(picture.name)}</span>
      </button></li>`,
    )}</ul>
    ${
      opened !== null &&
      pictures[opened] &&
      html`<${Large} job=${job} pictures=${pictures} index=${opened} show=${setOpened} />`
    }
  </section>`;
}

/**
 * @param {object} props
 * @param {Job} props.job
 * @param {Api.Picture[]} props.pictures
 * @param {number} props.index which of them is shown
 * @param {(index: number | null) => void} props.show show another one; null: close
 */
function Large({ job, pictures, index, show }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  const picture = pictures[index];
  const step = (/** @type {number} */ by) => show((index + by + pictures.length) % pictures.length);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  };
  const close = () => dialog.current?.close();
  const onClick = (/** @type {Event} */ event) => event.target === dialog.current && close();
  return html`<dialog ref=${dialog} class="large" aria-label=${captionOf(picture.name)} onClose=${() => show(null)}
    onKeyDown=${onKeyDown} onClick=${onClick}>
    <div>
      <header><strong>${captionOf(picture.name)}</strong>
        <span class="muted">${picture.name}, ${formatBytes(picture.size)}</span>
        <button type="button" class="button small" onClick=${() => step(-1)}>Previous</button>
        <button type="button" class="button small" onClick=${() => step(1)}>Next</button>
        <button type="button" class="button small" onClick=${close}>Close</button></header>
      <img src=${urlOf(job, picture)} alt=${captionOf(picture.name)} />
    </div>
  </dialog>`;
}

/**
 * @param {Job} job
 * @param {Api.Picture} picture
 */
function urlOf(job, { name }) {
  return trainingUrl(["jobs", job.job_id, "pictures", name]);
}

/**
 * What people want to see first; the rest in the server's order.
 * @param {Api.Picture[]} pictures
 */
function predictionsFirst(pictures) {
  const isPrediction = (/** @type {Api.Picture} */ { name }) => PREDICTIONS.test(name);
  return [...pictures.filter(isPrediction), ...pictures.filter((each) => !isPrediction(each))];
}

/** @param {string} name */
function captionOf(name) {
  const stem = name.replace(/\.\w+$/, "");
  for (const [pattern, caption] of CAPTIONS) {
    const found = stem.match(pattern);
    if (found) return found[0].replace(pattern, caption);
  }
  return stem.replaceAll("_", " ");
}
