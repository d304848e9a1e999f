// @ts-check
// The form that uploads a dataset (a .zip, an .ndjson export or a folder) and starts the dataset's check.
/** @import { Problem } from "./api.js" */
/** @import { LocalFile } from "./dropped-files.js" */
/** @import { InputChange } from "./h.js" */
/** @import { FormField } from "./parameters.js" */
import { html, useEffect, useRef, useState } from "./h.js";
import { fetchJson, queryString, REGISTER_DAG, trainingUrl } from "./api.js";
import { DropArea, FileButton } from "./drop-area.js";
import { filesOfDrop, filesOfInput } from "./dropped-files.js";
import { Note, ProblemNote } from "./elements.js";
import { valueOf } from "./field.js";
import { formatBytes, formatCount } from "./format.js";
import { useForm } from "./parameters.js";
import { uploadDataset } from "./upload.js";

/**
 * @typedef {{ step: "none" }
 *   | { step: "sending", sent: number, total: number }
 *   | { step: "refused", problem: Problem }} UploadState
 */

/**
 * @param {object} props
 * @param {string} [props.name] name of the dataset that gets a new version; if omitted, the user enters a name
 * @param {string} [props.task] the task of the dataset's other versions
 */
export function UploadForm({ name: fixedName, task: usualTask = "detect" }) {
  const [name, setName] = useState(fixedName ?? "");
  const [task, setTask] = useState(usualTask);
  const [note, setNote] = useState("");
  const [files, setFiles] = useState(/** @type {LocalFile[]} */ ([]));
  const [missing, setMissing] = useState("");
  const { upload, send, cancel } = useUpload();
  const { fields, problem: unread, again } = useForm(REGISTER_DAG);
  const busy = upload.step === "sending";
  const take = (/** @type {LocalFile[]} */ taken) => {
    setFiles(taken);
    setMissing(taken.length ? "" : "There is nothing to upload: the folder contains only hidden files and caches.");
    if (!name && taken.length === 1) setName(nameOf(taken[0]));
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const problem = problemOf(name, files, fields);
    setMissing(problem);
    if (!problem) send(files, { name, task, note });
  };
  const text = (/** @type {(value: string) => void} */ set) => (/** @type {InputChange} */ event) =>
    set(event.currentTarget.value);
  return html`<form class="upload" noValidate onSubmit=${submit}>
    <${Choice} files=${files} take=${take} busy=${busy} />
    <div class="upload-fields">
      ${
        !fixedName &&
        html`<label class="field"><span>Name</span><input name="name" value=${name} disabled=${busy} autocomplete="off"
        spellcheck=${false} autocapitalize="off" onInput=${text(setName)} /></label>`
      }
      <${TaskField} fields=${fields} task=${task} set=${setTask} disabled=${busy} />
      <label class="field"><span>Note</span><input name="note" value=${note} disabled=${busy} autocomplete="off"
        placeholder="what this version contains or changes" maxlength="1000" onInput=${text(setNote)} /></label>
      <button class="button primary" disabled=${busy || !fields.length}>Upload and check</button>
    </div>
    <${ProblemNote} problem=${unread} again=${again} />
    ${missing && html`<p class="error" role="alert">${missing}</p>`}
    <${Progress} upload=${upload} cancel=${cancel} />
  </form>`;
}

