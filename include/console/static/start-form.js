// The form that starts a training, through Airflow's REST API: its permissions, validation and audit hold.
import { html, useEffect, useRef, useState } from "./h.js";
import { airflow, ask, queryOf } from "./api.js";
import { Note } from "./elements.js";
import { Field, textOf, valueOf } from "./field.js";
import { same } from "./parameters.js";

/**
 * @param {object[]} fields of the Dag
 * @param {Record<string, unknown>} given values to begin with
 * @param {{title: string, names: string[], closed?: boolean, about?: string}[]} groups which fields are shown, and where
 * @param {Record<string, unknown>} always sent as they are, without a field
 * @param {Record<string, string>} notes in place of a parameter's own description
 */
export function StartForm({ fields, given, groups, always = {}, notes = {}, action }) {
  const [texts, setTexts] = useState({});
  const [errors, setErrors] = useState({});
  const [refusal, setRefusal] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  const shown = fields.filter(({ name }) => groups.some(({ names }) => names.includes(name)));
  const textOfField = ({ name, initial }) => texts[name] ?? textOf(name in given ? given[name] : initial);

  useEffect(() => {
    const [first] = form.current?.querySelectorAll('[aria-invalid="true"]') ?? [];
    const closed = first?.closest("details");
    if (closed) closed.open = true;
    first?.focus();
  }, [errors]);

  const submit = async (event) => {
    event.preventDefault();
    const read = shown.map((field) => [field, valueOf(field, textOfField(field))]);
    const wrong = Object.fromEntries(read.filter(([, { error }]) => error).map(([{ name }, { error }]) => [name, error]));
    setErrors(wrong);
    setRefusal(null);
    if (Object.keys(wrong).length) return;
    const conf = { ...always };
    for (const [{ name, initial }, { value }] of read) if (!same(value, initial)) conf[name] = value;
    setBusy(true);
    try {
      const run = await ask(airflow(["dags", "train_yolo", "dagRuns"]), { method: "POST", body: { logical_date: null, conf } });
      location.assign(`run${queryOf({ dag_id: "train_yolo", run_id: run.dag_run_id })}`);
    } catch (problem) {
      setBusy(false);
      const field = shown.find(({ name }) => new RegExp(`param ['"]?${name}\\b`).test(problem.message));
      if (field) setErrors({ [field.name]: sentence(problem.message, field.name) });
      else setRefusal(problem);
    }
  };

  return html`<form class="start" ref=${form} noValidate onSubmit=${submit}>
    ${groups.map((group) => html`<${Group} key=${group.title} group=${group}>
      ${group.names.map((name) => fields.find((field) => field.name === name)).filter(Boolean).map((field) => html`<${Field} key=${field.name} field=${field}
        text=${textOfField(field)} error=${errors[field.name]} note=${notes[field.name]}
        set=${(text) => setTexts((before) => ({ ...before, [field.name]: text }))} />`)}
    </${Group}>`)}
    ${refusal && html`<${Note} kind="failed" title=${refusal.status === 403 ? "Not permitted" : "Not started"}>
      <p>${refusal.status === 403 ? "You may look at trainings but not start them. Ask an administrator of Airflow for the right to trigger train_yolo." : refusal.message}</p></${Note}>`}
    <div class="actions"><button class="button primary" disabled=${busy}>${busy ? "Starting…" : action}</button>
      <a class="button quiet" href="jobs">Cancel</a></div>
  </form>`;
}

function Group({ group, children }) {
  const fields = html`<div class="parameters-grid">${children}</div>`;
  const about = group.about && html`<p class="muted">${group.about}</p>`;
  if (group.closed) return html`<details class="card"><summary>${group.title}</summary>${about}${fields}</details>`;
  return html`<fieldset class="card"><legend>${group.title}</legend>${about}${fields}</fieldset>`;
}

/** Airflow's refusal without its preamble and without the schema that it dumps. */
function sentence(message, name) {
  const said = message.replace(new RegExp(`^.*?param ['"]?${name}['"]?:\\s*`, "s"), "").split("\n")[0].trim();
  return said.endsWith(".") ? said : `${said}.`;
}
