/**
 * Text for people: hostile text made visible, numbers, sizes, times.
 *
 * Owns: what replaces characters that could mislead (controls, bidi overrides, invisible ones), and every
 * format of a number. The time zone is a choice of the reader, kept in this browser.
 */

import { h } from "./dom.js";

// ------------------------------------------------------------------------------------------ hostile text

const NAMES = {
  0x061c: "arabic letter mark", 0x200b: "zero width space", 0x200c: "zero width non-joiner",
  0x200e: "left-to-right mark", 0x200f: "right-to-left mark", 0x2028: "line separator",
  0x2029: "paragraph separator", 0x202a: "left-to-right embedding", 0x202b: "right-to-left embedding",
  0x202c: "pop directional formatting", 0x202d: "left-to-right override", 0x202e: "right-to-left override",
  0x2060: "word joiner", 0x2066: "left-to-right isolate", 0x2067: "right-to-left isolate",
  0x2068: "first strong isolate", 0x2069: "pop directional isolate", 0xfeff: "byte order mark",
  0xfffd: "not valid UTF-8",
};
const CONTROLS = ("NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC"
  + " FS GS RS US").split(" ");
const MISLEADING =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffd]|[\u{e0000}-\u{e0fff}]/gu;

function picture(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return CONTROLS[code];
  return code === 0x7f ? "DEL" : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A string with every misleading character written out: for titles, attributes and copied file names. */
export function plain(text) {
  return String(text ?? "").replace(MISLEADING, picture);
}

/** Nodes for a string: misleading characters are small marked boxes that say what they are. */
export function visible(text) {
  const all = String(text ?? "");
  const nodes = [];
  let from = 0;
  for (const match of all.matchAll(MISLEADING)) {
    if (match.index > from) nodes.push(all.slice(from, match.index));
    const code = match[0].codePointAt(0);
    nodes.push(h("span.odd", { title: NAMES[code] ?? "control character" }, picture(match[0])));
    from = match.index + match[0].length;
  }
  if (from < all.length) nodes.push(all.slice(from));
  return nodes;
}

/** One line of hostile text, cut to `limit` characters: keys, names, snippets. */
export function line(text, limit = 200) {
  const all = String(text ?? "");
  const cut = all.length > limit ? all.slice(0, limit) : all;
  return h("span.hostile", {}, visible(cut.replace(/[\n\r\t]+/g, " ")), all.length > limit ? "…" : null);
}

/** Text of any length: the first `limit` characters, and a button for the rest. `draw(from, to)` gives the nodes of a piece. */
export function long(text, limit = 4000, draw = null) {
  const all = String(text ?? "");
  const piece = draw ?? ((from, to) => visible(all.slice(from, to)));
  if (all.length <= limit) return h("span.hostile", {}, piece(0, all.length));
  const box = h("span.hostile", {}, piece(0, limit), "… ");
  let shown = limit;
  const more = h("button.link", {
    type: "button",
    onclick() {
      const next = Math.min(all.length, shown + 200_000);
      more.before(h("span", {}, piece(shown, next)));
      shown = next;
      if (shown >= all.length) more.remove();
      else more.textContent = label();
    },
  });
  const label = () => `show more (${count(all.length - shown)} characters)`;
  more.textContent = label();
  box.append(more);
  return box;
}

// ------------------------------------------------------------------------------------------ numbers

const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 1,234,567 */
export const count = (n) => (n == null ? "–" : INTEGER.format(n));

/** 12.3 k */
export function short(n) {
  if (n == null) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(n) >= size) return `${digits(n / size)} ${unit}`;
  return digits(n);
}

