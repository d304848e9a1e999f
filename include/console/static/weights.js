// @ts-check
// Pretrained weights: the files that are stored for all jobs, and an area on which a user can drop another file.
/** @import { Problem } from "./api.js" */
import { html, useState } from "./h.js";
import { fetchJson, trainingUrl, uploadFile } from "./api.js";
import { DropArea, FileButton } from "./drop-area.js";
import { Head, Note, ProblemNote, When } from "./elements.js";
import { formatBytes } from "./format.js";
import { usePolled } from "./live.js";

/**
 * @typedef {{ step: "none" }
 *   | { step: "sending", file: File, share: number }
 *   | { step: "stored", answer: Api.StoredFile }
 *   | { step: "refused", file: File, problem: Problem }} UploadState
 */

const startPage = (/** @type {string} */ name) => `start?model=${encodeURIComponent(name)}`;

/** @param {{ mayStart: boolean | null }} props */
export function PretrainedWeights({ mayStart }) {
  /** @type {(signal: AbortSignal) => Promise<Api.PretrainedFiles>} */
  const load = (signal) => fetchJson(trainingUrl(["pretrained"]), { signal });
  const { data, problem, again } = usePolled(load, 30);
  return html`<section class="section" aria-labelledby="pretrained"><h2 id="pretrained">Pretrained weights</h2>
    <p class="muted">Any training run can start from these files: enter a file’s name as <code>model</code>. A file
      that Ultralytics publishes is added the first time a training run uses it.</p>
    ${mayStart && html`<${DropZone} stored=${again} />`}
    <${ProblemNote} problem=${problem} again=${again} />
    ${data && data.files.length > 0 && html`<${Files} files=${data.files} mayStart=${mayStart} />`}
    ${data?.truncated && html`<p class="muted">Only the first files, sorted by name, are shown.</p>`}
  </section>`;
}

/** @param {{ files: Api.PretrainedFile[], mayStart: boolean | null }} props */
function Files({ files, mayStart }) {
  const link = (/** @type {string} */ name) =>
    html`<a href=${startPage(name)} aria-label=${`Train from ${name}`}>Train from this file</a>`;
  return html`<div class="scroller"><table aria-label="Pretrained weights">
    <${Head} columns=${["Name", "Size", "Stored", ""]} />
    <tbody>${files.map(
      ({ name, size, stored_at: storedAt }) => html`<tr key=${name}>
      <th scope="row">${name}</th><td class="number">${formatBytes(size)}</td><td><${When} at=${storedAt} /></td>
      <td>${mayStart && link(name)}</td></tr>`,
    )}</tbody>
  </table></div>`;
}

/** @param {{ stored: () => void }} props stored: called after a file was stored */
function DropZone({ stored }) {
  const [upload, setUpload] = useState(/** @type {UploadState} */ ({ step: "none" }));
  const store = async (/** @type {File} */ file, replace = false) => {
    setUpload({ step: "sending", file, share: 0 });
    try {
      const progress = (/** @type {number} */ share) => setUpload({ step: "sending", file, share });
      const url = trainingUrl(["pretrained", file.name], { replace: replace || "" });
      /** @type {Api.StoredFile} */
      const answer = await uploadFile(url, file, progress);
      setUpload({ step: "stored", answer });
      stored();
    } catch (error) {
      setUpload({ step: "refused", file, problem: /** @type {Problem} */ (error) });
    }
  };
  const take = (/** @type {FileList} */ files) => {
    if (files.length) store(files[0]);
  };
  const busy = upload.step === "sending";
  const replace = () => {
    if (upload.step === "refused") store(upload.file, true);
  };
  return html`<${DropArea} busy=${busy} take=${(/** @type {DataTransfer} */ { files }) => take(files)}>
      <${FileButton} busy=${busy} take=${take} accept=".pt" aria-label="Weights file">Choose a .pt file</${FileButton}>
      <span class="muted">or drop one here. The file is inspected; no code in it is executed.</span>
    </${DropArea}>
    <${Upload} upload=${upload} replace=${replace} keep=${() => setUpload({ step: "none" })} />`;
}

/** @param {{ upload: UploadState, replace: () => void, keep: () => void }} props */
function Upload({ upload, replace, keep }) {
  if (upload.step === "sending") {
    const { file, share } = upload;
    const percent = Math.round(share * 100);
    const sent = `Uploading ${file.name}: ${percent} % of ${formatBytes(file.size)}`;
    return html`<div role="status">${share < 1 ? sent : `Inspecting and storing ${file.name}…`}
      <progress max="100" value=${percent} aria-label=${`Upload of ${file.name}`} /></div>`;
  }
  if (upload.step === "stored") {
    const { name, sha256 } = upload.answer;
    return html`<${Note} kind="success" title=${`${name} has been stored`}>
      <p>SHA-256 <code>${sha256}</code></p>
      <a class="button" href=${startPage(name)}>Train from this file</a></${Note}>`;
  }
  if (upload.step === "none") return null;
  const { file, problem } = upload;
  return html`<${ProblemNote} problem=${problem} />
    ${
      problem.status === 409 &&
      html`<div class="confirm" role="group" aria-label=${`Replace ${file.name}`}>
      <button type="button" class="button danger" onClick=${replace}>Replace it for future jobs</button>
      <button type="button" class="button quiet" onClick=${keep}>Keep the stored file</button></div>`
    }`;
}
