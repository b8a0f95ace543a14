/**
 * Keyboard shortcuts: single keys and sequences such as `g t`. None runs while a reader types into a field.
 */

const SEQUENCE_MS = 1200;

const bindings = [];
let prefix = "";
let prefixTimer = 0;

/** Bind keys: bindKeys({"g t": ["Go to Topics", handler]}). Returns a function that removes the bindings. */
export function bindKeys(keys) {
  const added = Object.entries(keys).map(([key, [text, run]]) => ({ key, text, run }));
  bindings.push(...added);
  return () => {
    for (const binding of added) bindings.splice(bindings.indexOf(binding), 1);
  };
}

/** The keys that are bound now, with what they do: [[key, text]]. */
export const boundKeys = () => [...new Map(bindings.map(({ key, text }) => [key, text]))];

/** Start listening to the keyboard. Called once. */
export function listenToKeys() {
  document.addEventListener("keydown", onKeyDown);
}

const isTextField = (element) => element?.closest?.("input, textarea, select, [contenteditable]");

function onKeyDown(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  if (isTextField(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
  runBinding(event);
}

function runBinding(event) {
  const sequence = prefix ? `${prefix} ${event.key}` : event.key;
  clearTimeout(prefixTimer);
  prefix = "";
  const binding = bindings.findLast(({ key }) => key === sequence);
  if (binding) {
    event.preventDefault();
    binding.run(event);
  } else if (bindings.some(({ key }) => key.startsWith(`${event.key} `))) {
    prefix = event.key;
    prefixTimer = setTimeout(() => {
      prefix = "";
    }, SEQUENCE_MS);
  }
}
