// @ts-check
// A chart over epochs: its lines, a cursor that all charts of a page share, and the values at the cursor as text.
import bundle from "./vendor/uplot-1.6.32.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./h.js";
import { formatNumber } from "./format.js";

/**
 * @typedef {import("uplot")} Plot
 * @typedef {object} Series
 * @property {string} label
 * @property {Array<number | null>} values one for each epoch
 * @property {number} [tone] index of the line's colour and dashes; by default the series' own index
 */

const uPlot = /** @type {typeof import("uplot")} */ (/** @type {any} */ (bundle));

const HEIGHT = 170;
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [5, 2], [1, 4]];
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

const colour = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const curve = (/** @type {number} */ tone) => colour(`--curve-${(tone % 6) + 1}`);

/** The colour for the part of a line that shows epochs trained by another job. */
const paler = (/** @type {number} */ tone) => `color-mix(in oklab, ${curve(tone)} 45%, ${colour("--bg")})`;

/**
 * @param {object} props
 * @param {string} props.title
 * @param {number[]} props.epochs counted from 1
 * @param {Series[]} props.series
 * @param {string} props.sync charts with the same key share their cursor
 * @param {number} [props.resumed] the last inherited epoch, counted from 1
 */
export function Chart({ title, epochs, series, sync, resumed = 0 }) {
  const container = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {Plot | null} */ (null));
  const shown = useRef(/** @type {unknown} */ (null));
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const shape = JSON.stringify([series.map(({ label, tone }) => [label, tone]), resumed]);
  const data = useMemo(() => columns(epochs, series, resumed), [epochs, series, resumed]);

  useLayoutEffect(() => {
    const element = /** @type {HTMLDivElement} */ (container.current);
    const drawn = new uPlot(options({ series, sync, resumed, width: element.clientWidth, setAt }), data, element);
    plot.current = drawn;
    shown.current = data;
    const resized = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    const repaint = () => drawn.redraw(false, true);
    window.addEventListener("themechange", repaint);
    return () => {
      resized.disconnect();
      window.removeEventListener("themechange", repaint);
      drawn.destroy();
    };
  }, [shape]);

  useEffect(() => {
    if (shown.current === data) return;
    shown.current = data;
    plot.current?.setData(data);
  }, [data]);

  const index = at !== null && at < epochs.length ? at : epochs.length - 1;
  const valueOf = (/** @type {Series} */ { values }) =>
    at === null ? values.findLast((value) => value !== null) : values[index];
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3>
      <span class="muted number">${at === null ? "" : `epoch ${epochs[index]}`}</span></figcaption>
    <div class="plot" ref=${container} role="img" tabindex="0" aria-label=${description(title, epochs, series)}
      onKeyDown=${(/** @type {KeyboardEvent} */ event) => plot.current && moveCursor(event, plot.current, epochs)} />
    <ul class="legend">${series.map(
      (each, position) => html`<li>
      <${Swatch} tone=${each.tone ?? position} /><span class="label">${each.label}</span>
      <span class="number">${formatNumber(valueOf(each), 4)}</span>
    </li>`,
    )}</ul>
  </figure>`;
}

/**
 * A legend sample of one of the chart's lines, in the line's colour and dashes.
 * @param {{ tone: number }} props
 */
export function Swatch({ tone }) {
  return html`<svg class=${`swatch swatch-${(tone % 6) + 1}`} viewBox="0 0 22 8" aria-hidden="true">
    <line x1="1" y1="4" x2="21" y2="4" stroke-dasharray=${DASHES[tone % 6].join(" ")} /></svg>`;
}

/**
 * uPlot's columns: the epochs, then each series. If epochs were inherited, each series becomes two columns: one up
 * to the resumed epoch, and one from that epoch.
 * @param {number[]} epochs
 * @param {Series[]} series
 * @param {number} resumed
 * @returns {import("uplot").AlignedData}
 */
function columns(epochs, series, resumed) {
  if (!resumed) return [epochs, ...series.map(({ values }) => values)];
  const part = (/** @type {Series} */ { values }, /** @type {(epoch: number) => boolean} */ isShown) =>
    values.map((value, index) => (isShown(epochs[index]) ? value : null));
  const parts = series.flatMap((each) => [
    part(each, (epoch) => epoch <= resumed),
    part(each, (epoch) => epoch >= resumed),
  ]);
  return [epochs, ...parts];
}

/**
 * @param {object} given
 * @param {Series[]} given.series
 * @param {string} given.sync
 * @param {number} given.resumed
 * @param {number} given.width
 * @param {(index: number | null) => void} given.setAt
 * @returns {import("uplot").Options}
 */
function options({ series, sync, resumed, width, setAt }) {
  /** @type {(each: Series, index: number, stroke: (tone: number) => string) => import("uplot").Series} */
  const line = (each, index, stroke) => {
    const tone = each.tone ?? index;
    return {
      label: each.label,
      width: 1.8,
      dash: DASHES[tone % 6],
      spanGaps: true,
      stroke: () => stroke(tone),
      points: { show: (drawn) => drawn.data[0].length < 3, size: 6 },
    };
  };
  const lines = series.flatMap((each, index) =>
    resumed ? [line(each, index, paler), line(each, index, curve)] : [line(each, index, curve)],
  );
  return {
    width: Math.max(width, 120),
    height: HEIGHT,
    legend: { show: false },
    padding: [8, 10, 0, 0],
    cursor: {
      y: false,
      move: snapToEpoch,
      drag: { x: false, y: false },
      sync: { key: sync, setSeries: false },
      points: { size: 7 },
    },
    scales: { x: { time: false, range: epochRange }, y: { range: valueRange } },
    series: [{}, ...lines],
    axes: [
      axis({ size: 26, space: 46, incrs: STEPS }),
      axis({ size: 48, space: 30, values: (_, ticks) => ticks.map(formatTick) }),
    ],
    hooks: {
      setCursor: [(drawn) => setAt(drawn.cursor.idx ?? null)],
      drawAxes: resumed ? [(drawn) => markResumption(drawn, resumed)] : [],
    },
  };
}

/** @type {import("uplot").Range.Function} */
function epochRange(_, low, high) {
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/**
 * Return the range of the value axis: 0 to 1 if all values are zero, as in the first epochs of many training runs.
 * @type {import("uplot").Range.Function}
 */
export function valueRange(_, low, high) {
  return low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true);
}

/** @type {(more: import("uplot").Axis) => import("uplot").Axis} */
const axis = (more) => ({
  stroke: () => colour("--fg-muted"),
  font: `11px ${colour("--font")}`,
  gap: 4,
  ticks: { show: false },
  grid: { stroke: () => colour("--line"), width: 1 },
  ...more,
});

/** @param {number} tick */
function formatTick(tick) {
  if (tick === 0) return "0";
  return Math.abs(tick) < 0.001 ? tick.toExponential(0) : String(Number(tick.toPrecision(4)));
}

/**
 * Draw the line at which the job continued from its parent.
 * @param {Plot} drawn
 * @param {number} epoch
 */
function markResumption(drawn, epoch) {
  const { ctx, bbox } = drawn;
  const x = Math.round(drawn.valToPos(epoch, "x", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = colour("--fg-muted");
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

/**
 * Snap the cursor to epochs, because there are no values between them.
 * @type {import("uplot").Cursor.MousePosRefiner}
 */
function snapToEpoch(drawn, left, top) {
  const epoch = left < 0 ? undefined : drawn.data[0][drawn.posToIdx(left)];
  return [epoch === undefined ? left : drawn.valToPos(epoch, "x"), top];
}

/**
 * Move the cursor with the keyboard.
 * @param {KeyboardEvent} event
 * @param {Plot} drawn
 * @param {number[]} epochs
 */
function moveCursor(event, drawn, epochs) {
  const last = epochs.length - 1;
  const now = drawn.cursor.idx ?? last;
  /** @type {Record<string, number>} */
  const targets = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last };
  const to = targets[event.key];
  if (to === undefined || last < 0) return;
  event.preventDefault();
  const index = Math.max(0, Math.min(last, to));
  const position = { left: drawn.valToPos(drawn.data[0][index], "x"), top: 10 };
  // uPlot's types lack the third argument, which also moves the cursors of the other charts.
  /** @type {(to: typeof position, fire: boolean, publish: boolean) => void} */ (drawn.setCursor)(position, true, true);
}

/**
 * Describe the chart in words, for screen readers.
 * @param {string} title
 * @param {number[]} epochs
 * @param {Series[]} series
 */
function description(title, epochs, series) {
  const parts = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    if (!known.length) return `${label}: no values`;
    return `${label} from ${formatNumber(known[0], 4)} to ${formatNumber(known.at(-1), 4)}`;
  });
  return `${title}, epochs ${epochs[0]} to ${epochs.at(-1)}: ${parts.join("; ")}. Arrow keys move the cursor.`;
}
