// @ts-check
// One parameter as a form control, built from the schema that Airflow uses to validate the parameter.
/** @import { FormField } from "./parameters.js" */
/** @import { InputChange } from "./h.js" */
import { html } from "./h.js";
import { formatParameter } from "./format.js";
import { defaultOf } from "./parameters.js";

/** @param {Airflow.ParamSchema} schema */
const typeOf = ({ type }) => (Array.isArray(type) ? type.find((each) => each !== "null") : type);

/**
 * The text that the control shows for a value.
 * @param {unknown} value
 */
export function textOf(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value, null, 2) : formatParameter(value);
}

/**
 * Parse a control's text into a value (null if the field is empty) or an error.
 * @param {FormField} field
 * @param {string | boolean} text
 * @returns {{ value?: unknown, error?: string }}
 */
export function valueOf({ schema }, text) {
  const type = typeOf(schema);
  if (type === "boolean") return { value: text === true || text === "true" };
  const trimmed = String(text).trim();
  if (trimmed === "") return { value: null };
  if (type === "integer" || type === "number") return numberOf(schema, trimmed, type === "integer");
  if (type === "object") return objectOf(trimmed);
  const pattern = schema.pattern?.replaceAll("\\Z", "$"); // Python's \Z matches only the end of a text, as $ does here.
  if (pattern && !new RegExp(pattern).test(trimmed)) {
    return { error: `“${trimmed}” is not valid. See the allowed values below.` };
  }
  return { value: trimmed };
}

/**
 * @param {Airflow.ParamSchema} schema
 * @param {string} text
 * @param {boolean} whole
 */
function numberOf(schema, text, whole) {
  const value = Number(text);
  if (!Number.isFinite(value) || (whole && !Number.isInteger(value))) {
    return { error: whole ? "Enter a whole number." : "Enter a number." };
  }
  const { minimum, maximum, exclusiveMinimum: above } = schema;
  if (minimum !== undefined && value < minimum) return { error: `Enter at least ${minimum}.` };
  if (above !== undefined && value <= above) return { error: `Enter more than ${above}.` };
  if (maximum !== undefined && value > maximum) return { error: `Enter at most ${maximum}.` };
  return { value };
}

/** @param {string} text */
function objectOf(text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return { value };
  } catch {
    // The error below covers invalid JSON, too.
  }
  return { error: 'Enter a JSON object, such as {"mosaic": 0.5}.' };
}

/**
 * A control with its label, description and error.
 * @param {object} props
 * @param {FormField} props.field
 * @param {string | boolean} props.text what the control shows
 * @param {string} [props.error]
 * @param {(text: string | boolean) => void} props.set
 * @param {string} [props.note] shown instead of the parameter's description
 * @param {string[]} [props.known] suggested texts; any other text may be typed
 */
export function Field({ field, text, error, set, note, known }) {
  const id = `field-${field.name}`;
  const described = [`${id}-about`, error && `${id}-error`].filter(Boolean).join(" ");
  const shared = { id, name: field.name, "aria-describedby": described, "aria-invalid": error ? "true" : undefined };
  const placeholder = note === undefined && field.initial === null ? (defaultOf(field) ?? undefined) : undefined;
  const onCheck = (/** @type {InputChange} */ event) => set(event.currentTarget.checked);
  return html`<div class="parameter ${error ? "wrong" : ""}">
    ${
      typeOf(field.schema) === "boolean"
        ? html`<label class="check" for=${id}><input type="checkbox" ...${shared}
          checked=${text === true || text === "true"} onChange=${onCheck} /> ${field.name}</label>`
        : html`<label for=${id}>${field.name}</label><${Control} field=${field} text=${text} set=${set}
          shared=${shared} known=${known} placeholder=${placeholder} />`
    }
    ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
    <p class="about" id=${`${id}-about`}>${note ?? field.about}</p>
  </div>`;
}

/**
 * @param {object} props
 * @param {FormField} props.field
 * @param {string} props.text
 * @param {(text: string) => void} props.set
 * @param {{ id: string } & Record<string, unknown>} props.shared
 * @param {string[]} [props.known]
 * @param {string} [props.placeholder]
 */
function Control({ field, text, set, shared, known, placeholder }) {
  const { schema } = field;
  const type = typeOf(schema);
  const onChange = (/** @type {InputChange} */ event) => set(event.currentTarget.value);
  if (schema.enum) {
    const choices = schema.enum.filter((each) => each);
    return html`<select ...${shared} onChange=${onChange}>
      <option value="" selected=${text === ""}>${placeholder ? `default: ${placeholder}` : "(not set)"}</option>
      ${choices.map((each) => html`<option value=${each} selected=${text === each}>${each}</option>`)}
    </select>`;
  }
  if (type === "object") {
    return html`<textarea ...${shared} value=${text} onInput=${onChange} spellcheck=${false}
      placeholder=${placeholder} rows=${Math.max(3, String(text).split("\n").length)} />`;
  }
  const mode = type === "integer" ? "numeric" : type === "number" ? "decimal" : undefined;
  const list = known?.length ? `${shared.id}-known` : undefined;
  const options = known?.map((each) => html`<option key=${each} value=${each} />`);
  return html`<input type="text" ...${shared} value=${text} inputmode=${mode} autocomplete="off" autocapitalize="off"
    spellcheck=${false} placeholder=${placeholder} list=${list} onInput=${onChange} />
    ${list && html`<datalist id=${list}>${options}</datalist>`}`;
}
