// @ts-check
// Shows the progress of a dataset version's check and registration.
import { html, useEffect } from "./h.js";
import { fetchJson, REGISTER_DAG, trainingUrl } from "./api.js";
import { Lines, Note, Pending } from "./elements.js";
import { usePolled } from "./live.js";
import { AirflowLink, runPage } from "./outside.js";
import { PausedNote } from "./paused.js";

/** @type {Record<string, string>} */
const STEPS = {
  queued: "Waiting for a worker.",
  checking: "Every image and label is being checked.",
};

/**
 * @param {object} props
 * @param {string} props.name of the dataset
 * @param {string} props.runId
 * @param {(state: Api.DatasetRegistration["state"]) => void} props.report receives the state when it changes
 */
export function Registration({ name, runId, report }) {
  /** @type {(signal: AbortSignal) => Promise<Api.DatasetRegistration>} */
  const load = (signal) => fetchJson(trainingUrl(["datasets", name, "registrations", runId]), { signal });
  const { data, problem, again } = usePolled(load, ({ state }) => (state in STEPS ? 2 : null));
  useEffect(() => {
    if (data) report(data.state);
  }, [data?.state]);
  const run = html`<${AirflowLink} href=${runPage(REGISTER_DAG, runId)}>Airflow run</${AirflowLink}>`;
  if (!data) return html`<${Pending} loaded=${false} problem=${problem} again=${again} />`;
  if (data.state === "registered") {
    const { version, created } = data;
    const page = version !== null && versionPage(name, version);
    const unchanged = created === false ? "The newest version has the same content, so there is no new version." : "";
    // Users who may not read XComs do not learn which version already has this content.
    const title = version === null ? `${name} has this content already` : `${name} version ${version} is registered`;
    return html`<${Note} kind="success" title=${title}>
      <p>The check found no errors. ${unchanged}</p>
      ${page && html`<a class="button primary" href=${page}>Show version ${version}</a>`}
    </${Note}>`;
  }
  if (data.state === "refused" || data.state === "failed") {
    const title = data.state === "refused" ? "The dataset was refused" : "The dataset could not be registered";
    return html`<${Note} kind="failed" title=${title}>
      <${Lines} text=${data.error ?? "The run failed without an error message; see its log."} name="the error" />
      <p>${run}</p></${Note}>`;
  }
  return html`<${PausedNote} dagId=${REGISTER_DAG} />
  <${Note} title=${`Checking ${name}`}>
    <p role="status">${STEPS[data.state]} You may leave this page and return later.</p><p>${run}</p></${Note}>`;
}

/**
 * @param {string} name
 * @param {number} version
 */
export function versionPage(name, version) {
  return `dataset?name=${encodeURIComponent(name)}&version=${version}`;
}
