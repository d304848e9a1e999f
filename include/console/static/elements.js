// @ts-check
// Small components that several pages use.
/** @import { Children } from "./h.js" */
/** @import { Problem } from "./api.js" */
import { html, useRef, useState } from "./h.js";
import { AirflowLink, LOGIN } from "./outside.js";
import { formatAge, formatDateTime, formatNumber, formatRemaining } from "./format.js";
import { finishedEpochs, timeLeft, trainedEpochs } from "./progress.js";

/** @type {Record<string, [colour: string, path: string]>} */
const STATUS = {
  completed: ["success", "M20 6 9 17l-5-5"],
  running: ["running", "M5 12a7 7 0 1 0 7-7"],
  failed: ["failed", "M18 6 6 18M6 6l12 12"],
  queued: ["queued", "M12 6v6l4 2"],
  stopped: ["warning", "M8 8h8v8H8z"],
  // Airflow's states of runs and tasks, and the stages of models
  success: ["success", "M20 6 9 17l-5-5"],
  upstream_failed: ["warning", "M18 6 6 18M6 6l12 12"],
  up_for_retry: ["warning", "M5 12a7 7 0 1 0 7-7"],
  production: ["success", "M20 6 9 17l-5-5"],
  candidate: ["running", "M12 6v6l4 2"],
  rejected: ["failed", "M18 6 6 18M6 6l12 12"],
};

/**
 * A state with the colour, icon and word that Airflow uses.
 * @param {{ of: string | null }} props
 */
export function Status({ of: state }) {
  const [colour, path] = STATUS[state ?? ""] ?? ["queued", "M7 12h10"];
  return html`<span class="status status-${colour} ${state === "running" ? "turns" : ""}">
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d=${path} /></svg>${(state ?? "unknown").replaceAll("_", " ")}
  </span>`;
}

/**
 * A progress bar of the trained epochs.
 * @param {{ job: Api.TrainingJobResponse, name?: string }} props
 */
export function Progress({ job, name = "Progress" }) {
  const { epochs } = job.progress;
  const finished = finishedEpochs(job);
  const share = epochs ? Math.min(1, trainedEpochs(job) / epochs) : 0;
  const left = formatRemaining(timeLeft(job));
  const text = `${finished} of ${epochs ?? "an unknown number of"} epochs${left ? `, ${left} left` : ""}`;
  const [colour] = STATUS[job.status ?? ""] ?? ["queued"];
  return html`<div class="progress progress-${colour}" role="progressbar" aria-label=${name}
    aria-valuemin="0" aria-valuemax=${epochs ?? 100} aria-valuenow=${finished} aria-valuetext=${text}>
    <div style=${{ width: `${share * 100}%` }} />
  </div>`;
}

/**
 * A time relative to now; the tooltip shows the exact time.
 * @param {{ at: string | null | undefined }} props
 */
export function When({ at }) {
  return at ? html`<time datetime=${at} title=${formatDateTime(at)}>${formatAge(at)}</time>` : html`<span>–</span>`;
}

/** @type {Record<string, string>} */
const NOTE_ROLES = { failed: "alert", warning: "status" };

/**
 * A message to the user.
 * @param {{ kind?: "info" | "success" | "warning" | "failed", title?: string, children?: Children }} props
 */
export function Note({ kind = "info", title, children }) {
  return html`<div class="note note-${kind}" role=${NOTE_ROLES[kind] ?? "note"}>
    ${title && html`<strong>${title}</strong>`}<div>${children}</div>
  </div>`;
}

/**
 * A text with several lines: line breaks are kept, and lines that begin with a bullet become a list.
 * @param {{ text: string, name: string }} props name: name of the text on the copy button
 */
export function Lines({ text, name }) {
  /** @type {Array<string | string[]>} */
  const blocks = [];
  for (const line of text.split("\n")) {
    const item = line.match(/^\s*[-*•]\s+(.*)/);
    const last = blocks.at(-1);
    if (!item) blocks.push(line);
    else if (Array.isArray(last)) last.push(item[1]);
    else blocks.push([item[1]]);
  }
  const list = (/** @type {string[]} */ items) => html`<ul>${items.map((each) => html`<li>${each}</li>`)}</ul>`;
  return html`<div class="lines">
    ${blocks.map((block) => (Array.isArray(block) ? list(block) : html`<p>${block}</p>`))}
    <${Copy} text=${text} name=${`Copy ${name}`}>Copy</${Copy}></div>`;
}

/** @type {Record<number, string>} */
const PROBLEM_TITLES = {
  0: "No connection",
  401: "Not logged in",
  403: "Permission denied",
  404: "Not found",
  409: "Not possible",
  413: "Refused",
  422: "Refused",
};

