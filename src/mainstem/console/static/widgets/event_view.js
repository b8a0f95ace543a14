/** One event in full: its facts, what can be done with it, and its value, headers and history as tabs. */

import { apiPath, canUse, clusterInfo, externalUrl } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { eventLink, fetchRawEvent } from "../lib/events.js";
import { formatBytes } from "../lib/format.js";
import { highlightRanges, highlightText, NO_HIGHLIGHTS } from "../lib/highlight.js";
import { previewText, readPayload, writeJson } from "../lib/payload.js";
import { fieldName, fieldTerm } from "../lib/query_terms.js";
import { link } from "../lib/router.js";
import { expandableText, singleLine } from "../lib/text.js";
import { formatAge, timeElement } from "../lib/time.js";
import { copyButton, emptyState, errorNotice, iconButton, loadingState } from "./components.js";
import { editEvent } from "./edit_event.js";
import { keyTimeline, previousDifference } from "./event_history.js";
import { eventSubscriptions } from "./event_subscriptions.js";
import { hexDump, jsonTree } from "./payload_view.js";
import { replayEvents } from "./replay_export.js";
import { Tabs } from "./tabs.js";

const EVENT_STATES = "topics/{}/partitions/{}/events/{}/subscriptions";
const TAB_KEY = "mainstem.view";
const TEXT_CHARACTERS_MAX = 20_000;
const KEY_CHARACTERS_MAX = 300;
const HEADER_CHARACTERS_MAX = 1000;
const AMQP_SECTIONS_HEADER = "mainstem-amqp";

/**
 * `filter(term, exclude)` adds a term to the query of a search; without it there are no such buttons.
 * `close` is the handler of the close button; without it there is none.
 */
export class EventView {
  #event;
  #value;
  #key;
  #filter;
  #highlights;
  #abort = new AbortController();

