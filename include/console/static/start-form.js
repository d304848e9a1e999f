// The form that starts a training, through Airflow's REST API: its permissions, validation and audit hold. What the
// run would refuse is asked before it is triggered, and said beside its field.
import { html, useEffect, useRef, useState } from "./h.js";
import { airflow, ask, queryOf, training } from "./api.js";
import { useDraft } from "./draft.js";
import { Note } from "./elements.js";
import { Equivalents, PasteCommand } from "./equivalents.js";
import { Field, textOf, valueOf } from "./field.js";
import { same } from "./parameters.js";
import { useSuggestions } from "./suggestions.js";

/**
 * @param {object[]} fields of the Dag
 * @param {Record<string, unknown>} given values to begin with
 * @param {{title: string, names: string[], closed?: boolean, about?: string}[]} groups which fields are shown, and where
 * @param {Record<string, unknown>} always sent as they are, without a field
 * @param {Record<string, string>} notes in place of a parameter's own description
 */
export function StartForm({ fields, given, groups, always = {}, notes = {}, action }) {
  const { texts, restored, setTexts, clear } = useDraft(`start${location.search}`);
  const [errors, setErrors] = useState({});
  const [refusal, setRefusal] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  const shown = fields.filter(({ name }) => groups.some(({ names }) => names.includes(name)));
  const textOfField = ({ name, initial }) => texts[name] ?? textOf(name in given ? given[name] : initial);
  const known = useSuggestions(textOfField(fields.find(({ name }) => name === "task")) || "detect");
  const read = shown.map((field) => [field, valueOf(field, textOfField(field))]);
  const conf = { ...always };
  for (const [{ name, initial }, { value }] of read)
    if (value !== undefined && !same(value, initial)) conf[name] = value;

  useEffect(() => {
    const [first] = form.current?.querySelectorAll('[aria-invalid="true"]') ?? [];
    const closed = first?.closest("details");
    if (closed) closed.open = true;
    first?.focus();
  }, [errors]);

  const refuse = (said) => {
    const names = new Set(shown.map(({ name }) => name));
    setErrors(Object.fromEntries(Object.entries(said).filter(([name]) => names.has(name))));
    const others = Object.entries(said)
      .filter(([name]) => !names.has(name))
      .map(([, sentence]) => sentence);
    setRefusal(others.length ? { message: others.join(" ") } : null);
    return Object.keys(said).length > 0;
  };

  const submit = async (event) => {
    event.preventDefault();
    if (refuse(Object.fromEntries(read.filter(([, { error }]) => error).map(([{ name }, { error }]) => [name, error]))))
      return;
    setBusy(true);
    try {
      if (refuse(await objections(conf))) {
        setBusy(false);
        return;
      }
      const run = await ask(airflow(["dags", "train_yolo", "dagRuns"]), {
        method: "POST",
        body: { logical_date: null, conf },
      });
      location.assign(`run${queryOf({ dag_id: "train_yolo", run_id: run.dag_run_id })}`);
    } catch (problem) {
      setBusy(false);
      setRefusal(problem);
    }
  };

  return html`<form class="start" ref=${form} noValidate onSubmit=${submit}>
    ${
      restored &&
      html`<${Note} title="Your input was kept"><p>These values are of your last visit to this form.
      <button type="button" class="button small" onClick=${clear}>Start with an empty form</button></p></${Note}>`
    }
    ${!always.resume_from && html`<${PasteCommand} fields=${fields} fill=${(found) => setTexts((before) => ({ ...before, ...found }))} />`}
    ${groups.map(
      (group) => html`<${Group} key=${group.title} group=${group}>
      ${group.names
        .map((name) => fields.find((field) => field.name === name))
        .filter(Boolean)
        .map(
          (field) => html`<${Field} key=${field.name} field=${field}
        text=${textOfField(field)} error=${errors[field.name]} note=${notes[field.name]} known=${known[field.name]}
        set=${(text) => setTexts((before) => ({ ...before, [field.name]: text }))} />`,
        )}
    </${Group}>`,
    )}
    ${
      refusal &&
      html`<${Note} kind="failed" title=${refusal.status === 403 ? "Not permitted" : "Not started"}>
      <p>${refusal.status === 403 ? "You may look at trainings but not start them. Ask an administrator of Airflow for the right to trigger train_yolo." : refusal.message}</p></${Note}>`
    }
    <div class="actions"><button class="button primary" disabled=${busy}>${busy ? "Starting…" : action}</button>
      <a class="button quiet" href="jobs">Cancel</a></div>
    <${Equivalents} conf=${conf} />
  </form>`;
}

/** What the run would refuse, by the name of the parameter. Where that cannot be asked for now, the run itself says it. */
async function objections(conf) {
  try {
    return (await ask(training(["validate"]), { method: "POST", body: conf })).errors;
  } catch (problem) {
    if (problem.passes) return {};
    throw problem;
  }
}

function Group({ group, children }) {
  const fields = html`<div class="parameters-grid">${children}</div>`;
  const about = group.about && html`<p class="muted">${group.about}</p>`;
  if (group.closed) return html`<details class="card"><summary>${group.title}</summary>${about}${fields}</details>`;
  return html`<fieldset class="card"><legend>${group.title}</legend>${about}${fields}</fieldset>`;
}
