/**
 * The keyboard: single keys and sequences (`g t`), never while something is being typed.
 *
 * Pages add keys with `bind` and get back what removes them again. The help lists what is bound now.
 */

import { h } from "./dom.js";
import { dialog } from "../widgets/components.js";

const bound = [];
let prefix = "";
let prefixTimer = 0;

/** bind({"g t": [what it does, function]}): removes them when called. */
export function bind(keys) {
  const entries = Object.entries(keys).map(([key, [text, run]]) => ({ key, text, run }));
  bound.push(...entries);
  return () => entries.forEach((entry) => bound.splice(bound.indexOf(entry), 1));
}

const typing = (element) => element?.closest?.("input, textarea, select, [contenteditable]");

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
  const whole = prefix ? `${prefix} ${event.key}` : event.key;
  clearTimeout(prefixTimer);
  prefix = "";
  const found = bound.findLast((entry) => entry.key === whole);
  if (found) {
    event.preventDefault();
    found.run(event);
  } else if (bound.some((entry) => entry.key.startsWith(`${event.key} `))) {
    prefix = event.key;
    prefixTimer = setTimeout(() => (prefix = ""), 1200);
  }
}

/** Listen. Called once. */
export function start() {
  document.addEventListener("keydown", pressed);
}

/** The list of keys, as a dialog. */
export function help() {
  const seen = new Map(bound.map((entry) => [entry.key, entry.text]));
  dialog("Keyboard", [
    h("dl.keys", {}, [...seen].map(([key, text]) => [
      h("dt", {}, key.split(" ").map((each) => h("kbd", {}, each))),
      h("dd", {}, text),
    ])),
  ]);
}