const RECONNECTING = "Airflow is not responding. This page will reconnect automatically.";

/**
 * A message that says why a request failed, and what the user can do about it. With `again`, the page repeats the
 * request by itself.
 * @param {{ problem: Problem | null, again?: () => void }} props
 */
export function ProblemNote({ problem, again }) {
  if (!problem) return null;
  const { status, isTransient } = problem;
  const title = PROBLEM_TITLES[status] ?? "Unavailable";
  return html`<${Note} kind=${isTransient ? "warning" : "failed"} title=${title}>
    <p>${status === 0 && again ? RECONNECTING : problem.message}</p>
    ${status === 401 && html`<${AirflowLink} class="button" href=${LOGIN}>Log in</${AirflowLink}>`}
    ${isTransient && again && html`<button type="button" class="button" onClick=${again}>Try again</button>`}
  </${Note}>`;
}

/**
 * Shown while data are being loaded, and when they cannot be loaded or reloaded.
 * @param {{ loaded: boolean, problem: Problem | null, again: () => void }} props
 */
export function Pending({ loaded, problem, again }) {
  if (problem) return html`<${ProblemNote} problem=${problem} again=${again} />`;
  return loaded ? null : html`<div class="loading" role="status">Loading…</div>`;
}

/**
 * A button that copies a text and confirms that it was copied.
 * @param {{ text: string, name: string, children?: Children }} props
 */
export function Copy({ text, name, children }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await writeToClipboard(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`<button type="button" class="button small" aria-label=${name} onClick=${copy}>
      ${copied ? "Copied" : children}</button>
    <span class="hidden" role="status">${copied ? "Copied" : ""}</span>`;
}

/**
 * Copy the text. Only secure pages have the clipboard API; other pages copy from a hidden field.
 * @param {string} text
 */
async function writeToClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "hidden";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

/**
 * The action of a button: `act` runs it and reports why it failed; `busy` says whether it is still running.
 * @param {(problem: Problem | null) => void} report receives null after a success
 */
export function useAction(report) {
  const [busy, setBusy] = useState(false);
  const act = async (/** @type {() => Promise<void>} */ action) => {
    setBusy(true);
    try {
      await action();
      report(null);
    } catch (problem) {
      report(/** @type {Problem} */ (problem));
    }
    setBusy(false);
  };
  return { busy, act };
}

/**
 * A line chart of the values, the oldest first. Screen readers skip the chart and read the number beside it.
 * @param {{ values: Array<number | null> }} props
 */
export function Sparkline({ values }) {
  const known = values.flatMap((value, index) => (value === null ? [] : [{ index, value }]));
  const last = known.at(-1);
  if (known.length < 2 || !last) return html`<svg class="sparkline" aria-hidden="true" />`;
  const top = Math.max(...known.map(({ value }) => value));
  const bottom = Math.min(...known.map(({ value }) => value));
  const x = (/** @type {number} */ index) => 1 + (index / (values.length - 1)) * 62;
  const y = (/** @type {number} */ value) => (top === bottom ? 10 : 18 - ((value - bottom) / (top - bottom)) * 16);
  const points = known.map(({ index, value }) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return html`<svg class="sparkline" viewBox="0 0 66 20" aria-hidden="true">
    <polyline points=${points} /><circle cx=${x(last.index)} cy=${y(last.value)} r="1.8" />
  </svg>`;
}

/**
 * A link to the page of a training run.
 * @param {{ id: string | null }} props
 */
export function JobLink({ id }) {
  return html`<a href=${`job?id=${encodeURIComponent(id ?? "")}`}>${id}</a>`;
}

/**
 * A number; the tooltip shows it in full precision.
 * @param {{ value: number | null | undefined, digits?: number }} props
 */
export function Figure({ value, digits = 3 }) {
  return html`<span class="number" title=${value ?? ""}>${formatNumber(value, digits)}</span>`;
}

/**
 * The header row of a table. The headers of number columns are aligned like the numbers.
 * @param {{ columns: string[], numbers?: string[] }} props
 */
export function Head({ columns, numbers = [] }) {
  return html`<thead><tr>${columns.map(
    (title) => html`<th scope="col" class=${numbers.includes(title) ? "number" : undefined}>${title}</th>`,
  )}</tr></thead>`;
}

/**
 * Announces a change to screen readers.
 * @param {{ text: string }} props
 */
export function Announce({ text }) {
  const first = useRef(text);
  return html`<div class="hidden" role="status" aria-live="polite">${text === first.current ? "" : text}</div>`;
}
