// @ts-check
// The parameters with which a job was started, shown beside the defaults and the parent's parameters.
/** @import { InputChange } from "./h.js" */
import { html, useMemo, useState } from "./h.js";
import { airflowUrl, fetchJson, TRAINING_DAG } from "./api.js";
import { formatParameter } from "./format.js";
import { usePolled } from "./live.js";

const NOT_COMPARED = new Set(["job_id", "resume_from", "fresh"]);

/**
 * @typedef {Record<string, unknown>} Spec parameters by name
 * @typedef {object} FormField a parameter of a Dag as Airflow describes it
 * @property {string} name
 * @property {Airflow.ParamSchema} schema
 * @property {string} about the description without the parameter's default
 * @property {string} description the description with the parameter's default
 * @property {unknown} initial the value that Airflow sends if none is given
 */

/** Load the parameters of a Dag from Airflow. `fields` is empty until they are loaded. */
export function useForm(dagId = TRAINING_DAG) {
  /** @type {(signal: AbortSignal) => Promise<Airflow.DagDetails>} */
  const load = (signal) => fetchJson(airflowUrl(["dags", dagId, "details"]), { signal });
  const { data, problem, again } = usePolled(load, null);
  const fields = useMemo(() => (data ? fieldsOf(data.params) : []), [data]);
  return { fields, problem, again };
}

/**
 * @param {Record<string, Airflow.Param>} params
 * @returns {FormField[]}
 */
function fieldsOf(params) {
  return Object.entries(params).map(([name, { value, schema, description }]) => ({
    name,
    schema,
    about: schema.about ?? description ?? "",
    description: description ?? "",
    initial: value ?? null,
  }));
}

/**
 * Whether two values have the same effect on training. A missing value counts as null.
 * @param {unknown} one
 * @param {unknown} other
 */
export function isSame(one, other) {
  return canonical(one) === canonical(other);
}

/** @param {unknown} value */
function canonical(value) {
  if (value === null || value === undefined || value === "") return "null";
  if (typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value);
  return JSON.stringify(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/**
 * A job's parameters by name; each override becomes a separate parameter.
 * @param {Spec | null | undefined} spec
 * @returns {Spec}
 */
export function flatten(spec) {
  const { overrides, ...named } = spec ?? {};
  const own = Object.entries(overrides ?? {}).map(([name, value]) => [`overrides.${name}`, value]);
  return { ...named, ...Object.fromEntries(own) };
}

/** @param {{ job: Api.TrainingJobResponse, parent: Api.TrainingJobResponse | null }} props */
export function Parameters({ job, parent }) {
  const { fields } = useForm();
  const [changedOnly, setChangedOnly] = useState(false);
  const rows = rowsOf(job, parent, fields);
  const shown = changedOnly ? rows.filter(({ changed, differs }) => changed || differs) : rows;
  const onCheck = (/** @type {InputChange} */ event) => setChangedOnly(event.currentTarget.checked);
  return html`<section class="section" aria-labelledby="parameters">
    <div class="section-heading"><h2 id="parameters">Parameters</h2>
      <label class="check"><input type="checkbox" checked=${changedOnly} onChange=${onCheck} /> Only changed</label>
    </div>
    <div class="scroller" tabindex="0" role="group" aria-label="Table of parameters"><table class="parameters">
      <thead><tr><th scope="col">Parameter</th><th scope="col">Value</th><th scope="col">Default</th>
        ${parent && html`<th scope="col">In ${parent.job_id}</th>`}</tr></thead>
      <tbody>${shown.map((row) => html`<${Row} key=${row.name} ...${row} hasParent=${parent !== null} />`)}
      ${
        shown.length === 0 &&
        html`<tr><td colspan=${parent ? 4 : 3} class="muted">All parameters have their default values.</td></tr>`
      }</tbody>
    </table></div>
  </section>`;
}

/** @param {ReturnType<typeof rowsOf>[number] & { hasParent: boolean }} props */
function Row({ name, value, defaultText, inherited, description, changed, differs, hasParent }) {
  return html`<tr class=${changed || differs ? "marked" : ""}>
    <th scope="row" title=${description}>${name}</th>
    <td><code>${formatParameter(value)}</code>${" "}
      ${changed && html`<span class="tag" title="Differs from the default">changed</span>`}${" "}
      ${differs && html`<span class="tag other">differs from parent</span>`}</td>
    <td class="muted">${defaultText}</td>
    ${hasParent && html`<td class="muted"><code>${formatParameter(inherited)}</code></td>`}
  </tr>`;
}

/**
 * @param {Api.TrainingJobResponse} job
 * @param {Api.TrainingJobResponse | null} parent
 * @param {FormField[]} fields
 */
function rowsOf(job, parent, fields) {
  const spec = flatten(job.spec);
  const before = flatten(parent?.spec);
  const known = new Map(fields.map((field) => [field.name, field]));
  const names = new Set([...known.keys(), ...Object.keys(spec), ...(parent ? Object.keys(before) : [])]);
  names.delete("job_id");
  names.delete("overrides");
  return [...names].map((name) => {
    const value = spec[name] ?? null;
    const field = known.get(name);
    return {
      name,
      value,
      defaultText: field ? (defaultOf(field) ?? formatParameter(null)) : "Ultralytics’ default",
      inherited: before[name] ?? null,
      description: field?.description,
      changed: !isDefault(value, field, job.task),
      differs: Boolean(parent) && !NOT_COMPARED.has(name) && !isSame(value, before[name]),
    };
  });
}

/**
 * Whether the value is the default. A job's spec contains the defaults, because resolving it fills them in.
 * @param {unknown} value
 * @param {FormField | undefined} field undefined for an override
 * @param {string | null} task
 */
function isDefault(value, field, task) {
  if (isSame(value, field?.initial)) return true;
  const { effective_default: effective, effective_default_by_task: byTask } = field?.schema ?? {};
  return isSame(value, effective ?? byTask?.[task ?? ""]);
}

/**
 * Describe the value that the trainer uses if the parameter is not given; null if there is no such value.
 * @param {FormField} field
 */
export function defaultOf({ initial, schema }) {
  return initial === null ? (schema.when_empty ?? null) : formatParameter(initial);
}
