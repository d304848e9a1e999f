// One parameter as a control, from the schema that Airflow checks it with.
import { html } from "./h.js";
import { parameter } from "./format.js";
import { aboutOf, defaultOf } from "./parameters.js";

const typeOf = ({ type }) => (Array.isArray(type) ? type.find((each) => each !== "null") : type);

/** What the control shows for a value. */
export function textOf(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value, null, 2) : parameter(value);
}

/**
 * The value that a control's text stands for; null: not given.
 * @returns {{value?: unknown, error?: string}}
 */
export function valueOf({ schema }, text) {
  const kind = typeOf(schema);
  if (kind === "boolean") return { value: text === true || text === "true" };
  const trimmed = String(text).trim();
  if (trimmed === "") return { value: null };
  if (kind === "integer" || kind === "number") return numberOf(schema, trimmed, kind);
  if (kind === "object") return objectOf(trimmed);
  const pattern = schema.pattern?.replace(/\\Z$/, "$");
  if (pattern && !new RegExp(pattern).test(trimmed))
    return { error: `“${trimmed}” is not accepted; what is, stands below.` };
  return { value: trimmed };
}

function numberOf(schema, text, kind) {
  const value = Number(text);
  const whole = kind === "integer";
  if (!Number.isFinite(value) || (whole && !Number.isInteger(value))) {
    return { error: whole ? "Give a whole number." : "Give a number." };
  }
  const { minimum, maximum, exclusiveMinimum: above } = schema;
  if (minimum !== undefined && value < minimum) return { error: `Give at least ${minimum}.` };
  if (above !== undefined && value <= above) return { error: `Give more than ${above}.` };
  if (maximum !== undefined && value > maximum) return { error: `Give at most ${maximum}.` };
  return { value };
}

function objectOf(text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return { value };
  } catch {
    // said below
  }
  return { error: 'Give a JSON object, such as {"mosaic": 0.5}.' };
}

/**
 * `known` are texts to pick from; any other may be typed.
 * @param {{field: object, text: string | boolean, error?: string, set: (text: string | boolean) => void, note?: string, known?: string[]}} given
 */
export function Field({ field, text, error, set, note, known }) {
  const id = `field-${field.name}`;
  const described = [`${id}-about`, error && `${id}-error`].filter(Boolean).join(" ");
  const shared = { id, name: field.name, "aria-describedby": described, "aria-invalid": error ? "true" : undefined };
  return html`<div class="parameter ${error ? "wrong" : ""}">
    ${
      typeOf(field.schema) === "boolean"
        ? html`<label class="check" for=${id}><input type="checkbox" ...${shared} checked=${text === true || text === "true"}
          onChange=${(event) => set(event.currentTarget.checked)} /> ${field.name}</label>`
        : html`<label for=${id}>${field.name}</label><${Control} field=${field} text=${text} set=${set} shared=${shared} known=${known}
          placeholder=${note === undefined ? placeholderOf(field) : undefined} />`
    }
    ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
    <p class="about" id=${`${id}-about`}>${note ?? aboutOf(field)}</p>
  </div>`;
}

/** What is taken where nothing is given, if the description says so. */
function placeholderOf(field) {
  return field.initial === null && field.description?.includes("Empty: ") ? defaultOf(field) : undefined;
}

function Control({ field, text, set, shared, known, placeholder }) {
  const { schema } = field;
  const kind = typeOf(schema);
  const changed = (event) => set(event.currentTarget.value);
  if (schema.enum) {
    return html`<select ...${shared} onChange=${changed}>
      <option value="" selected=${text === ""}>${placeholder ? `default: ${placeholder}` : "(not given)"}</option>
      ${schema.enum.filter((each) => each).map((each) => html`<option value=${each} selected=${text === each}>${each}</option>`)}
    </select>`;
  }
  if (kind === "object")
    return html`<textarea ...${shared} value=${text} onInput=${changed} spellcheck=${false} placeholder=${placeholder} rows=${Math.max(3, String(text).split("\n").length)} />`;
  const numeric = { integer: "numeric", number: "decimal" }[kind];
  const list = known?.length ? `${shared.id}-known` : undefined;
  return html`<input type="text" ...${shared} value=${text} inputmode=${numeric} autocomplete="off" autocapitalize="off"
    spellcheck=${false} placeholder=${placeholder} list=${list} onInput=${changed} />
    ${list && html`<datalist id=${list}>${known.map((each) => html`<option key=${each} value=${each} />`)}</datalist>`}`;
}
