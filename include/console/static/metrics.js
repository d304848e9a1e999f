// @ts-check
// Ultralytics' metrics: their labels, their grouping into charts, and the metric that represents a job's quality.

/**
 * @typedef {Record<string, number | null> | null | undefined} Metrics by Ultralytics' names
 * @typedef {"quality" | "loss" | "rate"} Kind
 * @typedef {object} Curve
 * @property {string} name Ultralytics' name of the metric
 * @property {string} label
 * @property {number} rank the curve's position in the legend
 * @typedef {object} ChartGroup curves that are drawn together
 * @property {Kind} kind
 * @property {string} title
 * @property {number} rank the chart's position on the page
 * @property {Curve[]} series
 */

/** @type {Record<string, string>} */
const LOSSES = {
  box: "Box",
  cls: "Class",
  dfl: "Distribution focal",
  seg: "Mask",
  pose: "Pose",
  kobj: "Keypoint",
  angle: "Angle",
  ce: "Cross-entropy",
  dice: "Dice",
  aux: "Auxiliary",
  dlog: "Distance",
  dgrad: "Distance gradient",
};
/** @type {Record<string, string>} */
const SUBJECTS = { B: "", M: " of masks", P: " of poses" };
/** @type {Record<string, string>} */
const LABELS = {
  accuracy_top1: "top-1 accuracy",
  accuracy_top5: "top-5 accuracy",
  mIoU: "mean IoU",
  pixel_acc: "pixel accuracy",
  delta1: "pixels within 25 %",
  delta2: "pixels within 56 %",
  delta3: "pixels within 95 %",
  abs_rel: "relative error",
  rmse: "error in metres",
  silog: "logarithmic error",
};
const QUALITIES = ["mAP50-95", "mAP50", "precision", "recall", "mIoU", "pixel_acc", "delta1", "delta2", "delta3"];
/** @type {Record<string, string>} */
const ERRORS = {
  abs_rel: "Relative error of distances",
  rmse: "Root mean squared error of distances (m)",
  silog: "Logarithmic error of distances",
};
const MOST_CURVES = 6;

const HEADLINES = [
  /^metrics\/mAP50-95\(P\)$/,
  /^metrics\/mAP50-95\(M\)$/,
  /^metrics\/mAP50-95/,
  /^metrics\/accuracy_top1$/,
  /^metrics\/mIoU$/,
  /^metrics\/delta1$/,
  /^metrics\//,
];

/**
 * The metric that represents a job's quality, or null if there is none yet.
 * @param {Metrics} metrics
 */
export function headline(metrics) {
  const names = Object.keys(metrics ?? {});
  const name = HEADLINES.map((pattern) => names.find((each) => pattern.test(each))).find(Boolean);
  return name ? { name, label: shortName(name), value: metrics?.[name] } : null;
}

/**
 * Shorten a metric's name, for example `metrics/mAP50-95(B)` to `mAP50-95`.
 * @param {string} name
 */
export function shortName(name) {
  const plain = name.replace(/^(metrics|train|val|lr)\//, "").replace(/\(B\)$/, "");
  return LABELS[plain] ?? plain;
}

/**
 * Whether a lower value is better.
 * @param {string} name
 */
export function lowerIsBetter(name) {
  return /loss/.test(name) || name.replace(/^metrics\//, "") in ERRORS;
}

/**
 * Whether values of the metric can be ranked from better to worse.
 * @param {string} name
 */
export function isComparable(name) {
  return /^(metrics|train|val)\//.test(name);
}

/**
 * Group curves into charts, in display order.
 * @param {Iterable<string>} names of all recorded metrics
 * @returns {ChartGroup[]}
 */
export function chartGroups(names) {
  /** @type {Map<string, ChartGroup>} */
  const groups = new Map();
  for (const name of new Set(names)) {
    const curve = qualityCurve(name) ?? lossCurve(name) ?? rateCurve(name);
    if (!curve) continue;
    const { kind, title, rank, label, place } = curve;
    const group = groups.get(title) ?? { kind, title, rank, series: [] };
    group.series.push({ name, label, rank: place });
    groups.set(title, group);
  }
  const shown = [...groups.values()].sort(
    (one, other) => one.rank - other.rank || one.title.localeCompare(other.title),
  );
  return shown.map(({ series, ...group }) => ({
    ...group,
    series: series.sort((one, other) => one.rank - other.rank).slice(0, MOST_CURVES),
  }));
}

/**
 * @typedef {{ kind: Kind, title: string, rank: number, label: string, place: number }} Placed
 * @param {string} name
 * @returns {Placed | null}
 */
function qualityCurve(name) {
  const found = name.match(/^metrics\/(.+?)(?:\((\w)\))?$/);
  if (!found) return null;
  const [, quality, suffix = "B"] = found;
  if (quality in ERRORS) return { kind: "loss", title: ERRORS[quality], rank: 2, label: "validation", place: 0 };
  const subject = SUBJECTS[suffix] ?? ` (${suffix})`;
  const shared = { kind: /** @type {const} */ ("quality"), label: quality, place: QUALITIES.indexOf(quality) };
  if (quality.startsWith("mAP")) return { ...shared, title: `Mean average precision${subject}`, rank: 0 };
  if (/^(precision|recall)$/.test(quality)) return { ...shared, title: `Precision and recall${subject}`, rank: 1 };
  if (/^accuracy/.test(quality)) return { ...shared, title: "Accuracy", label: shortName(name), rank: 0 };
  if (/^(mIoU|pixel_acc)$/.test(quality)) {
    return { ...shared, title: "Pixels of the right class", label: shortName(name), rank: 0 };
  }
  if (/^delta\d$/.test(quality)) {
    return { ...shared, title: "Pixels at the right distance", label: shortName(name), rank: 0 };
  }
  return { ...shared, title: quality, rank: 2 };
}

/**
 * @param {string} name
 * @returns {Placed | null}
 */
function lossCurve(name) {
  const found = name.match(/^(train|val)\/(.+)$/);
  if (!found) return null;
  const component = found[2].replace(/_?loss$/, "");
  const title = component ? `${LOSSES[component] ?? component} loss` : "Loss";
  const training = found[1] === "train";
  return { kind: "loss", title, rank: 3, label: training ? "training" : "validation", place: training ? 0 : 1 };
}

/**
 * @param {string} name
 * @returns {Placed | null}
 */
function rateCurve(name) {
  if (!name.startsWith("lr/")) return null;
  return { kind: "rate", title: "Learning rate", rank: 5, label: name.slice(3), place: 0 };
}
