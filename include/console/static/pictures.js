// Ultralytics' own pictures of a training: sample predictions first, each larger when it is asked for.
import { html, useEffect, useRef, useState } from "./h.js";
import { ask, training } from "./api.js";
import { Note, Refused } from "./elements.js";
import { size } from "./format.js";
import { isActive, usePolled } from "./live.js";

const PREDICTIONS = /^val_batch\d+_pred/;

const WORDS = [
  [/^val_batch(\d+)_pred/, "Predictions, validation batch $1"],
  [/^val_batch(\d+)_labels/, "Labels, validation batch $1"],
  [/^train_batch(\d+)/, "Training batch $1"],
  [/^confusion_matrix_normalized/, "Confusion matrix, normalized"],
  [/^confusion_matrix/, "Confusion matrix"],
  [/^results/, "Results"],
  [/^labels_correlogram/, "Correlation of labels"],
  [/^labels/, "Labels"],
  [/^(?:Box|Mask|Pose)?_?(PR|F1|P|R)_curve/, "$1 curve"],
];

export function Pictures({ job }) {
  const load = (signal) => ask(training(["jobs", job.job_id, "pictures"]), { signal });
  const { data, problem, again } = usePolled(load, isActive(job) ? 20 : null);
  const [opened, setOpened] = useState(null);
  const pictures = predictionsFirst(data?.pictures ?? []);
  if (data && pictures.length === 0 && !isActive(job)) return null;
  return html`<section class="section" aria-labelledby="pictures">
    <h2 id="pictures">Pictures</h2>
    <${Refused} problem=${data ? null : problem} again=${again} />
    ${data && pictures.length === 0 && html`<${Note}>Sample predictions and Ultralytics’ plots are there when it has ended.</${Note}>`}
    <ul class="gallery">${pictures.map(
      (picture, index) => html`<li key=${picture.name}>
      <button type="button" onClick=${() => setOpened(index)}>
        <img src=${address(job, picture)} alt=${caption(picture.name)} loading="lazy" decoding="async" /><span aria-hidden="true">${caption(picture.name)}</span>
      </button></li>`,
    )}</ul>
    ${opened !== null && pictures[opened] && html`<${Large} job=${job} pictures=${pictures} index=${opened} show=${setOpened} />`}
  </section>`;
}

function Large({ job, pictures, index, show }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const picture = pictures[index];
  const step = (by) => show((index + by + pictures.length) % pictures.length);
  const keys = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
  };
  const outside = (event) => event.target === dialog.current && dialog.current.close();
  return html`<dialog ref=${dialog} class="large" aria-label=${caption(picture.name)} onClose=${() => show(null)} onKeyDown=${keys} onClick=${outside}>
    <div>
      <header><strong>${caption(picture.name)}</strong><span class="muted">${picture.name}, ${size(picture.size)}</span>
        <button type="button" class="button small" onClick=${() => step(-1)}>Previous</button>
        <button type="button" class="button small" onClick=${() => step(1)}>Next</button>
        <button type="button" class="button small" onClick=${() => dialog.current.close()}>Close</button></header>
      <img src=${address(job, picture)} alt=${caption(picture.name)} />
    </div>
  </dialog>`;
}

function address(job, { name }) {
  return training(["jobs", job.job_id, "pictures", name]);
}

/** What a person wants to see first; the rest as the server sorts it. */
function predictionsFirst(pictures) {
  const is = ({ name }) => PREDICTIONS.test(name);
  return [...pictures.filter(is), ...pictures.filter((each) => !is(each))];
}

function caption(name) {
  const [pattern, words] = WORDS.find(([each]) => each.test(name)) ?? [];
  const stem = name.replace(/\.\w+$/, "");
  return words ? stem.match(pattern)[0].replace(pattern, words) : stem.replaceAll("_", " ");
}
