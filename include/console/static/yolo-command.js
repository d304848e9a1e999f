// A `yolo train …` line as parameters of train_yolo, and the other way round.

const RENAMED = { data: "dataset" };
/** What this product decides by itself: where files lie, and how a training goes on. */
const OURS = new Set(["mode", "project", "name", "exist_ok", "save_dir", "save", "cfg", "resume"]);
/** What plain Ultralytics does not know. */
const NOT_THEIRS = new Set([
  "job_id",
  "fresh",
  "resume_from",
  "publish_every",
  "publish_seconds",
  "hang_timeout",
  "keep_local",
]);

/**
 * @param {string} line such as `yolo detect train data=coco8.yaml model=yolo11n.pt epochs=100`
 * @param {{name: string}[]} fields of the form
 * @returns {{texts: Record<string, string>, left: string[]} | null} texts of fields, and arguments that were left out;
 * null where it is no such line
 */
export function readCommand(line, fields) {
  const words =
    line
      .trim()
      .replace(/\\\s*\n/g, " ")
      .match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g) ?? [];
  if (words.shift() !== "yolo") return null;
  const names = new Set(fields.map(({ name }) => name));
  const tasks = fields.find(({ name }) => name === "task")?.schema.enum ?? [];
  const [texts, overrides, left] = [{}, {}, []];
  for (const word of words) {
    const at = word.indexOf("=");
    const [key, value] = at < 0 ? [word, null] : [word.slice(0, at).replace(/^-+/, ""), unquoted(word.slice(at + 1))];
    const name = RENAMED[key] ?? key;
    if (value === null) {
      if (tasks.includes(key)) texts.task = key;
      else if (key !== "train") left.push(key);
    } else if (OURS.has(key)) left.push(key);
    else if (name === "overrides" || !names.has(name) || NOT_THEIRS.has(name)) overrides[key] = valueOf(value);
    else texts[name] = name === "device" ? value.replace(/[[\]\s]/g, "") : value;
  }
  if (Object.keys(overrides).length) texts.overrides = JSON.stringify(overrides, null, 2);
  return { texts, left };
}

/** The line that would train the same with plain Ultralytics, as far as it can. */
export function commandOf({ task, dataset, model, overrides, ...others }) {
  const given = { model, data: dataset, ...others, ...overrides };
  const words = Object.entries(given)
    .filter(([name, value]) => !NOT_THEIRS.has(name) && value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${quoted(typeof value === "object" ? JSON.stringify(value) : String(value))}`);
  return ["yolo", task ?? "detect", "train", ...words].join(" ");
}

/** The request that starts it. */
export function requestOf(conf) {
  const body = JSON.stringify({ logical_date: null, conf }).replaceAll("'", "'\\''");
  return `curl -X POST ${new URL("../../api/v2/dags/train_yolo/dagRuns", location.href)} \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '${body}'`;
}

function unquoted(text) {
  return text.replace(/^(["'])(.*)\1$/s, "$2");
}

function quoted(text) {
  return /^[\w./:@,+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** As Ultralytics reads it: Python's words, numbers and lists. */
function valueOf(text) {
  const word = { true: true, false: false, none: null }[text.toLowerCase()];
  if (word !== undefined) return word;
  try {
    return JSON.parse(text.replaceAll("'", '"').replace(/^\((.*)\)$/s, "[$1]"));
  } catch {
    return text;
  }
}
