/**
 * The trace: all events of all topics that contain a value, in the order of time, with the gaps between them.
 */

import { get, streamLines } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { eventLink } from "../lib/events.js";
import { formatCount, formatDuration } from "../lib/format.js";
import { NO_HIGHLIGHTS, queryHighlights } from "../lib/highlight.js";
import { bindKeys } from "../lib/keys.js";
import { compareNumbers } from "../lib/numbers.js";
import { quoteTerm } from "../lib/query_terms.js";
import { link, updateParams } from "../lib/router.js";
import { plainText, singleLine } from "../lib/text.js";
import { formatTime } from "../lib/time.js";
import { emptyState, errorNotice, showUnreadable } from "../widgets/components.js";
import { EventView } from "../widgets/event_view.js";
import { TimeFilter } from "../widgets/filters.js";
import { snippet } from "../widgets/payload_view.js";

const EVENTS_MAX = 500;
const COLOR_COUNT = 8;
const LEGEND_MAX = 12;
const DRAW_INTERVAL_MS = 150;
const WIDE_GAP_MS = 60_000;
const EMPTY_TITLE = "Which value do you want to trace?";
const EMPTY_HINT =
  "An order number, a tail number, a correlation ID: the trace shows the events of all topics that contain" +
  " it, in the order of time.";

export class TracePage {
  #params;
  #run = null;
  #events = [];
  #totals = null;
  #unreadable = [];
  /** How the search ended: "" (none yet), "running", "stopped", "failed", or a reason of the server. */
  #state = "";
  #current = -1;
  #openEvent = null;
  #drawTimer = 0;
  #highlights = NO_HIGHLIGHTS;

