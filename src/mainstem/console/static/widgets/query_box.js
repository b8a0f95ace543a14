/** The query field of the search: completes field names, and underlines errors while a reader types. */

import { canUse, get } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { plainText, visibleText } from "../lib/text.js";

const TYPING_PAUSE_MS = 180;
const BLUR_MS = 120;
const FIELDS_MAX = 12;
const EXAMPLE = 'tailnum:N14228 AND dep_delay:>60     "a phrase"     header.trace:abc*';
const KEYWORDS = [
  { text: "key:", hint: "the key of the event" },
  { text: "header.", hint: "a header: header.NAME:value" },
  { text: "topic:", hint: "a topic name; * matches any text" },
  { text: "partition:", hint: "a partition number" },
  { text: "offset:", hint: "offset:>=100" },
  { text: "time:", hint: "time:[2013-06-01 TO 2013-06-02]" },
  { text: "_exists_:", hint: "events that have this field" },
  { text: "NOT ", hint: "excludes what follows" },
  { text: "OR ", hint: "either of two terms" },
];

export class QueryBox {
  #run;
  #getTopics;
  #input;
  #underline = h("div.squiggle", { hidden: true, "aria-hidden": "true" });
  #message = h("p.query-error", { id: "query-error", role: "alert" });
  #menu = h("div.completion", {
    role: "listbox",
    id: "query-completion",
    hidden: true,
    "aria-label": "Completions",
  });
  #error = null;
  #options = [];
  #currentOption = -1;
  #typingTimer = 0;
  #checks = 0;
  #completions = 0;

  /** `run()` is called by Enter. `getTopics()` returns the topics whose fields are completed. */
  constructor({ query, run, getTopics }) {
    this.#run = run;
    this.#getTopics = getTopics;
    this.#input = h("input.query", this.#inputAttributes(query));
    const inputLine = h("div.query-field", {}, this.#input, this.#underline, this.#menu);
    this.element = h("div.query-box", {}, inputLine, this.#message);
  }

  #inputAttributes(query) {
    return {
      type: "text",
      value: query,
      "data-search": "",
      role: "combobox",
      "aria-label": "Search query",
      "aria-expanded": "false",
      "aria-controls": this.#menu.id,
      "aria-describedby": this.#message.id,
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      maxlength: "10000",
      placeholder: EXAMPLE,
      oninput: () => this.#onInput(),
      onkeydown: (event) => this.#onKeyDown(event),
      onscroll: () => this.#drawUnderline(),
      onblur: () => setTimeout(() => this.#closeMenu(), BLUR_MS),
    };
  }

  get query() {
    return this.#input.value.trim();
  }

  set query(text) {
    this.#input.value = text;
    this.showError(null);
  }

  focus() {
    this.#input.focus();
  }

  close() {
    clearTimeout(this.#typingTimer);
  }

  // ---------------------------------------------------------------------------------------- errors

  /** Underline an error of the query: {message, column, length}; null removes it. */
  showError(error) {
    this.#error = error;
    const column = () => h("span.muted", {}, ` (column ${error.column + 1})`);
    replaceContent(this.#message, error ? [visibleText(error.message), column()] : null);
    this.#input.setAttribute("aria-invalid", String(Boolean(error)));
    this.#drawUnderline();
  }

  #drawUnderline() {
    this.#underline.hidden = !this.#error;
    if (!this.#error) return;
    const { style } = this.#underline;
    style.setProperty("--column", String(this.#error.column));
    style.setProperty("--length", String(Math.max(1, this.#error.length ?? 1)));
    style.setProperty("--scroll", `${this.#input.scrollLeft}px`);
  }

  #onInput() {
    this.showError(null);
    clearTimeout(this.#typingTimer);
    this.#typingTimer = setTimeout(() => {
      this.#check();
      this.#complete();
    }, TYPING_PAUSE_MS);
  }

  async #check() {
    if (!canUse("get", "query/check")) return;
    const check = ++this.#checks;
    const show = (error) => check === this.#checks && this.showError(error);
    try {
      const reply = await get("query/check", { q: this.#input.value });
      show(reply.error ?? null);
    } catch (failure) {
      const { column, length } = failure.body ?? {};
      if (column != null) show({ message: failure.message, column, length });
    }
  }

  // ---------------------------------------------------------------------------------------- completion

  /** The word before the caret that could be the start of a field or a keyword. */
  get #word() {
    const before = this.#input.value.slice(0, this.#input.selectionStart);
    return /(?:^|[\s(])-?([\p{L}_][\p{L}\p{N}_.]*)$/u.exec(before)?.[1] ?? "";
  }

  async #complete() {
    const word = this.#word;
    if (!word || document.activeElement !== this.#input) {
      this.#closeMenu();
      return;
    }
    const completion = ++this.#completions;
    const fields = await this.#fetchFields(word).catch(() => []);
    if (completion !== this.#completions || word !== this.#word) return;
    const isStart = ({ text }) => text.toLowerCase().startsWith(word.toLowerCase()) && text !== word;
    this.#options = [...fields, ...KEYWORDS.filter(isStart)];
    this.#currentOption = -1;
    if (this.#options.length) this.#drawMenu();
    else this.#closeMenu();
  }

  async #fetchFields(prefix) {
    if (!canUse("get", "query/fields")) return [];
    const topics = this.#getTopics();
    const topic = topics.length === 1 && !topics[0].includes("*") ? topics[0] : "";
    const { fields = [] } = await get("query/fields", { topic, prefix });
    const option = (field) =>
      typeof field === "string"
        ? { text: `${field}:` }
        : { text: `${field.field ?? field.name}:`, hint: field.example ?? field.type };
    return fields.slice(0, FIELDS_MAX).map(option);
  }

  #drawMenu() {
    replaceContent(
      this.#menu,
      this.#options.map((option, i) => this.#optionView(option, i)),
    );
    this.#menu.hidden = false;
    this.#input.setAttribute("aria-expanded", "true");
    if (this.#currentOption < 0) this.#input.removeAttribute("aria-activedescendant");
    else this.#input.setAttribute("aria-activedescendant", `completion-${this.#currentOption}`);
  }

  #optionView({ text, hint }, index) {
    const accept = (event) => {
      event.preventDefault();
      this.#accept(index);
    };
    return h(
      "div.option",
      {
        role: "option",
        id: `completion-${index}`,
        "aria-selected": String(index === this.#currentOption),
        onpointerdown: accept,
      },
      h("code", {}, visibleText(text)),
      hint ? h("span.muted", {}, visibleText(plainText(hint).slice(0, 60))) : null,
    );
  }

  #closeMenu() {
    this.#completions++;
    this.#menu.hidden = true;
    this.#options = [];
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }

  #accept(index) {
    const caret = this.#input.selectionStart;
    this.#input.setRangeText(this.#options[index].text, caret - this.#word.length, caret, "end");
    this.#closeMenu();
    this.#onInput();
  }

  #onKeyDown(event) {
    const isOpen = !this.#menu.hidden && this.#options.length > 0;
    if (isOpen && this.#onMenuKey(event)) {
      event.preventDefault();
    } else if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(this.#typingTimer);
      this.#closeMenu();
      this.#run();
    }
  }

  /** Whether the open menu handles the key. */
  #onMenuKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#moveOption(step);
    else if (event.key === "Tab") this.#accept(Math.max(0, this.#currentOption));
    else if (event.key === "Enter" && this.#currentOption >= 0) this.#accept(this.#currentOption);
    else if (event.key === "Escape") {
      event.stopPropagation();
      this.#closeMenu();
    } else return false;
    return true;
  }

  #moveOption(step) {
    const count = this.#options.length;
    const start = this.#currentOption < 0 && step < 0 ? 0 : this.#currentOption;
    this.#currentOption = (start + step + count) % count;
    this.#drawMenu();
  }
}
