// @ts-check
// The form that starts a training run through Airflow's REST API, so that Airflow's permissions, validation and audit
// log apply. The training API checks the parameters first, and errors are shown beside their fields. If the training
// API is down, the run is triggered unchecked.
/** @import { Children } from "./h.js" */
/** @import { FormField } from "./parameters.js" */
import { html, useEffect, useRef, useState } from "./h.js";
import { airflowUrl, fetchJson, Problem, queryString, TRAINING_DAG, trainingUrl } from "./api.js";
import { useDraft } from "./draft.js";
import { Note } from "./elements.js";
import { Equivalents, PasteCommand } from "./equivalents.js";
import { Field, textOf, valueOf } from "./field.js";
import { isSame } from "./parameters.js";
import { PausedNote } from "./paused.js";
import { useSuggestions } from "./suggestions.js";

/**
 * @typedef {object} FieldGroup
 * @property {string} title
 * @property {string[]} names of the fields in it
 * @property {boolean} [closed] whether the group is collapsed at first
 * @property {string} [about]
 */

export const NOT_PERMITTED =
  "You can view training runs but not start them. Ask an Airflow administrator for permission to trigger train_yolo.";

/**
 * @param {object} props
 * @param {FormField[]} props.fields of the Dag
 * @param {Record<string, unknown>} props.given initial values
 * @param {FieldGroup[]} props.groups the fields that are shown, in groups
 * @param {Record<string, unknown>} [props.always] parameters without a field, sent unchanged
 * @param {Record<string, string>} [props.notes] shown instead of a parameter's description
 * @param {string} props.action label of the button
 */
export function StartForm({ fields, given, groups, always = {}, notes = {}, action }) {
  const { texts, restored, setTexts, clear } = useDraft(`start${location.search}`);
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const [refusal, setRefusal] = useState(/** @type {{ title: string, message: string } | null} */ (null));
  const [busy, setBusy] = useState(false);
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  /** The latest request for a run. If its response was lost, the next request reuses the run's id. */
  const requested = useRef({ conf: "", runId: "" });
  const names = new Set(groups.flatMap((group) => group.names));
  const shown = fields.filter(({ name }) => names.has(name));
  const shownText = (/** @type {FormField} */ { name, initial }) =>
    texts[name] ?? textOf(name in given ? given[name] : initial);
  const taskField = fields.find(({ name }) => name === "task");
  const known = useSuggestions(String((taskField && shownText(taskField)) || "detect"));
  const read = shown.map((field) => ({ field, ...valueOf(field, shownText(field)) }));
  /** @type {Record<string, unknown>} */
  const conf = { ...always };
  for (const { field, value } of read) {
    if (value !== undefined && !isSame(value, field.initial)) conf[field.name] = value;
  }

  useEffect(() => {
    const first = form.current?.querySelector('[aria-invalid="true"]');
    const closed = first?.closest("details");
    if (closed) closed.open = true;
    if (first instanceof HTMLElement) first.focus();
  }, [errors]);

  /** Show errors beside their fields, or above the button if they have no field; return whether there are errors. */
  const refuse = (/** @type {Record<string, string>} */ found) => {
    const all = Object.entries(found);
    setErrors(Object.fromEntries(all.filter(([name]) => names.has(name))));
    const others = all.filter(([name]) => !names.has(name)).map(([, sentence]) => sentence);
    setRefusal(others.length ? { title: "Not started", message: others.join(" ") } : null);
    return all.length > 0;
  };

  /** Check the parameters, trigger a run and open its page; return whether the run was triggered. */
  const start = async () => {
    if (refuse(await findErrors(conf))) return false;
    const wanted = JSON.stringify(conf);
    if (requested.current.conf !== wanted) requested.current = { conf: wanted, runId: newRunId() };
    const { runId } = requested.current;
    await trigger(runId, conf);
    location.assign(`run${queryString({ dag_id: TRAINING_DAG, run_id: runId })}`);
    return true;
  };

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (refuse(Object.fromEntries(read.flatMap(({ field, error }) => (error ? [[field.name, error]] : []))))) return;
    setBusy(true);
    try {
      setBusy(await start());
    } catch (error) {
      const { status, message } = /** @type {Problem} */ (error);
      const denied = status === 403;
      setRefusal(denied ? { title: "Permission denied", message: NOT_PERMITTED } : { title: "Not started", message });
      setBusy(false);
    }
  };

  const set = (/** @type {string} */ name) => (/** @type {string | boolean} */ text) =>
    setTexts((before) => ({ ...before, [name]: text }));
  const control = (/** @type {FormField} */ field) => html`<${Field} key=${field.name} field=${field}
    text=${shownText(field)} error=${errors[field.name]} note=${notes[field.name]} known=${known[field.name]}
    set=${set(field.name)} />`;
  const fill = (/** @type {Record<string, string>} */ found) => setTexts((before) => ({ ...before, ...found }));
  return html`<form class="start" ref=${form} noValidate onSubmit=${submit}>
    ${
      restored &&
      html`<${Note} title="Your input was restored"><p>These values are from your last visit to this form.
      <button type="button" class="button small" onClick=${clear}>Clear the form</button></p></${Note}>`
    }
    ${!always.resume_from && html`<${PasteCommand} fields=${fields} fill=${fill} />`}
    ${groups.map(
      (group) => html`<${Group} key=${group.title} group=${group}>
      ${group.names.flatMap((name) => fields.filter((field) => field.name === name)).map(control)}
    </${Group}>`,
    )}
    <${PausedNote} dagId=${TRAINING_DAG} />
    ${refusal && html`<${Note} kind="failed" title=${refusal.title}><p>${refusal.message}</p></${Note}>`}
    <div class="actions"><button class="button primary" disabled=${busy}>${busy ? "Starting…" : action}</button>
      <a class="button quiet" href="jobs">Cancel</a></div>
    <${Equivalents} conf=${conf} fields=${fields} />
  </form>`;
}

/**
 * Find errors, by name of the parameter. Return no errors if the check is unavailable, because the run repeats it.
 * @param {Record<string, unknown>} conf
 * @returns {Promise<Record<string, string>>}
 */
async function findErrors(conf) {
  try {
    /** @type {Api.Validation} */
    const { errors } = await fetchJson(trainingUrl(["validate"]), { method: "POST", body: conf });
    return errors;
  } catch (error) {
    if (error instanceof Problem && error.isTransient) return {};
    throw error;
  }
}

/**
 * Trigger the run, unless an earlier request for the same run has already done so.
 * @param {string} runId
 * @param {Record<string, unknown>} conf
 */
async function trigger(runId, conf) {
  const url = airflowUrl(["dags", TRAINING_DAG, "dagRuns"]);
  try {
    await fetchJson(url, { method: "POST", body: { dag_run_id: runId, logical_date: null, conf } });
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 409) throw error;
  }
}

/** A new id, like those that Airflow gives to manual runs. Pages over plain HTTP have no `crypto.randomUUID`. */
function newRunId() {
  const random = [...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(16).padStart(2, "0"));
  return `manual__${new Date().toISOString()}_${random.join("")}`;
}

/** @param {{ group: FieldGroup, children?: Children }} props */
function Group({ group, children }) {
  const fields = html`<div class="parameters-grid">${children}</div>`;
  const about = group.about && html`<p class="muted">${group.about}</p>`;
  if (group.closed) return html`<details class="card"><summary>${group.title}</summary>${about}${fields}</details>`;
  return html`<fieldset class="card"><legend>${group.title}</legend>${about}${fields}</fieldset>`;
}