function digits(n) {
  return Number.isInteger(n) ? String(n) : n.toFixed(Math.abs(n) >= 100 ? 0 : Math.abs(n) >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}

/** 3.4 GB (powers of ten, as disks are sold) */
export function bytes(n) {
  if (n == null) return "–";
  for (const [size, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
    if (n >= size) return `${digits(n / size)} ${unit}`;
  return `${n} B`;
}

/** 1 event, 2 events */
export const many = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : /(?:s|ch)$/.test(noun) ? "es" : "s"}`;

/** 3 d 4 h: at most two units, from milliseconds. */
export function duration(ms) {
  if (ms == null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const units = [[31_557_600_000, "y"], [86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1000, "s"]];
  const at = units.findIndex(([size]) => ms >= size);
  const [size, unit] = units[at];
  if (at === 4) return `${digits(Math.round(ms / 100) / 10)} s`;
  const rest = Math.floor((ms % size) / units[at + 1][0]);
  return `${Math.floor(ms / size)} ${unit}${rest ? ` ${rest} ${units[at + 1][1]}` : ""}`;
}

// ------------------------------------------------------------------------------------------ times

let utc = localStorage.getItem("mainstem.zone") === "utc";

/** Whether times are shown in UTC; else in the zone of this browser. */
export const inUtc = () => utc;

export function setUtc(value) {
  utc = value;
  localStorage.setItem("mainstem.zone", value ? "utc" : "local");
}

const two = (n) => String(n).padStart(2, "0");

function parts(ms) {
  const d = new Date(ms);
  return utc
    ? [d.getUTCFullYear(), d.getUTCMonth() + 1, d.getUTCDate(), d.getUTCHours(), d.getUTCMinutes(), d.getUTCSeconds(), d.getUTCMilliseconds()]
    : [d.getFullYear(), d.getMonth() + 1, d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds(), d.getMilliseconds()];
}

/** 2013-06-01 12:34:56.789; -1 and null: no time. */
export function moment(ms, { seconds = true, millis = true } = {}) {
  if (ms == null || ms < 0) return "no time";
  const [y, mo, d, hh, mi, ss, milli] = parts(ms);
  const clock = `${two(hh)}:${two(mi)}${seconds ? `:${two(ss)}${millis ? `.${String(milli).padStart(3, "0")}` : ""}` : ""}`;
  return `${y}-${two(mo)}-${two(d)} ${clock}`;
}

/** For an axis: as much of the time as the span needs. */
export function tick(ms, span) {
  const [y, mo, d, hh, mi, ss, milli] = parts(ms);
  if (span > 3 * 366 * 86_400_000) return `${y}-${two(mo)}`;
  if (span > 4 * 86_400_000) return `${y}-${two(mo)}-${two(d)}`;
  if (span > 86_400_000) return `${two(mo)}-${two(d)} ${two(hh)}:${two(mi)}`;
  if (span > 600_000) return `${two(hh)}:${two(mi)}`;
  return span > 10_000 ? `${two(hh)}:${two(mi)}:${two(ss)}` : `${two(hh)}:${two(mi)}:${two(ss)}.${String(milli).padStart(3, "0")}`;
}

/** 5 min ago */
export function ago(ms, now = Date.now()) {
  return ms == null || ms < 0 ? "never" : ms > now ? "in the future" : `${duration(now - ms)} ago`;
}

/** A time element with the exact time on hover. */
export function time(ms, options) {
  if (ms == null || ms < 0) return h("span.muted", {}, "no time");
  return h("time", { datetime: iso(ms), title: iso(ms) }, moment(ms, options));
}

/** ISO 8601, UTC; null for what a calendar does not reach. */
export function iso(ms) {
  const d = new Date(ms);
  return Number.isNaN(d.getTime()) ? null : d.toISOString();
}

const UNITS = { s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** What a reader typed or a link holds: "15m" ago, "2013-06-01 12:00", ISO, or milliseconds. Null: not a time. */
export function parseMoment(text, now = Date.now()) {
  const trimmed = String(text ?? "").trim();
  const relative = /^-?(\d+)\s*(s|m|min|h|d|w)$/.exec(trimmed);
  if (relative) return now - Number(relative[1]) * UNITS[relative[2]];
  if (/^\d{11,15}$/.test(trimmed)) return Number(trimmed);
  const local = /^(\d{4})-(\d\d)(?:-(\d\d))?(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?)?(Z)?$/.exec(trimmed);
  if (!local) return null;
  const [, y, mo, d, hh, mi, ss, milli, z] = local;
  const numbers = [+y, +mo - 1, +(d ?? 1), +(hh ?? 0), +(mi ?? 0), +(ss ?? 0), +(milli ?? "0").padEnd(3, "0")];
  const ms = z || utc ? Date.UTC(...numbers) : new Date(...numbers).getTime();
  return Number.isNaN(ms) ? null : ms;
}