/** Sends the files, starts the check and then opens the page that shows the check. */
function useUpload() {
  const [upload, setUpload] = useState(/** @type {UploadState} */ ({ step: "none" }));
  const stop = useRef(/** @type {AbortController | null} */ (null));
  useEffect(() => {
    const warn = (/** @type {BeforeUnloadEvent} */ event) => stop.current && event.preventDefault();
    window.addEventListener("beforeunload", warn);
    return () => {
      window.removeEventListener("beforeunload", warn);
      stop.current?.abort();
    };
  }, []);
  /** @type {(files: LocalFile[], wanted: { name: string, task: string, note: string }) => Promise<void>} */
  const send = async (files, { name, task, note }) => {
    const own = new AbortController();
    stop.current = own;
    try {
      const report = (/** @type {number} */ sent, /** @type {number} */ total) =>
        own.signal.aborted || setUpload({ step: "sending", sent, total });
      const { id, source, forget } = await uploadDataset(files, report, own.signal);
      const body = { source, task, note: note.trim() || null };
      const url = trainingUrl(["datasets", name, "versions"]);
      /** @type {Api.RegistrationStarted} */
      const { run_id: registration } = await fetchJson(url, { method: "POST", body });
      forget();
      stop.current = null;
      location.assign(`dataset${queryString({ name, registration, task, upload: id })}`);
    } catch (problem) {
      const paused = own.signal.aborted;
      stop.current = null;
      setUpload(paused ? { step: "none" } : { step: "refused", problem: /** @type {Problem} */ (problem) });
    }
  };
  return { upload, send, cancel: () => stop.current?.abort() };
}

/** @param {{ files: LocalFile[], take: (files: LocalFile[]) => void, busy: boolean }} props */
function Choice({ files, take, busy }) {
  const drop = async (/** @type {DataTransfer} */ dropped) => take(await filesOfDrop(dropped));
  const choose = (/** @type {FileList} */ chosen) => take(filesOfInput(chosen));
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const what = files.length === 1 ? files[0].path : `${formatCount(files.length)} files`;
  return html`<${DropArea} busy=${busy} take=${drop}>
    <${FileButton} busy=${busy} take=${choose} accept=".zip,.ndjson" aria-label="Dataset file">
      Choose a file</${FileButton}>
    <${FileButton} busy=${busy} take=${choose} webkitdirectory aria-label="Dataset folder">
      Choose a folder</${FileButton}>
    <span class="muted" role="status">${files.length ? `${what}, ${formatBytes(total)}` : "or drop one here"}</span>
  </${DropArea}>`;
}

/** @param {{ fields: FormField[], task: string, set: (task: string) => void, disabled: boolean }} props */
function TaskField({ fields, task, set, disabled }) {
  const tasks = fields.find(({ name }) => name === "task")?.schema.enum?.filter(Boolean) ?? [task];
  const onChange = (/** @type {Event & { currentTarget: HTMLSelectElement }} */ event) =>
    set(event.currentTarget.value);
  return html`<label class="field"><span>Task</span><select name="task" disabled=${disabled} onChange=${onChange}>
    ${tasks.map((each) => html`<option value=${each} selected=${each === task}>${each}</option>`)}
  </select></label>`;
}

/** @param {{ upload: UploadState, cancel: () => void }} props */
function Progress({ upload, cancel }) {
  if (upload.step === "refused") return html`<${ProblemNote} problem=${upload.problem} />`;
  if (upload.step === "none") return null;
  const { sent, total } = upload;
  const percent = total ? Math.floor((sent / total) * 100) : 100;
  return html`<${Note}>
    <p>Uploading: ${percent} % of ${formatBytes(total)}. If the upload is interrupted, choose the same files again
      to continue.</p>
    <progress max="100" value=${percent} aria-label="Upload" />
    <button type="button" class="button small" onClick=${cancel}>Pause</button>
  </${Note}>`;
}

/**
 * A sentence that says what is still missing; empty if nothing is.
 * @param {string} name
 * @param {LocalFile[]} files
 * @param {FormField[]} fields parameters of register_dataset, whose schemas define valid names
 */
function problemOf(name, files, fields) {
  if (!files.length) return "Choose a .zip, an .ndjson export or a folder first.";
  const field = fields.find((each) => each.name === "name");
  if (field && name && !valueOf(field, name).error) return "";
  return `Enter a name. ${field?.about ?? ""}`.trim();
}

/** @param {LocalFile} file */
function nameOf({ path }) {
  const stem =
    path
      .split("/")
      .at(-1)
      ?.replace(/\.\w+$/, "") ?? "";
  return stem
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 128);
}