  #input;
  #times;
  #status = h("div.progress-text.muted", { role: "status" });
  #control = h("span");
  #legend = h("div.legend", { "aria-label": "Topics" });
  #waterfall = h("ol.waterfall", { "aria-label": "Events in the order of time" });
  #note = h("div.rows-note");
  #detail = h("div.detail", { hidden: true });
  #unbindKeys = bindKeys({
    j: ["Next event", () => this.#open(this.#current + 1)],
    k: ["Previous event", () => this.#open(this.#current - 1)],
    Escape: ["Close the event", () => this.#closeEvent()],
  });

  constructor(_segments, params) {
    const value = params.get("value") ?? "";
    this.#params = params;
    this.title = value ? `Trace ${plainText(value)}` : "Trace";
    this.#input = h("input.query", {
      type: "text",
      value,
      "data-search": "",
      placeholder: "An ID that events of several topics contain",
      "aria-label": "Value to trace",
      spellcheck: "false",
      autocomplete: "off",
      onkeydown: (event) => event.key === "Enter" && this.#start(),
    });
    const range = { since: params.get("since") ?? "", until: params.get("until") ?? "" };
    this.#times = new TimeFilter(range, () => this.#start());
    this.element = h(
      "div.search",
      {},
      this.#head(),
      h("div.progress-line", {}, this.#status, this.#control, h("span.spacer"), this.#legend),
      h(
        "div.split",
        {},
        h("div.split-main", {}, this.#note, h("div.waterfall-box", {}, this.#waterfall)),
        this.#detail,
      ),
    );
  }

  shown() {
    this.#start();
    this.#input.focus();
  }

  close() {
    this.#run?.abort();
    this.#run = null;
    clearTimeout(this.#drawTimer);
    this.#openEvent?.close();
    this.#unbindKeys();
  }

  #head() {
    const button = h(
      "button.primary",
      { type: "button", onclick: () => this.#start() },
      icon("trace"),
      "Trace",
    );
    return h(
      "div.search-head",
      {},
      h("h1.visually-hidden", {}, "Trace"),
      h("div.query-box", {}, this.#input),
      h("div.search-scope", {}, this.#times.element, button),
    );
  }

  // ---------------------------------------------------------------------------------------- the search

  async #start() {
    this.#run?.abort();
    this.#closeEvent();
    this.#events = [];
    this.#totals = null;
    this.#unreadable = [];
    this.#current = -1;
    const value = this.#input.value.trim();
    this.#saveParams(value);
    this.#state = value ? "running" : "";
    this.#draw();
    if (!value) return;
    const run = new AbortController();
    this.#run = run;
    this.#loadHighlights(value, run);
    const error = await this.#search(value, run).catch((failure) => failure);
    if (run !== this.#run) return;
    if (error) this.#state = error.name === "AbortError" ? "stopped" : "failed";
    if (this.#state === "failed") this.#showError(error);
    else this.#draw();
  }

  #saveParams(value) {
    const isNew = this.#params.get("value") !== value;
    updateParams({ value, ...this.#times.value }, { push: isNew });
    this.#params.set("value", value);
  }

  async #search(value, run) {
    const request = {
      query: quoteTerm(value),
      topics: [],
      newest_first: true,
      limit: EVENTS_MAX,
      ...this.#times.bounds,
    };
    for await (const { hit, unreadable, progress, done } of streamLines("search", request, run.signal)) {
      if (run !== this.#run) return;
      if (hit) this.#events.push(hit);
      if (unreadable) this.#unreadable.push(unreadable);
      this.#totals = (progress ?? done)?.totals ?? this.#totals;
      if (done) this.#state = done.reason;
      this.#drawSoon();
    }
  }

  async #loadHighlights(value, run) {
    const reply = await get("query/check", { q: quoteTerm(value) }).catch(() => null);
    if (!reply || run !== this.#run) return;
    this.#highlights = queryHighlights(reply.highlights);
    if (this.#state !== "failed") this.#draw();
  }

  #showError(error) {
    replaceContent(this.#waterfall);
    replaceContent(
      this.#note,
      errorNotice(error, () => this.#start()),
    );
  }

  // ---------------------------------------------------------------------------------------- drawing

  #drawSoon() {
    this.#drawTimer ||= setTimeout(() => {
      this.#drawTimer = 0;
      this.#draw();
    }, DRAW_INTERVAL_MS);
  }

  #draw() {
    this.#events.sort(byTime);
    const topics = [...new Set(this.#events.map(({ topic }) => topic))];
    const legendItem = (topic, i) =>
      h("a.legend-item", { href: link(["topics", topic]) }, lane(i), singleLine(topic, 40));
    replaceContent(this.#legend, topics.slice(0, LEGEND_MAX).map(legendItem));
    replaceContent(this.#waterfall, this.#rows(topics));
    this.#drawStatus(topics.length);
    replaceContent(this.#note, this.#emptyNote());
  }

  #rows(topics) {
    const start = this.#events[0]?.timestamp_ms ?? 0;
    const spanMs = Math.max(1, (this.#events.at(-1)?.timestamp_ms ?? 0) - start);
    const wideGapMs = Math.max(WIDE_GAP_MS, spanMs / 20);
    return this.#events.map((event, i) => {
      const gapMs = i ? event.timestamp_ms - this.#events[i - 1].timestamp_ms : 0;
      const isWide = gapMs > wideGapMs;
      const left = `${((event.timestamp_ms - start) / spanMs) * 100}%`;
      const gapText = i && !isWide ? `+${formatDuration(gapMs)}` : "";
      return [
        isWide ? h("li.waterfall-gap", {}, `${formatDuration(gapMs)} later`) : null,
        this.#row(event, i, { gapText, left, topicIndex: topics.indexOf(event.topic) }),
      ];
    });
  }

  #row(event, index, { gapText, left, topicIndex }) {
    const onclick = (click) => click.target.closest("a") || this.#open(index);
    const text = snippet(event, "value", this.#highlights, 240) ?? "null";
    return h(
      "li.waterfall-row",
      { "aria-current": index === this.#current ? "true" : null, onclick },
      h("span.event-time", {}, formatTime(event.timestamp_ms)),
      h("span.waterfall-gap-ms.num", {}, gapText),
      h("span.waterfall-topic", {}, lane(topicIndex), singleLine(event.topic, 60)),
      h("span.waterfall-lane", { "aria-hidden": "true" }, lane(topicIndex, { left })),
      h("a.waterfall-value.untrusted", { href: eventLink(event), title: "Open this event" }, text),
    );
  }

  #drawStatus(topicCount) {
    const isRunning = this.#state === "running";
    const stop = () => this.#run?.abort();
    const stopButton = h("button.quiet", { type: "button", onclick: stop }, icon("stop"), "Stop");
    replaceContent(this.#control, isRunning ? stopButton : null);
    const progress = [this.#searchedText(), this.#unreadableButton()];
    if (this.#events.length) replaceContent(this.#status, this.#countText(topicCount), progress);
    else replaceContent(this.#status, isRunning ? ["searching all topics", progress] : progress[1]);
  }

  #countText(topicCount) {
    const spanMs = this.#events.at(-1).timestamp_ms - this.#events[0].timestamp_ms;
    const topics = topicCount === 1 ? "one topic" : `${topicCount} topics`;
    const limit = this.#state === "limit" ? `, only the newest ${formatCount(EVENTS_MAX)}` : "";
    const count = `${formatCount(this.#events.length)} events in ${topics}`;
    return [h("strong", {}, count), ` over ${formatDuration(spanMs)}${limit}`];
  }

  #searchedText() {
    if (!this.#totals) return "";
    const share = this.#state === "complete" ? 1 : (this.#totals.share ?? 0);
    return ` · searched ${Math.floor(share * 100)} %`;
  }

  #unreadableButton() {
    if (!this.#unreadable.length) return null;
    const onclick = () => showUnreadable(this.#unreadable);
    const text = `${formatCount(this.#unreadable.length)} unreadable`;
    return [" · ", h("button.link.bad-text", { type: "button", onclick }, text)];
  }

  #emptyNote() {
    if (this.#events.length || this.#state === "running") return null;
    if (this.#state === "") return emptyState(EMPTY_TITLE, EMPTY_HINT);
    return emptyState("No event contains this value", this.#totals ? "All topics were searched." : "");
  }

  // ---------------------------------------------------------------------------------------- one event

  #open(index) {
    this.#current = Math.min(this.#events.length - 1, Math.max(0, index));
    const event = this.#events[this.#current];
    if (!event) return;
    this.#openEvent?.close();
    this.#openEvent = new EventView(event, {
      close: () => this.#closeEvent(),
      highlights: this.#highlights,
    });
    replaceContent(this.#detail, this.#openEvent.element);
    this.#detail.hidden = false;
    for (const [i, row] of [...this.#waterfall.querySelectorAll(".waterfall-row")].entries()) {
      if (i !== this.#current) row.removeAttribute("aria-current");
      else {
        row.setAttribute("aria-current", "true");
        row.scrollIntoView({ block: "nearest" });
      }
    }
  }

  #closeEvent() {
    this.#openEvent?.close();
    this.#openEvent = null;
    this.#detail.hidden = true;
  }
}

/** The coloured dot of a topic. */
const lane = (topicIndex, style = {}) => h(`i.lane.c${topicIndex % COLOR_COUNT}`, { style });

function byTime(a, b) {
  const order = compareNumbers(a.timestamp_ms, b.timestamp_ms);
  if (order) return order;
  if (a.topic !== b.topic) return a.topic < b.topic ? -1 : 1;
  return a.partition - b.partition || compareNumbers(a.offset, b.offset);
}
