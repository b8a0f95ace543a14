/**
 * Formats and parses times.
 *
 * Owns: the time zone of the page, UTC or that of the browser. The choice is stored in this browser.
 */

import { h } from "./dom.js";
import { formatDuration } from "./format.js";
import { compareNumbers, numberOf } from "./numbers.js";

const STORAGE_KEY = "mainstem.zone";
const SECOND_MS = 1000;
const DAY_MS = 86_400_000;
/** The last time that a calendar has, ECMA-262: in the year 275760. */
const LAST_MS = 8.64e15;
/** The last time that an event or a request can have: 2^63 - 1. */
const LAST_TIME = numberOf("9223372036854775807");
const RELATIVE_UNITS = { s: SECOND_MS, m: 60_000, min: 60_000, h: 3_600_000, d: DAY_MS, w: 7 * DAY_MS };
const ABSOLUTE = /^(\d{4})-(\d\d)(?:-(\d\d))?(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?)?(Z)?$/;

let utc = localStorage.getItem(STORAGE_KEY) === "utc";

/** Whether times are shown in UTC; otherwise in the zone of this browser. */
export const isUtc = () => utc;

export function setUtc(value) {
  utc = value;
  localStorage.setItem(STORAGE_KEY, value ? "utc" : "local");
}

/** The parts of a time, padded with zeros. */
function timeParts(ms) {
  const date = new Date(ms);
  const field = (name) => date[`get${utc ? "UTC" : ""}${name}`]();
  const pad = (n, width = 2) => String(n).padStart(width, "0");
  return {
    year: field("FullYear"),
    month: pad(field("Month") + 1),
    day: pad(field("Date")),
    hour: pad(field("Hours")),
    minute: pad(field("Minutes")),
    second: pad(field("Seconds")),
    milli: pad(field("Milliseconds"), 3),
  };
}

/**
 * 2013-06-01 12:34:56.789. A null or negative time is "no time": Kafka's -1 means that an event has none. A
 * number that no calendar has, such as one of nanoseconds, is shown as it is.
 */
export function formatTime(ms, { seconds = true, millis = true } = {}) {
  if (ms == null || ms < 0) return "no time";
  if (ms > LAST_MS) return String(ms);
  const { year, month, day, hour, minute, second, milli } = timeParts(ms);
  const fraction = millis ? `.${milli}` : "";
  return `${year}-${month}-${day} ${hour}:${minute}${seconds ? `:${second}${fraction}` : ""}`;
}

/** The label of a tick on a time axis: as much of the time as an axis of `spanMs` needs. */
export function formatTick(ms, spanMs) {
  if (ms > LAST_MS) return String(ms);
  const { year, month, day, hour, minute, second, milli } = timeParts(ms);
  if (spanMs > 3 * 366 * DAY_MS) return `${year}-${month}`;
  if (spanMs > 4 * DAY_MS) return `${year}-${month}-${day}`;
  if (spanMs > DAY_MS) return `${month}-${day} ${hour}:${minute}`;
  if (spanMs > 600_000) return `${hour}:${minute}`;
  return spanMs > 10_000 ? `${hour}:${minute}:${second}` : `${hour}:${minute}:${second}.${milli}`;
}

/** 5 min ago */
export function formatAge(ms, now = Date.now()) {
  if (ms == null || ms < 0) return "never";
  return ms > now ? "in the future" : `${formatDuration(now - ms)} ago`;
}

/** A `time` element; its tooltip is the exact time in UTC. */
export function timeElement(ms, options) {
  if (ms == null || ms < 0) return h("span.muted", {}, "no time");
  return h("time", { datetime: toIso(ms), title: toIso(ms) }, formatTime(ms, options));
}

/** Whether a time, as the end of a range, excludes no event. Requests cannot contain it. */
export const isAfterAllTimes = (ms) => compareNumbers(ms, LAST_TIME) > 0;

/** A time as a link or a request contains it: ISO 8601 in UTC, or digits if no calendar has it. */
export const timeText = (ms) => (ms == null ? "" : (toIso(ms) ?? String(ms)));

/** ISO 8601 in UTC; null if no calendar date has this time. */
export function toIso(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

/**
 * Milliseconds since 1970 of a time that was typed or that a link contains: "15m" (before now),
 * "2013-06-01 12:00" (in the zone of the page), ISO 8601, or milliseconds. Null if the text is not a time.
 */
export function parseTime(text, now = Date.now()) {
  const trimmed = String(text ?? "").trim();
  const relative = /^-?(\d+)\s*(s|m|min|h|d|w)$/.exec(trimmed);
  if (relative) return now - Number(relative[1]) * RELATIVE_UNITS[relative[2]];
  if (/^\d{11,19}$/.test(trimmed)) return numberOf(trimmed);
  const absolute = ABSOLUTE.exec(trimmed);
  if (!absolute) return null;
  const [, year, month, day, hour, minute, second, milli, zulu] = absolute;
  const fields = [+year, +month - 1, +(day ?? 1), +(hour ?? 0), +(minute ?? 0), +(second ?? 0)];
  fields.push(Number((milli ?? "0").padEnd(3, "0")));
  const ms = zulu || utc ? Date.UTC(...fields) : new Date(...fields).getTime();
  return Number.isNaN(ms) ? null : ms;
}
