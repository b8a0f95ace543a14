/** Formats numbers, sizes and durations for people. A value that is null or undefined is shown as a dash. */

import { isNumber } from "./numbers.js";

const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const MAGNITUDES = [
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
const BYTE_UNITS = [
  [1e12, "TB"],
  [1e9, "GB"],
  [1e6, "MB"],
  [1e3, "kB"],
];
const TIME_UNITS = [
  [31_557_600_000, "y"],
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1000, "s"],
];

/** 1,234,567 */
export const formatCount = (n) => (n == null ? "–" : INTEGER.format(isNumber(n) ? String(n) : n));

/** 12.3 k */
export function formatShort(n) {
  if (n == null) return "–";
  const magnitude = MAGNITUDES.find(([size]) => Math.abs(n) >= size);
  return magnitude ? `${threeDigits(n / magnitude[0])} ${magnitude[1]}` : threeDigits(n);
}

/** 12.3 k/s */
export const formatRate = (n) => `${formatShort(n)}/s`;

/** 3.4 GB; powers of ten, as disks are sold. */
export function formatBytes(n) {
  if (n == null) return "–";
  const unit = BYTE_UNITS.find(([size]) => n >= size);
  return unit ? `${threeDigits(n / unit[0])} ${unit[1]}` : `${n} B`;
}

function threeDigits(n) {
  if (Number.isInteger(n)) return String(n);
  const decimals = Math.abs(n) >= 100 ? 0 : Math.abs(n) >= 10 ? 1 : 2;
  return n.toFixed(decimals).replace(/\.?0+$/, "");
}

/** 1 event, 2 events */
export function plural(n, noun) {
  const ending = n === 1 ? "" : /(?:s|ch)$/.test(noun) ? "es" : "s";
  return `${formatCount(n)} ${noun}${ending}`;
}

/** 3 d 4 h: at most two units, from milliseconds. */
export function formatDuration(ms) {
  if (ms == null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const index = TIME_UNITS.findIndex(([size]) => ms >= size);
  const [size, unit] = TIME_UNITS[index];
  if (unit === "s") return `${threeDigits(Math.round(ms / 100) / 10)} s`;
  const [smallerSize, smallerUnit] = TIME_UNITS[index + 1];
  const rest = Math.floor((ms % size) / smallerSize);
  return `${Math.floor(ms / size)} ${unit}${rest ? ` ${rest} ${smallerUnit}` : ""}`;
}
