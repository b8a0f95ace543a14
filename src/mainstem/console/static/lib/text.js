/**
 * Shows untrusted text: misleading characters are written out, and long text is cut.
 *
 * Owns: which characters mislead (controls, bidirectional overrides, invisible ones) and what replaces them.
 */

import { h } from "./dom.js";
import { formatCount } from "./format.js";

const CHARACTER_NAMES = {
  0x061c: "arabic letter mark",
  0x200b: "zero width space",
  0x200c: "zero width non-joiner",
  0x200e: "left-to-right mark",
  0x200f: "right-to-left mark",
  0x2028: "line separator",
  0x2029: "paragraph separator",
  0x202a: "left-to-right embedding",
  0x202b: "right-to-left embedding",
  0x202c: "pop directional formatting",
  0x202d: "left-to-right override",
  0x202e: "right-to-left override",
  0x2060: "word joiner",
  0x2066: "left-to-right isolate",
  0x2067: "right-to-left isolate",
  0x2068: "first strong isolate",
  0x2069: "pop directional isolate",
  0xfeff: "byte order mark",
  0xfffd: "not valid UTF-8",
};
const CONTROL_NAMES = (
  "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC" +
  " FS GS RS US"
).split(" ");
const MISLEADING = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200c\\u200e\\u200f" +
    "\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffd]|[\\u{e0000}-\\u{e0fff}]",
  "gu",
);
const EXPANDED_AT_ONCE = 200_000;

function characterLabel(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return CONTROL_NAMES[code];
  return code === 0x7f ? "DEL" : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A string with every misleading character written out: for titles, attributes and file names. */
export function plainText(text) {
  return String(text ?? "").replace(MISLEADING, characterLabel);
}

/** Nodes for a string; each misleading character becomes a small box with its name. */
export function visibleText(text) {
  const content = String(text ?? "");
  const nodes = [];
  let start = 0;
  for (const match of content.matchAll(MISLEADING)) {
    if (match.index > start) nodes.push(content.slice(start, match.index));
    const title = CHARACTER_NAMES[match[0].codePointAt(0)] ?? "control character";
    nodes.push(h("span.character-box", { title }, characterLabel(match[0])));
    start = match.index + match[0].length;
  }
  if (start < content.length) nodes.push(content.slice(start));
  return nodes;
}

/** A string on one line, cut to `limit` characters: keys, names, snippets. */
export function singleLine(text, limit = 200) {
  const content = String(text ?? "");
  const start = content.slice(0, limit).replace(/[\n\r\t]+/g, " ");
  return h("span.untrusted", {}, visibleText(start), content.length > limit ? "…" : null);
}

/**
 * Text of any length: its first `limit` characters and a button that shows more.
 * `render(from, to)` returns the nodes of a part; the default shows it as it is.
 */
export function expandableText(text, limit = 4000, render = null) {
  const content = String(text ?? "");
  const renderPart = render ?? ((from, to) => visibleText(content.slice(from, to)));
  if (content.length <= limit) return h("span.untrusted", {}, renderPart(0, content.length));
  let shown = limit;
  const label = () => `show more (${formatCount(content.length - shown)} characters)`;
  const button = h("button.link", { type: "button", onclick: expand }, label());

  function expand() {
    const end = Math.min(content.length, shown + EXPANDED_AT_ONCE);
    button.before(h("span", {}, renderPart(shown, end)));
    shown = end;
    if (shown >= content.length) button.remove();
    else button.textContent = label();
  }

  return h("span.untrusted", {}, renderPart(0, limit), "… ", button);
}
