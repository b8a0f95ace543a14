/** The filters of a search: which topics, and which time range. */

import { get } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { isNumber } from "../lib/numbers.js";
import { plainText, singleLine } from "../lib/text.js";
import { formatTime, isAfterAllTimes, parseTime, timeText } from "../lib/time.js";
import { Popover } from "./popover.js";

const TYPING_PAUSE_MS = 150;
const TOPICS_MAX = 200;
const QUICK_RANGES = [
  ["15m", "Last 15 minutes"],
  ["1h", "Last hour"],
  ["6h", "Last 6 hours"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["", "All time"],
];

// ------------------------------------------------------------------------------------------ topics

/**
 * A menu that selects topics by name or glob; no glob means all topics. `onChange()` is called for a reader.
 */
export class TopicFilter {
  #globs;
  #onChange;
  #popover;

  constructor(globs, onChange) {
    this.#onChange = onChange;
    this.#popover = new Popover("Topics", (close) => this.#createMenu(close));
    this.element = this.#popover.element;
    this.value = globs;
  }

  get value() {
    return this.#globs;
  }

  set value(globs) {
    this.#globs = globs;
    const name = globs.length === 1 ? singleLine(globs[0], 40) : `${globs.length} topics`;
    this.#popover.setLabel(icon("topics"), h("span.menu-text", {}, globs.length ? name : "All topics"));
  }

  /** Whether events of more than one topic can be among the results. */
  get allowsSeveral() {
    return this.#globs.length !== 1 || this.#globs[0].includes("*");
  }

  #select(globs) {
    this.value = globs;
    this.#onChange();
  }

  #createMenu(close) {
    const list = h("div.choices", { role: "group", "aria-label": "Topics" });
    const input = h("input", {
      type: "search",
      placeholder: "Name, or a glob such as orders.*",
      "aria-label": "Topic name or glob",
      spellcheck: "false",
      autocomplete: "off",
    });
    const load = async () => {
      const query = { q: input.value.replace(/\*/g, "").trim(), limit: TOPICS_MAX };
      const { topics } = await get("topics", query).catch(() => ({ topics: [] }));
      this.#drawTopics(
        list,
        topics.map(({ topic }) => topic),
      );
    };
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(load, TYPING_PAUSE_MS);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !input.value.trim()) return;
      this.#select([...new Set([...this.#globs, input.value.trim()])]);
      close();
    });
    const selectAll = () => {
      this.#select([]);
      close();
    };
    load();
    const allButton = h("button.quiet", { type: "button", onclick: selectAll }, "All topics");
    return [input, list, h("div.bar", {}, allButton)];
  }

  #drawTopics(list, topics) {
    const names = [...this.#globs.filter((glob) => !topics.includes(glob)), ...topics];
    const choice = (name) => {
      const onchange = (event) =>
        this.#select(
          event.target.checked ? [...this.#globs, name] : this.#globs.filter((glob) => glob !== name),
        );
      const checkbox = h("input", { type: "checkbox", checked: this.#globs.includes(name), onchange });
      return h("label.choice", {}, checkbox, singleLine(name, 80));
    };
    const isCut = topics.length >= TOPICS_MAX;
    const hint = isCut ? h("p.hint", {}, "There are more topics: type a part of the name.") : null;
    replaceContent(list, names.map(choice), hint);
  }
}

// ------------------------------------------------------------------------------------------ times

/**
 * A menu that selects a time range {since, until}. Both are text: relative ("24h"), ISO 8601, or empty for no
 * limit. `onChange()` is called when a reader selects a range.
 */
export class TimeFilter {
  #range;
  #onChange;
  #popover;

  constructor(range, onChange) {
    this.#onChange = onChange;
    this.#popover = new Popover("Time range", (close) => this.#createMenu(close));
    this.element = this.#popover.element;
    this.value = range;
  }

  get value() {
    return this.#range;
  }

  set value(range) {
    this.#range = range;
    this.#popover.setLabel(icon("clock"), h("span.menu-text", {}, this.#rangeText()));
  }

  /** The limits of the range now: {since_ms?, until_ms?}. */
  get bounds() {
    const now = Date.now();
    const { since, until } = this.#range;
    const limits = { since_ms: since && parseTime(since, now), until_ms: until && parseTime(until, now) };
    if (isNumber(limits.until_ms) && isAfterAllTimes(limits.until_ms)) delete limits.until_ms;
    return Object.fromEntries(Object.entries(limits).filter(([, ms]) => isNumber(ms)));
  }

  #rangeText() {
    const quick = QUICK_RANGES.find(([since]) => this.#isSelected(since));
    const limit = (text, missing) => {
      if (!text) return missing;
      const ms = parseTime(text);
      return ms == null ? plainText(text) : formatTime(ms, { millis: false });
    };
    return quick ? quick[1] : `${limit(this.#range.since, "start")} → ${limit(this.#range.until, "now")}`;
  }

  #isSelected(quickRange) {
    return quickRange === this.#range.since && !this.#range.until;
  }

  #select(range) {
    this.value = range;
    this.#onChange();
  }

  #createMenu(close) {
    const quickButton = ([since, text]) => {
      const onclick = () => {
        this.#select({ since, until: "" });
        close();
      };
      const pressed = String(this.#isSelected(since));
      return h("button.quiet", { type: "button", "aria-pressed": pressed, onclick }, text);
    };
    return [h("div.quick", {}, QUICK_RANGES.map(quickButton)), this.#rangeForm(close)];
  }

  #rangeForm(close) {
    const written = (text) => (/^(?:\d+[a-z]+)?$/.test(text) ? text : formatTime(parseTime(text)));
    const input = (label, value, placeholder) =>
      h("input", { value: written(value), placeholder, "aria-label": label, spellcheck: "false" });
    const since = input("From", this.#range.since, "2013-06-01 12:00, or 3h");
    const until = input("To (exclusive)", this.#range.until, "now");
    const message = h("p.query-error", { role: "alert" });
    const apply = (event) => {
      event.preventDefault();
      const texts = [since, until].map(({ value }) => (value.trim() === "now" ? "" : value.trim()));
      const invalid = texts.find((text) => text && parseTime(text) == null);
      if (invalid) {
        const advice = "Write a time such as 2013-06-01 12:00, or an age such as 3h.";
        replaceContent(message, `“${plainText(invalid)}” is not a time. ${advice}`);
        return;
      }
      const [from, to] = texts.map((text) =>
        text && !/^\d+\s*[a-z]+$/.test(text) ? timeText(parseTime(text)) : text,
      );
      this.#select({ since: from, until: to });
      close();
    };
    return h(
      "form.absolute",
      { onsubmit: apply },
      h("label", {}, "From", since),
      h("label", {}, "To", until),
      message,
      h("button.primary", { type: "submit" }, "Apply"),
    );
  }
}
