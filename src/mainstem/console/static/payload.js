/**
 * Payloads: what an event holds, as a tree, as text, as bytes, and as a difference of two.
 *
 * Owns: reading keys and values as the API sends them. Everything here is hostile text.
 */

import { h, icon } from "./dom.js";
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

const pairs = (data) => [...data].map((byte) => byte.toString(16).padStart(2, "0"));

// ------------------------------------------------------------------------------------------ tree

const CLASS = { string: "j-string", number: "j-number", bigint: "j-number", boolean: "j-word" };
const LINES_MAX = 1500;

/** A JSON value as lines that fold. `tools(path, scalar)` gives buttons for a scalar with its dotted path. */
export function tree(value, tools) {
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
      row(into, deep, label, scalar(each), comma, tools && path ? h("span.j-tools", {}, tools(path, each)) : null);
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
    entries.forEach(([key, one], at) => branch(inner, deep + 1, key, one, list ? path : path ? `${path}.${key}` : key, at < entries.length - 1 ? "," : ""));
    row(inner, deep, close, comma);
  }

  branch(box, 0, null, value, "", "");
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

function scalar(value) {
  if (typeof value !== "string") return h(`span.${CLASS[typeof value] ?? "j-word"}`, {}, String(value));
  return h("span.j-string", {}, long(JSON.stringify(value), 2000));
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

// ------------------------------------------------------------------------------------------ difference

const DIFF_LINES_MAX = 3000;

/** The lines of two payloads: [["same" | "del" | "add", text]]; null: too long to compare. */
export function difference(before, after) {
  const a = textOf(before).split("\n");
  const b = textOf(after).split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const [x, y] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  if (x.length * y.length > DIFF_LINES_MAX * DIFF_LINES_MAX) return null;
  const middle = longest(x, y);
  return [...a.slice(0, head).map((each) => ["same", each]), ...middle, ...a.slice(a.length - tail).map((each) => ["same", each])];
}

function textOf(payload) {
  if (payload.kind === "json") return writeJson(payload.json);
  return payload.kind === "binary" ? pairs(payload.bytes).join("\n") : payload.text;
}

function longest(x, y) {
  const width = y.length + 1;
  const best = new Uint16Array((x.length + 1) * width);
  for (let i = x.length - 1; i >= 0; i--)
    for (let j = y.length - 1; j >= 0; j--)
      best[i * width + j] = x[i] === y[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const steps = [];
  let [i, j] = [0, 0];
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) steps.push(["same", x[i++], j++]);
    else if (i < x.length && (j >= y.length || best[(i + 1) * width + j] >= best[i * width + j + 1])) steps.push(["del", x[i++]]);
    else steps.push(["add", y[j++]]);
  }
  return steps;
}
