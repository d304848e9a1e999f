// @ts-check
// Formats numbers, times and sizes for people to read.

import { serverNow } from "./clock.js";

const DASH = "–";

/**
 * Format a number like 0.888, or with an exponent if it is too small for that many digits. A host application may have
 * recorded anything as a metric: what is not a number is shown as it is.
 * @param {unknown} value
 */
export function formatNumber(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return DASH;
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && size < 10 ** -digits) return value.toExponential(digits - 2);
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/**
 * Format a count like 12,345.
 * @param {number | null | undefined} value
 */
export function formatCount(value) {
  return value === null || value === undefined ? DASH : value.toLocaleString("en");
}

/**
 * Format a size like 5.4 MB, in the decimal units that S3 consoles use.
 * @param {number | null | undefined} bytes
 */
export function formatBytes(bytes) {
  if (bytes === null || bytes === undefined) return DASH;
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })} ${units[unit]}`;
}

/**
 * Format a duration in its two largest units: 42 s, 3 min 20 s, 2 h 5 min, 3 d 4 h.
 * @param {number | null | undefined} seconds
 */
export function formatDuration(seconds) {
  if (seconds === null || seconds === undefined || seconds < 0) return DASH;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  /** @type {Array<[number, string]>} */
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  const largest = parts.slice(first, first + 2).filter(([value]) => value > 0);
  return largest.map(([value, unit]) => `${value} ${unit}`).join(" ");
}

/**
 * Format an estimate like "about 6 min", without false precision. Null if there is no estimate.
 * @param {number | null | undefined} seconds
 */
export function formatRemaining(seconds) {
  if (seconds === null || seconds === undefined) return null;
  if (seconds < 60) return seconds < 20 ? "a few seconds" : "under a minute";
  const rounded = seconds < 3600 ? Math.round(seconds / 60) * 60 : Math.round(seconds / 300) * 300;
  return `about ${formatDuration(rounded)}`;
}

/**
 * Format the time that has passed, like "3 min ago".
 * @param {string | null | undefined} iso
 */
export function formatAge(iso, now = serverNow()) {
  if (!iso) return DASH;
  const seconds = Math.max(0, (now - Date.parse(iso)) / 1000);
  if (seconds < 45) return "just now";
  /** @type {Array<[number, string]>} */
  const units = [
    [60, "min"],
    [3600, "h"],
    [86400, "day"],
    [2629746, "month"],
    [31556952, "year"],
  ];
  const [length, unit] = units.findLast(([each]) => seconds >= each * 0.95) ?? units[0];
  const value = Math.max(1, Math.round(seconds / length));
  const plural = value > 1 && unit.length > 3 ? "s" : "";
  return `${value} ${unit}${plural} ago`;
}

/**
 * Format a time for tooltips, like 23 Nov 2026, 06:34:07 UTC+01:00.
 * @param {string | null | undefined} iso
 */
export function formatDateTime(iso) {
  if (!iso) return "";
  return new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" });
}

/**
 * Format a time like "at 14:05", or "on 24 Nov at 14:05" if that is not today.
 * @param {string} iso
 */
export function formatClock(iso) {
  const at = new Date(iso);
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === new Date().toDateString()) return `at ${time}`;
  return `on ${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} at ${time}`;
}

/**
 * Format hours like 12.3 or 1,234.5; only exactly zero is shown as 0.
 * @param {number} hours
 */
export function formatHours(hours) {
  if (hours > 0 && hours < 0.05) return "<0.1";
  return hours.toLocaleString("en", { maximumFractionDigits: 1 });
}

/**
 * Format a day like 23 Nov.
 * @param {string} date without a time, in UTC
 */
export function formatDay(date) {
  return new Date(date).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}

/**
 * Format a parameter's JSON value as a user would type it: strings have no quotes.
 * @param {unknown} value
 */
export function formatParameter(value) {
  if (value === null || value === undefined) return DASH;
  return typeof value === "string" ? value : JSON.stringify(value);
}