  constructor(event, { filter = null, close = null, highlights = NO_HIGHLIGHTS } = {}) {
    this.#event = event;
    this.#value = readPayload(event, "value");
    this.#key = readPayload(event, "key");
    this.#filter = filter;
    this.#highlights = highlights;
    const tabs = new Tabs(this.#tabItems(), this.#firstTab(), (id) => localStorage.setItem(TAB_KEY, id));
    this.element = h(
      "article.event",
      { "aria-label": "Event" },
      h("header.event-head", {}, this.#title(), close ? iconButton("close", "Close (Esc)", close) : null),
      h("dl.facts", {}, h("dt", {}, "Key"), h("dd", {}, this.#keyFact())),
      this.#tools(),
      tabs.list,
      tabs.panel,
    );
  }

  /** Cancel what is still loading. */
  close() {
    this.#abort.abort();
  }

  #title() {
    const { topic, partition, offset, timestamp_ms: time, size } = this.#event;
    return h(
      "div.event-title",
      {},
      h(
        "h2",
        {},
        h("a", { href: link(["topics", topic]) }, singleLine(topic, 120)),
        h("span.muted", {}, ` ${partition}:`),
        h("a", { href: eventLink(this.#event), title: "Link to this event" }, offset),
      ),
      h(
        "p.muted",
        {},
        timeElement(time),
        " · ",
        formatAge(time),
        size != null ? ` · ${formatBytes(size)}` : null,
      ),
    );
  }

  #keyFact() {
    const { kind, text } = this.#key;
    if (kind === "null") return h("span.muted", {}, "no key");
    if (kind === "binary") return h("code", {}, previewText(this.#event, "key"));
    const ranges = highlightRanges(this.#highlights, "key", [], text);
    return [
      h("code", {}, highlightedLongText(text, KEY_CHARACTERS_MAX, ranges)),
      h("span.fact-tools", {}, this.#filterButton("key", text, false), traceLink(text)),
    ];
  }

  #filterButton(name, value, exclude) {
    if (!this.#filter) return null;
    const onclick = () => this.#filter(fieldTerm(name, value), exclude);
    const title = exclude ? "Exclude events with this value" : "Only events with this value";
    return h("button.link", { type: "button", onclick, title }, exclude ? "exclude" : "filter");
  }

  #tools() {
    const value = this.#value;
    const valueText = () => (value.kind === "json" ? writeJson(value.json) : value.text);
    const replay = () => replayEvents([this.#event]);
    return h(
      "div.event-tools",
      {},
      h("span.muted", {}, "Copy"),
      copyButton("value", valueText),
      readCommands(this.#event).map(([name, text]) => copyButton(name, () => text)),
      copyButton("link", () => location.origin + location.pathname + eventLink(this.#event)),
      canUse("post", "replay")
        ? h(
            "span.pair",
            {},
            h("button.quiet", { type: "button", onclick: replay }, "Replay…"),
            h("button.quiet", { type: "button", onclick: () => editEvent(this.#event) }, "Edit and publish…"),
          )
        : null,
    );
  }

  // ---------------------------------------------------------------------------------------- tabs

  /** The tab a reader used last. Binary data never starts as text. */
  #firstTab() {
    const last = localStorage.getItem(TAB_KEY) ?? "pretty";
    return this.#value.kind === "binary" && ["pretty", "raw"].includes(last) ? "hex" : last;
  }

  #tabItems() {
    const { signal } = this.#abort;
    const { kind } = this.#value;
    const hasHistory = this.#key.kind !== "null" && canUse("post", "search");
    const rawName = { json: "Raw", null: "Value" }[kind] ?? "Text";
    const headerCount = this.#event.headers.length || "";
    return [
      kind === "json" && { id: "pretty", text: "Pretty", create: () => this.#tree() },
      { id: "raw", text: rawName, create: () => this.#rawView() },
      { id: "hex", text: "Hex", create: () => this.#withRawValue(({ bytes }) => hexDump(bytes)) },
      { id: "headers", text: `Headers ${headerCount}`, create: () => this.#headers() },
      canUse("get", EVENT_STATES) && {
        id: "subscriptions",
        text: "Subscriptions",
        create: () => eventSubscriptions(this.#event, signal),
      },
      hasHistory && { id: "timeline", text: "Key timeline", create: () => keyTimeline(this.#event, signal) },
      hasHistory && { id: "diff", text: "Diff", create: () => previousDifference(this.#event, signal) },
    ].filter(Boolean);
  }

  #tree() {
    const createTools = (path, scalar) => {
      const name = fieldName(path);
      const buttons = [this.#filterButton(name, scalar, false), this.#filterButton(name, scalar, true)];
      return [buttons, traceLink(String(scalar))];
    };
    return jsonTree(this.#value.json, { createTools, highlights: this.#highlights });
  }

  #rawView() {
    const highlights = this.#value.kind === "text" ? this.#highlights : NO_HIGHLIGHTS;
    return this.#withRawValue((value) => textView(value, highlights));
  }

  /**
   * `createView(value)` of the value byte for byte. It is fetched for JSON, which lists contain without
   * blanks.
   */
  #withRawValue(createView) {
    if (this.#value.kind !== "json") return createView(this.#value);
    const view = h("div", {}, loadingState());
    fetchRawEvent(this.#event, this.#abort.signal)
      .then((event) => replaceContent(view, createView({ ...readPayload(event, "value"), kind: "text" })))
      .catch((error) => error.name !== "AbortError" && replaceContent(view, errorNotice(error)));
    return view;
  }

  #headers() {
    const { headers, amqp } = this.#event;
    if (!headers.length) return emptyState("This event has no headers");
    const content = ({ name, value }) => {
      if (value == null) return h("span.muted", {}, "null");
      const ranges = highlightRanges(this.#highlights, "header", [name], value);
      return h("code", {}, highlightedLongText(value, HEADER_CHARACTERS_MAX, ranges));
    };
    const entry = (header) => [
      h("dt", {}, singleLine(header.name, 200)),
      h("dd", {}, content(header), header.value_encoding === "base64" ? h("span.tag", {}, "base64") : null),
    ];
    const own = headers.filter(({ name }) => !(amqp && name === AMQP_SECTIONS_HEADER));
    return h("dl.headers", {}, own.map(entry), sectionFields(amqp).map(entry));
  }
}

/** What the sections of an AMQP 1.0 message say, as headers: `[{ name, value }]`. */
function sectionFields(amqp = {}) {
  const field = ([name, value]) => {
    const isMap = value !== null && typeof value === "object" && !Array.isArray(value);
    if (isMap) return Object.entries(value).flatMap(([key, item]) => field([`${name}.${key}`, item]));
    return [{ name, value: typeof value === "string" ? value : JSON.stringify(value) }];
  };
  return Object.entries(amqp).flatMap(field);
}

function traceLink(value) {
  if (!canUse("post", "search")) return null;
  return h("a", { href: link(["trace"], { value }), title: "Find this value in all topics" }, "trace");
}

const highlightedLongText = (text, limit, ranges) =>
  expandableText(text, limit, (from, to) => highlightText(text, ranges, { from, to }));

function textView(value, highlights) {
  if (value.kind === "null")
    return emptyState("This event has no value", "In a compacted topic, a null value deletes its key.");
  const hint = `${formatBytes(value.bytes.length)} of binary data, decoded as UTF-8 as far as possible.`;
  const ranges = highlightRanges(highlights, "text", [], value.text);
  return h(
    "div",
    {},
    value.kind === "binary" ? h("p.hint", {}, hint) : null,
    h("div.payload", {}, highlightedLongText(value.text, TEXT_CHARACTERS_MAX, ranges)),
  );
}

/** Commands that read this event: [[tool, command]]. */
function readCommands(event) {
  const bootstrap = clusterInfo().at;
  const { topic, partition, offset } = event;
  const shellQuote = (text) => `'${String(text).replace(/'/g, "'\\''")}'`;
  const url = externalUrl(apiPath("topics/{}/partitions/{}/events", topic, partition), { offset, limit: 1 });
  const servers = `"bootstrap.servers": ${JSON.stringify(bootstrap)}`;
  const settings = `{${servers}, "group.id": "look", "enable.auto.commit": False}`;
  const python = [
    "from confluent_kafka import Consumer, TopicPartition",
    "",
    `consumer = Consumer(${settings})`,
    `consumer.assign([TopicPartition(${JSON.stringify(topic)}, ${partition}, ${offset})])`,
    "event = consumer.poll(10)",
    "print(event.key(), event.value(), event.headers())",
    "consumer.close()",
    "",
  ];
  return [
    ["kcat", `kcat -b ${bootstrap} -t ${shellQuote(topic)} -p ${partition} -o ${offset} -c 1 -e -J`],
    ["curl", `curl -s ${shellQuote(url)}`],
    ["Python", python.join("\n")],
  ];
}
