// One chart over epochs: lines, a cursor that all charts of a page share, and its values as text.
import uPlot from "./vendor/uplot-1.6.32.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./h.js";
import { number } from "./format.js";

const HEIGHT = 170;
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [5, 2], [1, 4]];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const curve = (index) => colour(`--curve-${(index % 6) + 1}`);

/** The same line, paler: what was trained before by another job. */
const paler = (index) => `color-mix(in oklab, ${curve(index)} 45%, ${colour("--bg")})`;

/**
 * @param {string} title
 * @param {number[]} epochs as people count them, from 1
 * @param {{label: string, values: (number|null)[], tone?: number}[]} series one value an epoch; tone: which colour
 * @param {string} sync charts with the same word share their cursor
 * @param {number} [resumed] the last epoch that was inherited, from 1
 */
export function Chart({ title, epochs, series, sync, resumed = 0 }) {
  const place = useRef(null);
  const plot = useRef(null);
  const shown = useRef(null);
  const [at, setAt] = useState(null);
  const shape = JSON.stringify([series.map(({ label, tone }) => [label, tone]), resumed]);
  const data = useMemo(() => columns(epochs, series, resumed), [epochs, series, resumed]);

  useLayoutEffect(() => {
    const drawn = new uPlot(
      options({ series, sync, resumed, width: place.current.clientWidth, setAt }),
      data,
      place.current,
    );
    plot.current = drawn;
    shown.current = data;
    const sized = new ResizeObserver(() => drawn.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    sized.observe(place.current);
    const repaint = () => drawn.redraw(false, true);
    window.addEventListener("themechange", repaint);
    return () => {
      sized.disconnect();
      window.removeEventListener("themechange", repaint);
      drawn.destroy();
    };
  }, [shape]);

  useEffect(() => {
    if (shown.current === data) return;
    shown.current = data;
    plot.current.setData(data);
  }, [data]);

  const index = at !== null && at < epochs.length ? at : epochs.length - 1;
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3><span class="muted number">${at === null ? "" : `epoch ${epochs[index]}`}</span></figcaption>
    <div class="plot" ref=${place} role="img" tabindex="0" aria-label=${said(title, epochs, series)}
      onKeyDown=${(event) => move(event, plot.current, epochs.length)} />
    <ul class="legend">${series.map(
      (each, number_) => html`<li>
      <${Swatch} tone=${each.tone ?? number_} /><span class="label">${each.label}</span>
      <span class="number">${number(at === null ? each.values.findLast((value) => value !== null) : each.values[index], 4)}</span>
    </li>`,
    )}</ul>
  </figure>`;
}

/** A line of the chart's colour and dashes. */
export function Swatch({ tone }) {
  return html`<svg class=${`swatch swatch-${(tone % 6) + 1}`} viewBox="0 0 22 8" aria-hidden="true">
    <line x1="1" y1="4" x2="21" y2="4" stroke-dasharray=${DASHES[tone % 6].join(" ")} /></svg>`;
}

/** uPlot's columns: epochs, then each series; with inherited epochs each in two parts that meet. */
function columns(epochs, series, resumed) {
  if (!resumed) return [epochs, ...series.map(({ values }) => values)];
  const before = (values) => values.map((value, index) => (epochs[index] <= resumed ? value : null));
  const after = (values) => values.map((value, index) => (epochs[index] >= resumed ? value : null));
  return [epochs, ...series.flatMap(({ values }) => [before(values), after(values)])];
}

function options({ series, sync, resumed, width, setAt }) {
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
      move: toEpoch,
      drag: { x: false, y: false },
      sync: { key: sync, setSeries: false },
      points: { size: 7 },
    },
    scales: {
      x: { time: false, range: (_, low, high) => (low === high ? [low - 0.5, high + 0.5] : [low, high]) },
      y: { range: valueRange },
    },
    series: [{}, ...lines],
    axes: [
      axis({ size: 26, space: 46, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }),
      axis({ size: 48, space: 30, values: (_, ticks) => ticks.map((tick) => short(tick)) }),
    ],
    hooks: {
      setCursor: [(drawn) => setAt(drawn.cursor.idx ?? null)],
      drawAxes: resumed ? [(drawn) => mark(drawn, resumed)] : [],
    },
  };
}

/** Where all is zero, as in the first epochs of many trainings, the axis is that of a share. */
export function valueRange(_, low, high) {
  return low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true);
}

const axis = (more) => ({
  stroke: () => colour("--fg-muted"),
  font: `11px ${colour("--font")}`,
  gap: 4,
  ticks: { show: false },
  grid: { stroke: () => colour("--line"), width: 1 },
  ...more,
});

function short(tick) {
  if (tick === 0) return "0";
  return Math.abs(tick) < 0.001 ? tick.toExponential(0) : String(Number(tick.toPrecision(4)));
}

/** Where the job went on from its parent. */
function mark(drawn, epoch) {
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

/** Between two epochs there is nothing to read. */
function toEpoch(drawn, left, top) {
  const epoch = left < 0 ? undefined : drawn.data[0][drawn.posToIdx(left)];
  return [epoch === undefined ? left : drawn.valToPos(epoch, "x"), top];
}

/** The cursor by keys, as the mouse moves it. */
function move(event, drawn, length) {
  const now = drawn.cursor.idx ?? length - 1;
  const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: length - 1 }[event.key];
  if (to === undefined || length === 0) return;
  event.preventDefault();
  const index = Math.max(0, Math.min(length - 1, to));
  drawn.setCursor({ left: drawn.valToPos(drawn.data[0][index], "x"), top: 10 }, true, true);
}

function said(title, epochs, series) {
  const parts = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? `${label} from ${number(known[0], 4)} to ${number(known.at(-1), 4)}` : `${label}: none`;
  });
  return `${title}, epochs ${epochs[0]} to ${epochs.at(-1)}: ${parts.join("; ")}. Arrow keys move the cursor.`;
}
