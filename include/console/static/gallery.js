// @ts-check
// A row of small pictures that can be enlarged.
import { html, useEffect, useRef, useState } from "./h.js";

/**
 * @typedef {object} Shown a picture in a gallery
 * @property {string} url
 * @property {string} caption
 * @property {string} about text beside the caption of the enlarged picture
 */

/** @param {{ pictures: Shown[] }} props */
export function Gallery({ pictures }) {
  const [opened, setOpened] = useState(/** @type {number | null} */ (null));
  return html`<ul class="gallery">${pictures.map(
    ({ url, caption }, index) => html`<li key=${url}>
      <button type="button" onClick=${() => setOpened(index)}>
        <img src=${url} alt=${caption} loading="lazy" decoding="async" />
        <span aria-hidden="true">${caption}</span>
      </button></li>`,
  )}</ul>
  ${opened !== null && pictures[opened] && html`<${Large} pictures=${pictures} index=${opened} show=${setOpened} />`}`;
}

/**
 * @param {object} props
 * @param {Shown[]} props.pictures
 * @param {number} props.index index of the enlarged picture
 * @param {(index: number | null) => void} props.show enlarge another picture; null to close
 */
function Large({ pictures, index, show }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  const { url, caption, about } = pictures[index];
  const step = (/** @type {number} */ by) => show((index + by + pictures.length) % pictures.length);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  };
  const close = () => dialog.current?.close();
  const onClick = (/** @type {Event} */ event) => event.target === dialog.current && close();
  return html`<dialog ref=${dialog} class="large" aria-label=${caption} onClose=${() => show(null)}
    onKeyDown=${onKeyDown} onClick=${onClick}>
    <div>
      <header><strong>${caption}</strong>
        <span class="muted">${about}</span>
        <button type="button" class="button small" onClick=${() => step(-1)}>Previous</button>
        <button type="button" class="button small" onClick=${() => step(1)}>Next</button>
        <button type="button" class="button small" onClick=${close}>Close</button></header>
      <img src=${url} alt=${caption} />
    </div>
  </dialog>`;
}
