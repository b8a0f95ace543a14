/** Shows payloads: as one line of a list, as a tree of JSON, and as bytes. All of it is untrusted text. */

import { h, icon } from "../lib/dom.js";
import { formatBytes, formatCount } from "../lib/format.js";
import { highlightRanges, highlightText, NO_HIGHLIGHTS } from "../lib/highlight.js";
import { isContainer, isNumber } from "../lib/numbers.js";
import { escapeJsonText, hexPairs, previewText, readPayload } from "../lib/payload.js";
import { expandableText, visibleText } from "../lib/text.js";

// ------------------------------------------------------------------------------------------ one line

const SCANNED_MAX = 65_536;
const CONTEXT_CHARACTERS = 80;

/**
 * One line of an event's key or value with its matches highlighted, as nodes; null if the event has none.
 * A long value starts at its first match, with the name of the field.
 */
export function snippet(event, part, highlights = NO_HIGHLIGHTS, limit = 400) {
  const payload = readPayload(event, part);
  if (payload.kind === "null") return null;
  if (payload.kind === "binary") return [previewText(event, part, limit)];
  const isTree = payload.kind === "json" && part === "value";
  const { text, ranges, start } = isTree
    ? scanJson(payload.json, highlights, limit)
    : scanText(payload.text, part === "key" ? "key" : "text", highlights);
  const from = start > 30 ? start + (text[start] === "," ? 1 : 0) : 0;
  const to = Math.min(text.length, from + limit);
  const format = (content) => content.replace(/[\n\r\t]+/g, " ");
  return [from ? "…" : "", highlightText(text, ranges, { from, to, format }), to < text.length ? "…" : ""];
}

function scanText(content, place, highlights) {
  const text = content.slice(0, SCANNED_MAX);
  const ranges = highlightRanges(highlights, place, [], text);
  return { text, ranges, start: ranges.length ? ranges[0][0] - 20 : -1 };
}

/** The start of JSON text, as far as a snippet needs it, with the ranges of its matches. */
function scanJson(json, highlights, limit) {
  let text = "";
  let fieldStart = 0;
  let start = -1;
  const ranges = [];
  for (const token of jsonTokens(json, highlights)) {
    if (token.isName) fieldStart = text.length;
    if (token.isMatch) {
      ranges.push([text.length, text.length + token.text.length]);
      if (start < 0) start = Math.max(fieldStart, text.length - CONTEXT_CHARACTERS);
    }
    text += token.text;
    const isSearching = start < 0 && !highlights.isEmpty;
    if (text.length > (isSearching ? SCANNED_MAX : Math.max(0, start) + limit)) break;
  }
  return { text, ranges, start };
}

/** A JSON value as the tokens {text, isName?, isMatch?} of its compact text. */
function* jsonTokens(value, highlights, path = []) {
  if (Array.isArray(value)) {
    yield { text: "[" };
    for (const [index, item] of value.entries()) {
      if (index) yield { text: "," };
      yield* jsonTokens(item, highlights, path);
    }
    yield { text: "]" };
  } else if (isContainer(value)) {
    yield { text: "{" };
    for (const [index, [name, item]] of Object.entries(value).entries()) {
      yield { text: `${index ? "," : ""}${JSON.stringify(name)}:`, isName: true };
      yield* jsonTokens(item, highlights, [...path, name]);
    }
    yield { text: "}" };
  } else yield* scalarTokens(value, highlightRanges(highlights, "field", path, value));
}

function* scalarTokens(value, ranges) {
  const isString = typeof value === "string";
  const text = String(value);
  const written = isString ? escapeJsonText : (content) => content;
  const quote = isString ? '"' : "";
  let end = 0;
  yield { text: quote };
  for (const [from, to] of ranges) {
    yield { text: written(text.slice(end, from)) };
    yield { text: written(text.slice(from, to)), isMatch: true };
    end = to;
  }
  yield { text: written(text.slice(end)) + quote };
}

// ------------------------------------------------------------------------------------------ tree

const TREE_LINES_MAX = 1500;
const STRING_CHARACTERS_MAX = 2000;

/**
 * A JSON value as foldable lines with its matches highlighted. `createTools(path, scalar)` returns buttons
 * for a scalar that has a path.
 */
export const jsonTree = (value, options) => new JsonTree(value, options).element;

class JsonTree {
  #createTools;
  #highlights;
  #linesLeft = TREE_LINES_MAX;
  /** Functions that add what did not fit into the lines. */
  #deferred = [];

  constructor(value, { createTools = () => null, highlights = NO_HIGHLIGHTS }) {
    this.#createTools = createTools;
    this.#highlights = highlights;
    const payload = h("div.payload", {});
    this.#addNode(payload, { depth: 0, name: null, value, path: [], comma: "" });
    this.element = this.#deferred.length ? h("div", {}, payload, this.#moreButton()) : payload;
  }

