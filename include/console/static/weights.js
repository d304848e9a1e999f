// Pretrained weights: the files that are stored for all jobs, and a place to drop another one.
import { html, useRef, useState } from "./h.js";
import { ask, send, training } from "./api.js";
import { Note, Refused, When } from "./elements.js";
import { size } from "./format.js";
import { usePolled } from "./live.js";

const START = (name) => `start?model=${encodeURIComponent(name)}`;

export function PretrainedWeights({ mayStart }) {
  const { data, problem, again } = usePolled((signal) => ask(training(["pretrained"]), { signal }), 30);
  return html`<section class="section" aria-labelledby="pretrained"><h2 id="pretrained">Pretrained weights</h2>
    <p class="muted">Any training can start from these files: give the name as <code>model</code>. A file that Ultralytics publishes is added
      when a training first asks for it.</p>
    ${mayStart && html`<${DropZone} stored=${again} />`}
    <${Refused} problem=${problem} again=${again} />
    ${
      data &&
      data.files.length > 0 &&
      html`<div class="scroller"><table aria-label="Pretrained weights">
      <thead><tr>${["Name", "Size", "Stored", ""].map((title) => html`<th scope="col">${title}</th>`)}</tr></thead>
      <tbody>${data.files.map(
        (file) => html`<tr key=${file.name}>
        <th scope="row">${file.name}</th><td class="number">${size(file.size)}</td><td><${When} at=${file.stored_at} /></td>
        <td>${mayStart && html`<a href=${START(file.name)} aria-label=${`Train from ${file.name}`}>Train from it</a>`}</td></tr>`,
      )}</tbody>
    </table></div>`
    }
    ${data?.truncated && html`<p class="muted">There are more: these are the first by name.</p>`}
  </section>`;
}

function DropZone({ stored }) {
  const input = useRef(null);
  const [over, setOver] = useState(false);
  const [upload, setUpload] = useState({ step: "none" });
  const store = async (file, replace) => {
    setUpload({ step: "sending", file, share: 0 });
    try {
      const progress = (share) => setUpload({ step: "sending", file, share });
      const answer = await send(training(["pretrained", file.name], { replace: replace || "" }), file, progress);
      setUpload({ step: "stored", answer });
      stored();
    } catch (problem) {
      setUpload({ step: "refused", file, problem });
    }
  };
  const take = (files) => files.length && store(files[0], false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  const drag = (event) => {
    event.preventDefault();
    setOver(true);
  };
  const busy = upload.step === "sending";
  return html`<div class=${`drop ${over ? "over" : ""}`} onDragOver=${drag} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <input ref=${input} type="file" accept=".pt" hidden aria-label="File of weights" onChange=${({
        currentTarget,
      }) => {
        take(currentTarget.files);
        currentTarget.value = "";
      }} />
      <button type="button" class="button" disabled=${busy} onClick=${() => input.current.click()}>Choose a .pt</button>
      <span class="muted">or drop it here. It is inspected, and nothing in it is run.</span>
    </div>
    <${Upload} upload=${upload} replace=${() => store(upload.file, true)} keep=${() => setUpload({ step: "none" })} />`;
}

function Upload({ upload: { step, file, share, answer, problem }, replace, keep }) {
  if (step === "sending") {
    const sent = Math.round(share * 100);
    return html`<div role="status">${share < 1 ? `${file.name}: ${sent} % of ${size(file.size)} sent` : `${file.name} is inspected and stored…`}
      <progress max="100" value=${sent} aria-label=${`Upload of ${file.name}`} /></div>`;
  }
  if (step === "stored") {
    return html`<${Note} kind="success" title=${`${answer.name} is stored`}>
      <p>SHA-256 <code>${answer.sha256}</code></p><a class="button" href=${START(answer.name)}>Train from it</a></${Note}>`;
  }
  if (step !== "refused") return null;
  return html`<${Refused} problem=${problem} />
    ${
      problem.status === 409 &&
      html`<div class="confirm" role="group" aria-label=${`Replace ${file.name}`}>
      <button type="button" class="button danger" onClick=${replace}>Replace it for the jobs to come</button>
      <button type="button" class="button quiet" onClick=${keep}>Keep it</button></div>`
    }`;
}
