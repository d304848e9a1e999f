// Ultralytics' metrics by name: what they are called, how they are grouped, and which of them counts.

const WORDS = {
  box: "Box",
  cls: "Class",
  dfl: "Distribution focal",
  seg: "Mask",
  pose: "Pose",
  kobj: "Keypoint",
  angle: "Angle",
};
const KINDS = { B: "", M: " of masks", P: " of poses" };

const HEADLINES = [
  /^metrics\/mAP50-95\(P\)$/,
  /^metrics\/mAP50-95\(M\)$/,
  /^metrics\/mAP50-95/,
  /^metrics\/accuracy_top1$/,
  /^metrics\//,
];

/** The metric that a job is judged by: {name, label, value}, or null where there is none yet. */
export function headline(metrics) {
  const names = Object.keys(metrics ?? {});
  const name = HEADLINES.map((pattern) => names.find((each) => pattern.test(each))).find(Boolean);
  return name ? { name, label: short(name), value: metrics[name] } : null;
}

/** `metrics/mAP50-95(B)` as `mAP50-95`. */
export function short(name) {
  const plain = name.replace(/^(metrics|train|val|lr)\//, "").replace(/\(B\)$/, "");
  return { accuracy_top1: "top-1 accuracy", accuracy_top5: "top-5 accuracy", precision: "precision" }[plain] ?? plain;
}

/** Whether less is better. */
export function lowerIsBetter(name) {
  return /loss/.test(name);
}

/** Whether one value of it can be better than another. */
export function isJudged(name) {
  return /^(metrics|train|val)\//.test(name);
}

/**
 * Which curves are drawn together, in the order in which they are shown.
 * @param {Iterable<string>} names of all metrics that were recorded
 * @returns {{title: string, series: {name: string, label: string}[]}[]}
 */
export function charts(names) {
  const known = new Set(names);
  const groups = new Map();
  for (const name of known) {
    const [title, label, rank] = place(name);
    if (!title) continue;
    if (!groups.has(title)) groups.set(title, { title, rank, series: [] });
    groups.get(title).series.push({ name, label });
  }
  const shown = [...groups.values()].sort(
    (one, other) => one.rank - other.rank || one.title.localeCompare(other.title),
  );
  for (const group of shown) group.series.sort((one, other) => order(one.label) - order(other.label));
  return shown.map(({ title, series }) => ({ title, series: series.slice(0, 6) }));
}

function order(label) {
  return ["mAP50-95", "mAP50", "precision", "recall", "training", "validation"].indexOf(label);
}

function place(name) {
  const quality = name.match(/^metrics\/(.+?)(?:\((\w)\))?$/);
  if (quality) {
    const kind = KINDS[quality[2] ?? "B"] ?? ` (${quality[2]})`;
    if (quality[1].startsWith("mAP")) return [`Mean average precision${kind}`, quality[1], 0];
    if (/^(precision|recall)$/.test(quality[1])) return [`Precision and recall${kind}`, quality[1], 1];
    if (/^accuracy/.test(quality[1])) return ["Accuracy", short(name), 0];
    return [quality[1], quality[1], 2];
  }
  const loss = name.match(/^(train|val)\/(.+)$/);
  if (loss) {
    const component = loss[2].replace(/_?loss$/, "");
    const title = component ? `${WORDS[component] ?? component} loss` : "Loss";
    return [title, loss[1] === "train" ? "training" : "validation", 3];
  }
  if (name.startsWith("lr/")) return ["Learning rate", name.slice(3), 5];
  return [null];
}
