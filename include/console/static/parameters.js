// What a job was asked for: given against default, and against its parent.
import { html, useEffect, useState } from "./h.js";
import { airflow, ask } from "./api.js";
import { parameter } from "./format.js";

const NOT_COMPARED = new Set(["job_id", "resume_from", "fresh"]);

/** The form of train_yolo as Airflow has it: name, schema, default and description of each parameter. */
export function useForm() {
  const [form, setForm] = useState({ fields: [], problem: null });
  useEffect(() => {
    ask(airflow(["dags", "train_yolo", "details"])).then(
      (details) => setForm({ fields: fieldsOf(details.params), problem: null }),
      (problem) => setForm({ fields: [], problem }),
    );
  }, []);
  return form;
}

function fieldsOf(params) {
  return Object.entries(params).map(([name, { value, schema, description }]) => ({
    name,
    schema,
    description,
    initial: value ?? null,
    section: schema.section ?? "Parameters",
  }));
}

/** Whether two values are the same to the trainer; one that is not given is null. */
export function same(one, other) {
  return canonical(one) === canonical(other);
}

function canonical(value) {
  if (value === null || value === undefined || value === "") return "null";
  if (typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value);
  return JSON.stringify(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** Parameters of several jobs by name, overrides one by one. */
export function flat(spec) {
  const { overrides, ...named } = spec ?? {};
  const own = Object.fromEntries(Object.entries(overrides ?? {}).map(([name, value]) => [`overrides.${name}`, value]));
  return { ...named, ...own };
}

export function Parameters({ job, parent }) {
  const { fields } = useForm();
  const [changedOnly, setChangedOnly] = useState(false);
  const rows = rowsOf(job, parent, fields);
  const shown = changedOnly ? rows.filter(({ changed, other }) => changed || other) : rows;
  return html`<section class="section" aria-labelledby="parameters">
    <div class="section-heading"><h2 id="parameters">Parameters</h2>
      <label class="check"><input type="checkbox" checked=${changedOnly}
        onChange=${(event) => setChangedOnly(event.currentTarget.checked)} /> only changed</label>
    </div>
    <div class="scroller" tabindex="0" role="group" aria-label="Table of parameters"><table class="parameters">
      <thead><tr><th scope="col">parameter</th><th scope="col">value</th><th scope="col">default</th>
        ${parent && html`<th scope="col">of ${parent.job_id}</th>`}</tr></thead>
      <tbody>${shown.map(
        (row) => html`<tr key=${row.name} class=${row.changed || row.other ? "marked" : ""}>
        <th scope="row" title=${row.description}>${row.name}</th>
        <td><code>${parameter(row.value)}</code> ${row.changed && html`<span class="tag" title="differs from the default">changed</span>`}${" "}
          ${row.other && html`<span class="tag other">differs from parent</span>`}</td>
        <td class="muted">${row.usual}</td>
        ${parent && html`<td class="muted"><code>${parameter(row.inherited)}</code></td>`}
      </tr>`,
      )}
      ${shown.length === 0 && html`<tr><td colspan=${parent ? 4 : 3} class="muted">Nothing but defaults.</td></tr>`}</tbody>
    </table></div>
  </section>`;
}

function rowsOf(job, parent, fields) {
  const spec = flat(job.spec);
  const before = flat(parent?.spec);
  const known = new Map(fields.map((field) => [field.name, field]));
  const names = new Set([...known.keys(), ...Object.keys(spec), ...(parent ? Object.keys(before) : [])]);
  names.delete("job_id");
  names.delete("overrides");
  return [...names].map((name) => {
    const value = spec[name] ?? null;
    const field = known.get(name);
    const usual = defaultOf(field);
    return {
      name,
      value,
      usual,
      inherited: before[name] ?? null,
      description: field?.description,
      // Our own defaults are filled in when a job is resolved: what equals one is not called changed.
      changed: !same(value, field?.initial ?? null) && usual.split(/[ ,;]/)[0] !== parameter(value),
      other: Boolean(parent) && !NOT_COMPARED.has(name) && !same(value, before[name]),
    };
  });
}

/** What the field's description says beside the default, which is shown as its placeholder. */
export function aboutOf({ description = "", initial }) {
  return initial === null ? description.replace(/\s*Empty: [^.]*(\.\d[^.]*)*\.?$/, "") : description;
}

/** A null default is Ultralytics' or ours; the description of the parameter says which after "Empty:". */
export function defaultOf(field) {
  if (!field) return "as Ultralytics";
  if (field.initial !== null) return parameter(field.initial);
  return field.description?.match(/Empty: (.+?)\.?$/)?.[1] ?? parameter(null);
}