  #moreButton() {
    const button = h(
      "button.link",
      { type: "button", onclick: () => this.#addDeferred(button) },
      "show more lines",
    );
    return button;
  }

  #addDeferred(button) {
    this.#linesLeft = TREE_LINES_MAX * 4;
    for (const add of this.#deferred.splice(0)) add();
    if (!this.#deferred.length) button.remove();
  }

  #addLine(container, depth, ...content) {
    container.append(h("span.j-line", { style: { "--deep": depth } }, content));
  }

  #addNode(container, node) {
    if (this.#linesLeft <= 0) {
      this.#deferred.push(() => this.#addNode(container, node));
      return;
    }
    this.#linesLeft--;
    const { name, value } = node;
    const label = name === null ? null : [h("span.j-key", {}, visibleText(JSON.stringify(name))), ": "];
    if (isContainer(value)) this.#addBranch(container, label, node);
    else this.#addScalar(container, label, node);
  }

  #addScalar(container, label, { depth, value, path, comma }) {
    const tools = path.length ? this.#createTools(path, value) : null;
    this.#addLine(
      container,
      depth,
      label,
      scalarView(value, highlightRanges(this.#highlights, "field", path, value)),
      comma,
      tools ? h("span.j-tools", {}, tools) : null,
    );
  }

  #addBranch(container, label, { depth, name, value, path, comma }) {
    const isList = Array.isArray(value);
    const entries = isList ? value.map((item) => [null, item]) : Object.entries(value);
    const [open, close] = isList ? "[]" : "{}";
    if (!entries.length) {
      this.#addLine(container, depth, label, open + close, comma);
      return;
    }
    const inner = h("span", {});
    const folded = h("span.muted", { hidden: true }, ` … ${formatCount(entries.length)} ${close}${comma}`);
    const fold = foldButton(name ?? (isList ? "list" : "object"), inner, folded);
    this.#addLine(container, depth, fold, label, open, folded);
    container.append(inner);
    for (const [index, [key, item]] of entries.entries())
      this.#addNode(inner, {
        depth: depth + 1,
        name: key,
        value: item,
        path: isList ? path : [...path, key],
        comma: index < entries.length - 1 ? "," : "",
      });
    this.#addLine(inner, depth, close, comma);
  }
}

function foldButton(name, inner, folded) {
  function toggle() {
    inner.hidden = !inner.hidden;
    folded.hidden = !inner.hidden;
    button.setAttribute("aria-expanded", String(!inner.hidden));
  }
  const attributes = {
    type: "button",
    "aria-expanded": "true",
    "aria-label": `Fold ${name}`,
    onclick: toggle,
  };
  const button = h("button.j-fold", attributes, icon("chevron"));
  return button;
}

function scalarView(value, ranges) {
  if (typeof value !== "string")
    return h(`span.${isNumber(value) ? "j-number" : "j-word"}`, {}, highlightText(String(value), ranges));
  const render = (from, to) => highlightText(value, ranges, { from, to, format: escapeJsonText });
  return h("span.j-string", {}, '"', expandableText(value, STRING_CHARACTERS_MAX, render), '"');
}

// ------------------------------------------------------------------------------------------ bytes

const BYTES_PER_ROW = 16;
const ROWS_AT_ONCE = 1024;

/** Bytes as rows of an offset, sixteen hexadecimal pairs, and ASCII. */
export function hexDump(bytes) {
  const dump = h("pre.hexdump", { tabindex: "0", "aria-label": "Bytes in hexadecimal" });
  let shown = 0;
  function addRows() {
    const end = Math.min(bytes.length, shown + ROWS_AT_ONCE * BYTES_PER_ROW);
    const rows = [];
    for (; shown < end; shown += BYTES_PER_ROW) rows.push(hexRow(bytes, shown));
    dump.append(h("span", {}, `${rows.join("\n")}\n`));
  }
  if (!bytes.length) dump.append("no bytes");
  else addRows();
  if (shown >= bytes.length) return dump;
  const button = h(
    "button.link",
    { type: "button", onclick: addMore },
    `show more of ${formatBytes(bytes.length)}`,
  );
  function addMore() {
    addRows();
    if (shown >= bytes.length) button.remove();
  }
  return h("div", {}, dump, button);
}

function hexRow(bytes, offset) {
  const row = bytes.slice(offset, offset + BYTES_PER_ROW);
  const pairs = hexPairs(row);
  const hex = `${pairs.slice(0, 8).join(" ")}  ${pairs.slice(8).join(" ")}`.padEnd(49);
  const isPrintable = (byte) => byte >= 0x20 && byte < 0x7f;
  const ascii = Array.from(row, (byte) => (isPrintable(byte) ? String.fromCharCode(byte) : "·")).join("");
  return `${offset.toString(16).padStart(8, "0")}  ${hex} ${ascii}`;
}
