/** The query box: completion of fields, and errors shown at their column while one types. */

import { can, get } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { plain, visible } from "../lib/text.js";

const CHECK_AFTER_MS = 180;
const WORDS = [
  ["key:", "the key of the event"], ["header.", "a header: header.NAME:value"], ["topic:", "names, with *"],
  ["partition:", "its number"], ["offset:", "offset:>=100"], ["time:", "time:[2013-06-01 TO 2013-06-02]"],
  ["_exists_:", "events that have this field"], ["NOT ", "without what follows"], ["OR ", "either of two"],
];

/** {element, input, value(), set(text), problem(error | null)}; `run()` on Enter, `scope()` gives the topics for completion. */
export function queryBox({ value, run, scope }) {
  const squiggle = h("div.squiggle", { hidden: true, "aria-hidden": "true" });
  const wrong = h("p.query-error", { id: "query-error", role: "alert" });
  const menu = h("div.completion", { role: "listbox", id: "query-completion", hidden: true, "aria-label": "Completions" });
  const input = h("input.query", {
    type: "text", value, "data-search": "", role: "combobox", "aria-label": "Search query", "aria-expanded": "false", "aria-controls": "query-completion",
    "aria-describedby": "query-error", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "10000",
    placeholder: 'tailnum:N14228 AND dep_delay:>60     "a phrase"     header.trace:abc*',
    oninput: typed, onkeydown: keys, onscroll: drawSquiggle, onblur: () => setTimeout(closeMenu, 120),
  });
  const element = h("div.query-box", {}, h("div.query-field", {}, input, squiggle, menu), wrong);
  let timer = 0;
  let asked = 0;
  let completing = 0;
  let options = [];
  let marked = -1;
  let error = null;

  function typed() {
    problem(null);
    clearTimeout(timer);
    timer = setTimeout(() => {
      check();
      complete();
    }, CHECK_AFTER_MS);
  }

  async function check() {
    if (!can("get", "query/check")) return true;
    const mine = ++asked;
    try {
      const reply = await get("query/check", { q: input.value });
      if (mine === asked) problem(reply.error ?? null);
      return !reply.error;
    } catch (failure) {
      if (mine === asked && failure.body?.column != null) problem({ message: failure.message, column: failure.body.column, length: failure.body.length });
      return false;
    }
  }

  function problem(found) {
    error = found;
    put(wrong, found ? [visible(found.message), h("span.muted", {}, ` (column ${found.column + 1})`)] : null);
    input.setAttribute("aria-invalid", String(Boolean(found)));
    drawSquiggle();
  }

  function drawSquiggle() {
    squiggle.hidden = !error;
    if (!error) return;
    squiggle.style.setProperty("--column", String(error.column));
    squiggle.style.setProperty("--length", String(Math.max(1, error.length ?? 1)));
    squiggle.style.setProperty("--scroll", `${input.scrollLeft}px`);
  }

  // -------------------------------------------------------------------------------------- completion

  const wordBefore = () => /(?:^|[\s(])-?([\p{L}_][\p{L}\p{N}_.]*)$/u.exec(input.value.slice(0, input.selectionStart))?.[1] ?? "";

  async function complete() {
    const word = wordBefore();
    if (!word || document.activeElement !== input) return closeMenu();
    const mine = ++completing;
    let fields = [];
    if (can("get", "query/fields")) {
      try {
        const topics = scope();
        const reply = await get("query/fields", { topic: topics.length === 1 && !topics[0].includes("*") ? topics[0] : "", prefix: word });
        fields = (reply.fields ?? []).map((each) => (typeof each === "string" ? { text: `${each}:` } : { text: `${each.field ?? each.name}:`, hint: each.example ?? each.type }));
      } catch {
        fields = [];
      }
    }
    if (mine !== completing || word !== wordBefore()) return undefined;
    const own = WORDS.filter(([text]) => text.toLowerCase().startsWith(word.toLowerCase()) && text !== word).map(([text, hint]) => ({ text, hint }));
    options = [...fields.slice(0, 12), ...own];
    marked = -1;
    return options.length ? drawMenu() : closeMenu();
  }

  function drawMenu() {
    put(menu, options.map(({ text, hint }, at) => h("div.option", {
      role: "option", id: `completion-${at}`, "aria-selected": String(at === marked),
      onpointerdown: (event) => (event.preventDefault(), accept(at)),
    }, h("code", {}, visible(text)), hint ? h("span.muted", {}, visible(plain(hint).slice(0, 60))) : null)));
    menu.hidden = false;
    input.setAttribute("aria-expanded", "true");
    if (marked >= 0) input.setAttribute("aria-activedescendant", `completion-${marked}`);
    else input.removeAttribute("aria-activedescendant");
  }

  function closeMenu() {
    completing++;
    menu.hidden = true;
    options = [];
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function accept(at) {
    const word = wordBefore();
    const caret = input.selectionStart;
    const start = caret - word.length;
    input.setRangeText(options[at].text, start, caret, "end");
    closeMenu();
    typed();
  }

  function keys(event) {
    const open = !menu.hidden && options.length;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (open && step) {
      event.preventDefault();
      marked = (marked + step + options.length + (marked < 0 && step < 0 ? 1 : 0)) % options.length;
      drawMenu();
    } else if (open && (event.key === "Tab" || (event.key === "Enter" && marked >= 0))) {
      event.preventDefault();
      accept(Math.max(0, marked));
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      event.stopPropagation();
      closeMenu();
    } else if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(timer);
      closeMenu();
      run();
    }
  }

  return {
    element,
    input,
    problem,
    value: () => input.value.trim(),
    set(text) {
      input.value = text;
      problem(null);
    },
    close: () => clearTimeout(timer),
  };
}
