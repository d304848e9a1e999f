// Other ways to the same training: a line to paste, and the same as a command and as a request.
import { html, useState } from "./h.js";
import { Copy } from "./elements.js";
import { commandOf, readCommand, requestOf } from "./yolo-command.js";

/** @param {{fields: object[], fill: (texts: Record<string, string>) => void}} given */
export function PasteCommand({ fields, fill }) {
  const [said, setSaid] = useState("");
  const read = (line) => {
    const found = readCommand(line, fields);
    if (!found) {
      setSaid("This is no line that begins with yolo, such as: yolo detect train data=digits model=yolo11n epochs=100");
      return;
    }
    fill(found.texts);
    const names = Object.keys(found.texts).join(", ") || "nothing";
    setSaid(
      `Filled in: ${names}.${found.left.length ? ` Left out, because it is decided here: ${found.left.join(", ")}.` : ""}`,
    );
  };
  const line = (event) => event.currentTarget.form.elements.command.value;
  const pasted = (event) => {
    const text = event.clipboardData?.getData("text") ?? "";
    if (/^\s*yolo\s/.test(text)) setTimeout(() => read(text));
  };
  const entered = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    read(event.currentTarget.value);
  };
  return html`<div class="card paste">
    <label for="command">Paste a yolo train command to fill in the form</label>
    <div class="line"><input id="command" name="command" type="text" autocomplete="off" autocapitalize="off" spellcheck=${false}
      placeholder="yolo detect train data=… model=… epochs=…" aria-describedby="command-said" onPaste=${pasted} onKeyDown=${entered} />
      <button type="button" class="button" onClick=${(event) => read(line(event))}>Fill in</button></div>
    <p class="muted" id="command-said" role="status">${said}</p>
  </div>`;
}

export function Equivalents({ conf }) {
  return html`<details class="card equivalents"><summary>The same from a terminal</summary>
    <${Text} title="Airflow’s REST API" text=${requestOf(conf)} />
    ${!conf.resume_from && html`<${Text} title="Plain Ultralytics, without exact resume and without records" text=${commandOf(conf)} />`}
  </details>`;
}

function Text({ title, text }) {
  return html`<div class="section-heading"><h3>${title}</h3><${Copy} text=${text} name=${`Copy: ${title}`}>Copy</${Copy}></div>
    <pre tabindex="0"><code>${text}</code></pre>`;
}
