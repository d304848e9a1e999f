// @ts-check
// The actions on a version of a dataset. Viewers do not see the buttons, and the server would refuse their requests.
/** @import { Problem } from "./api.js" */
import { html } from "./h.js";
import { fetchJson, queryString, trainingUrl } from "./api.js";
import { useDeletion } from "./deletion.js";
import { useAction } from "./elements.js";
import { useSession } from "./session.js";
import { explainNotYourVersion } from "./ownership.js";

/**
 * @typedef {object} VersionProps
 * @property {Api.DatasetVersionResponse} version
 * @property {() => void} changed loads the version again
 * @property {(problem: Problem | null) => void} report shows why an action failed; null if it succeeded
 */

/** Id of the sentence that says why a version cannot be deleted. */
const REASON = "not-your-version";

/** @param {VersionProps} props */
export function VersionActions({ version, changed, report }) {
  const { name, version: number, task } = version;
  const start = `start${queryString({ dataset: `${name}@${number}`, task })}`;
  const session = useSession();
  if (!session) return null;
  const reason = explainNotYourVersion(session, version);
  return html`
    ${session.may_start && html`<a class="button primary" href=${start}>Train on this version</a>`}
    ${
      session.may_register &&
      html`<a class="button" href=${`dataset${queryString({ name })}#new`}>New version</a>
        <${Archive} version=${version} changed=${changed} report=${report} />
        ${
          reason === null
            ? html`<${Delete} version=${version} report=${report} />`
            : html`<button type="button" class="button quiet" disabled aria-describedby=${REASON} title=${reason}>
                Delete</button>
              <p class="muted" id=${REASON}>${reason}</p>`
        }`
    }`;
}

/** @param {VersionProps} props */
function Archive({ version, changed, report }) {
  const { busy, act } = useAction(report);
  const archived = version.archived_at !== null;
  const action = archived ? "restore" : "archive";
  const url = trainingUrl(["datasets", version.name, "versions", String(version.version), action]);
  const change = () => act(() => fetchJson(url, { method: "POST" }).then(changed));
  const title = archived
    ? "Training runs that specify the dataset without a version may use this version again"
    : "Training runs that specify the dataset without a version skip this version; nothing is deleted";
  return html`<button type="button" class="button quiet" disabled=${busy} onClick=${change} title=${title}>
    ${archived ? "Restore" : "Archive"}</button>`;
}

/**
 * A button that asks before it deletes the version, because a deletion cannot be undone.
 * @param {Omit<VersionProps, "changed">} props
 */
function Delete({ version: { name, version }, report }) {
  const url = trainingUrl(["datasets", name, "versions", String(version)]);
  const { step, setStep, remove } = useDeletion(url, `dataset${queryString({ name })}`, report);
  if (step === "closed") {
    return html`<button type="button" class="button quiet" onClick=${() => setStep("first")}>Delete</button>`;
  }
  const deleting = step === "deleting";
  return html`<span class="confirm" role="group" aria-label="Delete this version">
    <span>This deletes version ${version} and the uploaded files that nothing else uses. This cannot be undone.</span>
    <button type="button" class="button danger" disabled=${deleting} onClick=${remove}>
      ${deleting ? "Deleting…" : "Delete permanently"}</button>
    <button type="button" class="button quiet" disabled=${deleting} onClick=${() => setStep("closed")}>Keep it</button>
  </span>`;
}
