// @ts-check
// Translates a `yolo train …` command into parameters of train_yolo, and back.
import { airflowUrl, TRAINING_DAG } from "./api.js";

/** Arguments that this project sets itself: where files are stored, and how a training run is resumed. */
const OURS = new Set(["mode", "project", "name", "exist_ok", "save_dir", "save", "cfg", "resume"]);

/** @typedef {Array<{ name: string, schema: Airflow.ParamSchema }>} Fields fields of the form */

/**
 * Read a command such as `yolo detect train data=coco8.yaml model=yolo11n.pt epochs=100`.
 * @param {string} line
 * @param {Fields} fields
 * @returns {{ texts: Record<string, string>, ignored: string[] } | null} texts of fields, and the names of ignored
 * arguments; null if the line is not a yolo command
 */
export function readCommand(line, fields) {
  const words =
    line
      .trim()
      .replace(/\\\s*\n/g, " ")
      .match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g) ?? [];
  if (words.shift() !== "yolo") return null;
  const names = new Map(fields.map(({ name, schema }) => [schema.argument, name]));
  const tasks = fields.find(({ name }) => name === "task")?.schema.enum ?? [];
  /** @type {Record<string, string>} */
  const texts = {};
  /** @type {Record<string, unknown>} */
  const overrides = {};
  /** @type {string[]} */
  const ignored = [];
  for (const word of words) {
    const at = word.indexOf("=");
    const key = at < 0 ? word : word.slice(0, at).replace(/^-+/, "");
    const value = at < 0 ? null : unquote(word.slice(at + 1));
    const name = names.get(key);
    if (value === null) {
      if (tasks.includes(key)) texts.task = key;
      else if (key !== "train") ignored.push(key);
    } else if (OURS.has(key)) ignored.push(key);
    else if (name === undefined) overrides[key] = parseValue(value);
    else texts[name] = name === "device" ? value.replace(/[[\]\s]/g, "") : value;
  }
  if (Object.keys(overrides).length) texts.overrides = JSON.stringify(overrides, null, 2);
  return { texts, ignored };
}

/**
 * The closest command for plain Ultralytics, which lacks some of the parameters.
 * @param {Record<string, any>} conf
 * @param {Fields} fields
 */
export function commandOf({ task, overrides, ...others }, fields) {
  const named = fields.map(({ name, schema }) => [schema.argument, others[name]]);
  const words = [...named, ...Object.entries(overrides ?? {})]
    .filter(([name, value]) => name && value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${quote(typeof value === "object" ? JSON.stringify(value) : String(value))}`);
  return ["yolo", task ?? "detect", "train", ...words].join(" ");
}

/**
 * The request to Airflow's REST API that starts a training run.
 * @param {Record<string, unknown>} conf
 */
export function requestOf(conf) {
  const body = JSON.stringify({ logical_date: null, conf }).replaceAll("'", "'\\''");
  const url = new URL(airflowUrl(["dags", TRAINING_DAG, "dagRuns"]), location.href);
  return `curl -X POST ${url} \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '${body}'`;
}

/** @param {string} text */
function unquote(text) {
  return text.replace(/^(["'])(.*)\1$/s, "$2");
}

/** @param {string} text */
function quote(text) {
  return /^[\w./:@,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** @type {Record<string, boolean | null>} */
const WORDS = { true: true, false: false, none: null };

/**
 * Parse a value in the same way as Ultralytics: Python's keywords (True, False, None), numbers and lists.
 * @param {string} text
 * @returns {unknown}
 */
function parseValue(text) {
  const word = text.toLowerCase();
  if (Object.hasOwn(WORDS, word)) return WORDS[word];
  try {
    return JSON.parse(text.replaceAll("'", '"').replace(/^\((.*)\)$/s, "[$1]"));
  } catch {
    return text;
  }
}
