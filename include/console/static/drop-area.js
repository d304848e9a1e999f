// @ts-check
// An area on which a user can drop files, with buttons that choose files instead.
/** @import { Children, InputChange } from "./h.js" */
import { html, useRef, useState } from "./h.js";

/** @param {{ busy: boolean, take: (dropped: DataTransfer) => void, children?: Children }} props */
export function DropArea({ busy, take, children }) {
  const [over, setOver] = useState(false);
  const onDrop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(false);
    if (event.dataTransfer && !busy) take(event.dataTransfer);
  };
  const onDragOver = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(true);
  };
  return html`<div class=${`drop ${over ? "over" : ""}`} onDragOver=${onDragOver} onDragLeave=${() => setOver(false)}
    onDrop=${onDrop}>${children}</div>`;
}

/**
 * A button that opens the browser's file dialog. Other properties, such as `accept`, are passed to the input.
 * @param {{ busy: boolean, take: (files: FileList) => void, children?: Children } & Record<string, unknown>} props
 */
export function FileButton({ busy, take, children, ...attributes }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const onChange = (/** @type {InputChange} */ { currentTarget }) => {
    if (currentTarget.files?.length) take(currentTarget.files);
    currentTarget.value = ""; // Otherwise choosing the same file again would have no effect.
  };
  return html`<input ref=${input} type="file" hidden onChange=${onChange} ...${attributes} />
    <button type="button" class="button" disabled=${busy} onClick=${() => input.current?.click()}>${children}</button>`;
}
