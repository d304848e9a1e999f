// @ts-check
// Alternatives to filling in the form: paste a yolo command, or copy a request or a command for a terminal.
/** @import { FormField } from "./parameters.js" */
import { html, useState } from "./h.js";
import { Copy } from "./elements.js";
import { commandOf, readCommand, requestOf } from "./yolo-command.js";

const EXAMPLE = "yolo detect train data=digits model=yolo11n epochs=100";

/** @param {{ fields: FormField[], fill: (texts: Record<string, string>) => void }} props */
export function PasteCommand({ fields, fill }) {
  const [message, setMessage] = useState("");
  const read = (/** @type {string} */ line) => {
    const found = readCommand(line, fields);
    if (!found) {
      setMessage(`This is not a yolo command. Example: ${EXAMPLE}`);
      return;
    }
    fill(found.texts);
    const names = Object.keys(found.texts).join(", ") || "nothing";
    const ignored = found.ignored.join(", ");
    setMessage(`Filled in: ${names}.${ignored && ` Ignored (set automatically): ${ignored}.`}`);
  };
  const onClick = (/** @type {Event & { currentTarget: HTMLButtonElement }} */ event) => {
    const input = event.currentTarget.form?.elements.namedItem("command");
    if (input instanceof HTMLInputElement) read(input.value);
  };
  const onPaste = (/** @type {ClipboardEvent} */ event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (/^\s*yolo\s/.test(text)) setTimeout(() => read(text));
  };
  const onKeyDown = (/** @type {KeyboardEvent & { currentTarget: HTMLInputElement }} */ event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    read(event.currentTarget.value);
  };
  return html`<div class="card paste">
    <label for="command">Paste a yolo train command to fill in the form</label>
    <div class="line"><input id="command" name="command" type="text" autocomplete="off" autocapitalize="off"
        spellcheck=${false} placeholder="yolo detect train data=… model=… epochs=…" aria-describedby="command-result"
        onPaste=${onPaste} onKeyDown=${onKeyDown} />
      <button type="button" class="button" onClick=${onClick}>Fill in</button></div>
    <p class="muted" id="command-result" role="status">${message}</p>
  </div>`;
}

/** @param {{ conf: Record<string, unknown>, fields: FormField[] }} props */
export function Equivalents({ conf, fields }) {
  const plain = "Plain Ultralytics, without exact resume or records";
  return html`<details class="card equivalents"><summary>Start the same training run from a terminal</summary>
    <${Text} title="Airflow’s REST API" text=${requestOf(conf)} />
    ${!conf.resume_from && html`<${Text} title=${plain} text=${commandOf(conf, fields)} />`}
  </details>`;
}

/** @param {{ title: string, text: string }} props */
function Text({ title, text }) {
  return html`<div class="section-heading"><h3>${title}</h3>
      <${Copy} text=${text} name=${`Copy: ${title}`}>Copy</${Copy}></div>
    <pre tabindex="0"><code>${text}</code></pre>`;
}
