/**
 * Payloads: what an event holds, as a tree, as text, as bytes, and as a difference of two.
 *
 * Owns: reading keys and values as the API sends them. Everything here is hostile text.
 */

import { h, icon } from "./dom.js";
import { marked, rangesOf, UNMARKED } from "./highlight.js";
import { bytes, count, long, visible } from "./text.js";

const ENCODER = new TextEncoder();

/** JSON from the server. Whole numbers that a double cannot hold stay exact, as BigInt. */
export function parseJson(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value);
}

/** JSON text, indented unless `tight`. */
export function writeJson(value, tight = false, deep = 0) {
  if (typeof value === "bigint") return String(value);
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const entries = Array.isArray(value) ? value.map((each) => [null, each]) : Object.entries(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (!entries.length) return open + close;
  const pad = tight ? "" : `\n${"  ".repeat(deep + 1)}`;
  const inner = entries.map(([name, each]) => `${name === null ? "" : JSON.stringify(name) + (tight ? ":" : ": ")}${writeJson(each, tight, deep + 1)}`);
  return open + pad + inner.join(`,${pad}`) + (tight ? "" : `\n${"  ".repeat(deep)}`) + close;
}

function fromBase64(text) {
  const binary = atob(text);
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/** The key or the value of an event: {kind: null|json|text|binary, json?, text, bytes}. */
export function read(event, which) {
  const value = event[which];
  const encoding = event[`${which}_encoding`];
  if (value === null || value === undefined) return { kind: "null", text: "", bytes: new Uint8Array() };
  if (encoding === "base64") {
    const data = fromBase64(value);
    return { kind: "binary", text: new TextDecoder().decode(data), bytes: data };
  }
  if (typeof value === "string" && encoding !== "json") return { kind: "text", text: value, bytes: ENCODER.encode(value) };
  const text = writeJson(value, true);
  return { kind: "json", json: value, text, bytes: ENCODER.encode(text) };
}

/** One line of a payload, for lists. */
export function oneLine(event, which = "value", limit = 600) {
  const { kind, text, bytes: data } = read(event, which);
  if (kind === "null") return null;
  if (kind === "binary") return pairs(data.slice(0, 48)).join(" ") + (data.length > 48 ? " …" : "");
  return text.slice(0, limit);
}

/** What stands in a string of JSON. */
const inQuotes = (text) => JSON.stringify(text).slice(1, -1);

/** A JSON value as it is written in one line: pieces {text, mark?, name?}, names before their values. */
function* pieces(value, marks, path = []) {
  if (Array.isArray(value)) {
    yield { text: "[" };
    for (const [at, each] of value.entries()) {
      if (at) yield { text: "," };
      yield* pieces(each, marks, path);
    }
    yield { text: "]" };
  } else if (value !== null && typeof value === "object") {
    let first = true;
    yield { text: "{" };
    for (const [name, each] of Object.entries(value)) {
      yield { text: `${first ? "" : ","}${JSON.stringify(name)}:`, name: true };
      yield* pieces(each, marks, [...path, name]);
      first = false;
    }
    yield { text: "}" };
  } else {
    const text = typeof value === "string" ? value : String(value);
    const write = typeof value === "string" ? inQuotes : (piece) => piece;
    const edge = typeof value === "string" ? '"' : "";
    let at = 0;
    yield { text: edge };
    for (const [from, to] of rangesOf(marks, "field", path, value)) {
      yield { text: write(text.slice(at, from)) };
      yield { text: write(text.slice(from, to)), mark: true };
      at = to;
    }
    yield { text: write(text.slice(at)) + edge };
  }
}

const LOOKED_THROUGH = 65_536;

/**
 * One line of an event's key or value with what matched marked: nodes, or null where there is nothing. A long one
 * begins where the first mark is, with the name of its field.
 */
export function snippet(event, which, marks = UNMARKED, limit = 400) {
  const payload = read(event, which);
  if (payload.kind === "null") return null;
  if (payload.kind === "binary") return [oneLine(event, which, limit)];
  let text = "";
  let named = 0;
  let begin = -1;
  const ranges = [];
  if (payload.kind === "json" && which === "value") {
    for (const piece of pieces(payload.json, marks)) {
      if (piece.name) named = text.length;
      if (piece.mark) ranges.push([text.length, text.length + piece.text.length]);
      if (piece.mark && begin < 0) begin = Math.max(named, text.length - 80);
      text += piece.text;
      if (text.length > (begin < 0 && marks.any ? LOOKED_THROUGH : Math.max(0, begin) + limit)) break;
    }
  } else {
    text = payload.text.slice(0, LOOKED_THROUGH);
    ranges.push(...rangesOf(marks, which === "key" ? "key" : "text", [], text));
    begin = ranges.length ? ranges[0][0] - 20 : -1;
  }
  const from = begin > 30 ? begin + (text[begin] === "," ? 1 : 0) : 0;
  const to = Math.min(text.length, from + limit);
  return [from ? "…" : "", marked(text, ranges, from, to, (piece) => piece.replace(/[\n\r\t]+/g, " ")), to < text.length ? "…" : ""];
}

export const pairs = (data) => [...data].map((byte) => byte.toString(16).padStart(2, "0"));

// ------------------------------------------------------------------------------------------ tree

const CLASS = { string: "j-string", number: "j-number", bigint: "j-number", boolean: "j-word" };
const LINES_MAX = 1500;

/** A JSON value as lines that fold, with what matched marked. `tools(path, scalar)` gives buttons for the scalar of a path. */
export function tree(value, { tools, marks = UNMARKED } = {}) {
  const box = h("div.payload", {});
  let left = LINES_MAX;
  const rest = [];

  function row(into, deep, ...content) {
    const node = h("span.j-line", { style: { "--deep": deep } }, content);
    into.append(node);
    return node;
  }

  function branch(into, deep, name, each, path, comma) {
    if (left <= 0) {
      rest.push(() => branch(into, deep, name, each, path, comma));
      return;
    }
    left--;
    const label = name === null ? null : [h("span.j-key", {}, visible(JSON.stringify(name))), ": "];
    if (each === null || typeof each !== "object") {
      row(into, deep, label, scalar(each, rangesOf(marks, "field", path, each)), comma, tools && path.length ? h("span.j-tools", {}, tools(path, each)) : null);
      return;
    }
    const list = Array.isArray(each);
    const entries = list ? each.map((one) => [null, one]) : Object.entries(each);
    const [open, close] = list ? "[]" : "{}";
    if (!entries.length) {
      row(into, deep, label, open + close, comma);
      return;
    }
    const inner = h("span", {});
    const hint = h("span.muted", { hidden: true }, ` … ${count(entries.length)} ${close}${comma}`);
    const fold = h("button.j-fold", {
      type: "button", "aria-expanded": "true", "aria-label": `Fold ${name ?? (list ? "list" : "object")}`,
      onclick() {
        inner.hidden = !inner.hidden;
        hint.hidden = !inner.hidden;
        fold.setAttribute("aria-expanded", String(!inner.hidden));
      },
    }, icon("chevron"));
    row(into, deep, fold, label, open, hint);
    into.append(inner);
    entries.forEach(([key, one], at) => branch(inner, deep + 1, key, one, list ? path : [...path, key], at < entries.length - 1 ? "," : ""));
    row(inner, deep, close, comma);
  }

  branch(box, 0, null, value, [], "");
  if (rest.length) {
    const more = h("button.link", {
      type: "button",
      onclick() {
        left = LINES_MAX * 4;
        rest.splice(0).forEach((each) => each());
        if (!rest.length) more.remove();
      },
    }, "show more lines");
    return h("div", {}, box, more);
  }
  return box;
}

function scalar(value, ranges) {
  if (typeof value !== "string") return h(`span.${CLASS[typeof value] ?? "j-word"}`, {}, marked(String(value), ranges));
  return h("span.j-string", {}, '"', long(value, 2000, (from, to) => marked(value, ranges, from, to, inQuotes)), '"');
}

// ------------------------------------------------------------------------------------------ bytes

const HEX_ROWS = 1024;

/** Offset, sixteen bytes, and their ASCII. */
export function hexdump(data) {
  const box = h("pre.hexdump", { tabindex: "0", "aria-label": "Bytes in hexadecimal" });
  let at = 0;
  function more() {
    const rows = [];
    for (const until = Math.min(data.length, at + HEX_ROWS * 16); at < until; at += 16) {
      const part = [...data.slice(at, at + 16)];
      const hex = pairs(part);
      const left = `${hex.slice(0, 8).join(" ")}  ${hex.slice(8).join(" ")}`.padEnd(49);
      const ascii = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
      rows.push(`${at.toString(16).padStart(8, "0")}  ${left} ${ascii}`);
    }
    box.append(h("span", {}, rows.join("\n") + "\n"));
  }
  if (data.length) more();
  else box.append("no bytes");
  if (at >= data.length) return box;
  const button = h("button.link", {
    type: "button",
    onclick() {
      more();
      if (at >= data.length) button.remove();
    },
  }, `show more of ${bytes(data.length)}`);
  return h("div", {}, box, button);
}
