// Small things that every page is made of.
import { html, useEffect, useRef, useState } from "./h.js";
import { whoLooks } from "./api.js";
import { AirflowLink, LOGIN } from "./outside.js";
import { ago, moment, number, remaining } from "./format.js";
import { finishedEpochs, timeLeft, trainedEpochs } from "./progress.js";

const STATUS = {
  completed: ["success", "M20 6 9 17l-5-5"],
  running: ["running", "M5 12a7 7 0 1 0 7-7"],
  failed: ["failed", "M18 6 6 18M6 6l12 12"],
  queued: ["queued", "M12 6v6l4 2"],
  stopped: ["warning", "M8 8h8v8H8z"],
  // Airflow's states of runs and tasks, models' stages
  success: ["success", "M20 6 9 17l-5-5"],
  upstream_failed: ["warning", "M18 6 6 18M6 6l12 12"],
  up_for_retry: ["warning", "M5 12a7 7 0 1 0 7-7"],
  production: ["success", "M20 6 9 17l-5-5"],
  candidate: ["running", "M12 6v6l4 2"],
  rejected: ["failed", "M18 6 6 18M6 6l12 12"],
};

/** A state as Airflow shows them: colour, sign and word. */
export function Status({ of: state }) {
  const [kind, path] = STATUS[state] ?? ["queued", "M7 12h10"];
  return html`<span class="status status-${kind} ${state === "running" ? "turns" : ""}">
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d=${path} /></svg>${(state ?? "unknown").replaceAll("_", " ")}
  </span>`;
}

/** How far a job is, by finished epochs. */
export function Progress({ job, name = "Progress" }) {
  const { epochs } = job.progress;
  const finished = finishedEpochs(job);
  const share = epochs ? Math.min(1, trainedEpochs(job) / epochs) : 0;
  const left = remaining(timeLeft(job));
  const said = `${finished} of ${epochs ?? "an unknown number of"} epochs${left ? `, ${left} left` : ""}`;
  return html`<div class="progress progress-${STATUS[job.status]?.[0] ?? "queued"}" role="progressbar" aria-label=${name}
    aria-valuemin="0" aria-valuemax=${epochs ?? 100} aria-valuenow=${finished} aria-valuetext=${said}>
    <div style=${{ width: `${share * 100}%` }} />
  </div>`;
}

/** When, said relative to now; exactly in its title. */
export function When({ at }) {
  return at ? html`<time datetime=${at} title=${moment(at)}>${ago(at)}</time>` : html`<span>–</span>`;
}

/** Something that the reader should know: `info`, `warning` or `failed`. */
export function Note({ kind = "info", title, children }) {
  return html`<div class="note note-${kind}" role=${{ failed: "alert", warning: "status" }[kind] ?? "note"}>
    ${title && html`<strong>${title}</strong>`}<div>${children}</div>
  </div>`;
}

/** A text of several lines as it was written: its lines stay lines, and a list is a list. */
export function Lines({ text, name }) {
  const blocks = [];
  for (const line of text.split("\n")) {
    const item = line.match(/^\s*[-*•]\s+(.*)/);
    if (!item) blocks.push(line);
    else if (Array.isArray(blocks.at(-1))) blocks.at(-1).push(item[1]);
    else blocks.push([item[1]]);
  }
  return html`<div class="lines">
    ${blocks.map((block) => (Array.isArray(block) ? html`<ul>${block.map((each) => html`<li>${each}</li>`)}</ul>` : html`<p>${block}</p>`))}
    <${Copy} text=${text} name=${`Copy ${name}`}>Copy</${Copy}></div>`;
}

/** Why there is nothing (new) to see, and what to do about it. */
export function Refused({ problem, again }) {
  if (!problem) return null;
  const { status } = problem;
  const title =
    { 401: "Not logged in", 403: "Not permitted", 404: "Not found", 0: "No connection" }[status] ?? "Not available";
  return html`<${Note} kind=${problem.passes ? "warning" : "failed"} title=${title}>
    <p>${problem.message}</p>
    ${status === 401 && html`<${AirflowLink} class="button" href=${LOGIN}>Log in</${AirflowLink}>`}
    ${problem.passes && again && html`<button type="button" class="button" onClick=${again}>Try again</button>`}
  </${Note}>`;
}

/** Copies a text, and says that it did. */
export function Copy({ text, name, children }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await write(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`<button type="button" class="button small" aria-label=${name} onClick=${copy}>${copied ? "Copied" : children}</button>
    <span class="hidden" role="status">${copied ? "Copied" : ""}</span>`;
}

/** The clipboard belongs to secure pages only; elsewhere a selection is copied. */
async function write(text) {
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

/** The last values as a line; the number beside it says the same to those who do not see it. */
export function Sparkline({ values }) {
  const known = values.map((value, index) => [index, value]).filter(([, value]) => value !== null);
  if (known.length < 2) return html`<svg class="sparkline" aria-hidden="true" />`;
  const top = Math.max(...known.map(([, value]) => value));
  const bottom = Math.min(...known.map(([, value]) => value));
  const x = (index) => 1 + (index / (values.length - 1)) * 62;
  const y = (value) => (top === bottom ? 10 : 18 - ((value - bottom) / (top - bottom)) * 16);
  const points = known.map(([index, value]) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const [lastIndex, lastValue] = known.at(-1);
  return html`<svg class="sparkline" viewBox="0 0 66 20" aria-hidden="true">
    <polyline points=${points} /><circle cx=${x(lastIndex)} cy=${y(lastValue)} r="1.8" />
  </svg>`;
}

/** A number with its full precision in the title. */
export function Figure({ value, digits = 3 }) {
  return html`<span class="number" title=${value ?? ""}>${number(value, digits)}</span>`;
}

/** Whether whoever looks may start and stop trainings; null until it is known. */
export function useMayStart() {
  const [may, setMay] = useState(null);
  useEffect(() => {
    let timer = null;
    const look = () =>
      whoLooks().then(
        ({ may_start: mayStart }) => setMay(mayStart),
        (problem) => {
          if (problem.passes) timer = setTimeout(look, 3000);
          else setMay(false);
        },
      );
    look();
    return () => clearTimeout(timer);
  }, []);
  return may;
}

/** Says a change to those who do not see it. */
export function Announce({ text }) {
  const first = useRef(text);
  return html`<div class="hidden" role="status" aria-live="polite">${text === first.current ? "" : text}</div>`;
}
