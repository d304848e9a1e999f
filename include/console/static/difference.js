// @ts-check
// The differences between two versions of a dataset: images, labels, classes.
import { html } from "./h.js";
import { fetchJson, trainingUrl } from "./api.js";
import { Note, Pending, ProblemNote } from "./elements.js";
import { formatCount } from "./format.js";
import { usePolled } from "./live.js";

/**
 * Kinds of changes, with their titles.
 * @type {Array<[name: "added" | "removed" | "changed" | "labels_changed" | "moved", title: string]>}
 */
const KINDS = [
  ["added", "Images added"],
  ["removed", "Images removed"],
  ["changed", "Images changed"],
  ["labels_changed", "Labels changed"],
  ["moved", "Moved to another split"],
];

/**
 * @param {object} props
 * @param {string} props.name
 * @param {number} props.version
 * @param {string | null} props.base the version to compare with; null for the previous version
 */
export function Difference({ name, version, base }) {
  const load = (/** @type {AbortSignal} */ signal) =>
    base ? Promise.resolve(base) : findBefore(name, version, signal);
  const { data: number, problem, again } = usePolled(load, null);
  return html`<section class="section" aria-labelledby="difference">
    <div class="section-heading"><h2 id="difference">Differences${number && ` from version ${number}`}</h2>
      ${number !== undefined && html`<${Choice} name=${name} version=${version} base=${number} />`}</div>
    <${ProblemNote} problem=${problem} again=${again} />
    ${number && html`<${Found} name=${name} version=${version} base=${number} />`}
    ${number === null && html`<p class="muted">There is no earlier version.</p>`}
  </section>`;
}

/**
 * Find the previous version; null if there is none. Version numbers have gaps where versions were deleted.
 * @param {string} name
 * @param {number} version
 * @param {AbortSignal} signal
 */
async function findBefore(name, version, signal) {
  /** @type {Api.DatasetVersionsPage} */
  const { versions } = await fetchJson(trainingUrl(["datasets", name], { before: version, limit: 1 }), { signal });
  return versions.length ? String(versions[0].version) : null;
}

/** @param {{ name: string, version: number, base: string | null }} props */
function Choice({ name, version, base }) {
  return html`<form class="base" action="dataset" method="get" aria-label="Compare with another version">
    <input type="hidden" name="name" value=${name} /><input type="hidden" name="version" value=${version} />
    <label>Compare with version <input name="base" defaultValue=${base ?? ""} inputmode="numeric" pattern="[0-9]+"
      required autocomplete="off" /></label>
    <button class="button small">Compare</button></form>`;
}

/** @param {{ name: string, version: number, base: string }} props */
function Found({ name, version, base }) {
  /** @type {(signal: AbortSignal) => Promise<Api.DatasetDifference>} */
  const load = (signal) => {
    const path = ["datasets", name, "versions", String(version), "difference"];
    return fetchJson(trainingUrl(path, { base }), { signal });
  };
  const { data, problem, again } = usePolled(load, null);
  if (!data) return html`<${Pending} loaded=${false} problem=${problem} again=${again} />`;
  return html`${
    data.files
      ? html`<${Files} files=${data.files} />`
      : html`<p class="muted">The files cannot be compared, because those of one version were not recorded.</p>`
  }
  ${data.classes && html`<${Classes} classes=${data.classes} />`}`;
}

/** @param {{ files: Api.FileDifference }} props */
function Files({ files }) {
  return html`<div class="differences">${KINDS.map(([kind, title]) => {
    const { count, examples } = files[kind];
    return html`<details key=${kind} class="card">
      <summary>${title}: <span class="number">${formatCount(count)}</span></summary>
      ${count === 0 && html`<p class="muted">None.</p>`}
      <ul>${examples.map((image) => html`<li key=${pathOf(image)}><code>${pathOf(image)}</code></li>`)}</ul>
      ${count > examples.length && html`<p class="muted">and ${formatCount(count - examples.length)} more</p>`}
    </details>`;
  })}</div>`;
}

/** @param {Api.ChangedImage} image */
function pathOf({ split, name, moved_from: before }) {
  return `${split}/${name}${before ? `, previously in ${before}` : ""}`;
}

/** @param {{ classes: Api.ClassDifference }} props */
function Classes({ classes: { changes, renumbered } }) {
  if (!changes.length && !renumbered) return html`<p class="muted">The class counts are unchanged.</p>`;
  return html`
    ${
      renumbered &&
      html`<${Note} kind="warning">Class ids have changed. A training run on one of these versions cannot be resumed
      with the other.</${Note}>`
    }
    <div class="scroller" tabindex="0" role="group" aria-label="Table of classes that changed">
    <table class="classes" aria-label="Classes that changed">
      <thead><tr><th scope="col">Class</th><th scope="col" class="number">train</th>
        <th scope="col" class="number">val</th></tr></thead>
      <tbody>${changes.map(
        ({ name, before, after }) => html`<tr key=${name}><th scope="row">${name}
          ${!before && html` <span class="tag">new</span>`}${!after && html` <span class="tag">removed</span>`}</th>
        <td class="number">${change(before?.train, after?.train)}</td>
        <td class="number">${change(before?.val, after?.val)}</td></tr>`,
      )}</tbody></table></div>`;
}

/**
 * @param {number | undefined} before
 * @param {number | undefined} after
 */
function change(before = 0, after = 0) {
  const sign = after > before ? "+" : "";
  return `${formatCount(before)} → ${formatCount(after)} (${sign}${formatCount(after - before)})`;
}
