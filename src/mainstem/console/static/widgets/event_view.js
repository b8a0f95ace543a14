/**
 * Events: as a row of a list, and in full. Used by search, live tail, trace and the page of one event.
 */

import { can, get, lines, outside, path, who } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { difference, diffView } from "../lib/diff.js";
import { copyButton, empty, iconButton, loading, problem, tabs } from "./components.js";
import { marked, rangesOf, UNMARKED } from "../lib/highlight.js";
import { hexdump, oneLine, read, snippet, tree, writeJson } from "../lib/payload.js";
import { link } from "../lib/router.js";
import { fieldName, term } from "../lib/query_terms.js";
import { replay, resend } from "./replay_export.js";
import { ago, bytes, iso, line, long, many, moment, plain, time } from "../lib/text.js";

/** topic:partition:offset, as the address of a page holds it. */
export const placeOf = (event) => `${event.topic}:${event.partition}:${event.offset}`;

/** The link to the page of an event. */
export const eventLink = ({ topic, partition, offset }) => link(["event", topic, String(partition), String(offset)]);

/** A row: time, topic, place, key, value; what matched is marked. `pick` is a box to choose it with, or null. */
export function eventRow(event, { topics = true, marks = UNMARKED, pick = null } = {}) {
  return h(`div.event-cols${topics ? "" : ".one-topic"}${pick ? ".with-pick" : ""}`, {},
    pick,
    h("span.event-time", { title: iso(event.timestamp_ms) }, moment(event.timestamp_ms)),
    topics ? h("span.event-topic", { title: plain(event.topic) }, line(event.topic, 100)) : null,
    h("span.event-place.num", { title: "partition:offset" }, `${event.partition}:${event.offset}`),
    h("span.event-key.hostile", {}, shown(event, "key", marks, 120) ?? h("span.muted", {}, "no key")),
    h("span.event-value.hostile", {}, shown(event, "value", marks) ?? h("span.muted", {}, "null")));
}

/** In one line; text without any character says so. */
const shown = (event, which, ...more) => (event[which] === "" ? h("span.muted", {}, "empty") : snippet(event, which, ...more));

// ------------------------------------------------------------------------------------------ in full

/** Quotes for a shell. */
const quoted = (text) => `'${String(text).replace(/'/g, "'\\''")}'`;

function commands(event) {
  const at = who().at;
  const { topic, partition, offset } = event;
  return [
    ["kcat", `kcat -b ${at} -t ${quoted(topic)} -p ${partition} -o ${offset} -c 1 -e -J`],
    ["curl", `curl -s ${quoted(outside(path("topics/{}/partitions/{}/events", topic, partition), { offset, limit: 1 }))}`],
    ["Python", [
      "from confluent_kafka import Consumer, TopicPartition", "",
      `consumer = Consumer({"bootstrap.servers": ${JSON.stringify(at)}, "group.id": "look", "enable.auto.commit": False})`,
      `consumer.assign([TopicPartition(${JSON.stringify(topic)}, ${partition}, ${offset})])`,
      "event = consumer.poll(10)", "print(event.key(), event.value(), event.headers())", "consumer.close()", "",
    ].join("\n")],
  ];
}

/** Everything about one event. `filter(term, exclude)` puts a term into the query of a search page. */
export function eventView(event, { filter, close, marks = UNMARKED } = {}) {
  const value = read(event, "value");
  const key = read(event, "key");
  const stop = new AbortController();

  const views = [
    value.kind === "json" ? { id: "pretty", text: "Pretty", make: () => tree(value.json, { tools: fieldTools, marks }) } : null,
    { id: "raw", text: value.kind === "json" ? "Raw" : value.kind === "null" ? "Value" : "Text", make: () => exactly(event, value, stop.signal, (found) => rawView(found, value.kind === "text" ? marks : UNMARKED)) },
    { id: "hex", text: "Hex", make: () => exactly(event, value, stop.signal, ({ bytes: all }) => hexdump(all)) },
    { id: "headers", text: `Headers ${event.headers.length || ""}`, make: () => headersView(event, marks) },
    key.kind !== "null" && can("post", "search") ? { id: "timeline", text: "Key timeline", make: () => timeline(event, key, stop.signal) } : null,
    key.kind !== "null" && can("post", "search") ? { id: "diff", text: "Diff", make: () => previous(event, key, value, stop.signal) } : null,
  ].filter(Boolean);
  const liked = localStorage.getItem("mainstem.view") ?? "pretty";
  // Bytes that are no text begin as bytes, whatever was looked at before.
  const first = value.kind === "binary" && ["pretty", "raw"].includes(liked) ? "hex" : liked;
  const tabbed = tabs(views, first, (id) => localStorage.setItem("mainstem.view", id));

  function fieldTools(path, scalar) {
    const name = fieldName(path);
    return [
      filter ? h("button.link", { type: "button", onclick: () => filter(term(name, scalar), false), title: "Show only these" }, "only") : null,
      filter ? h("button.link", { type: "button", onclick: () => filter(term(name, scalar), true), title: "Leave these out" }, "without") : null,
      can("post", "search") ? h("a", { href: link(["trace"], { value: String(scalar) }), title: "This value in all topics" }, "trace") : null,
    ];
  }

  const element = h("article.event", { "aria-label": "Event" },
    h("header.event-head", {},
      h("div.event-title", {},
        h("h2", {}, h("a", { href: link(["topics", event.topic]) }, line(event.topic, 120)), h("span.muted", {}, ` ${event.partition}:`), h("a", { href: eventLink(event), title: "Link to this event" }, event.offset)),
        h("p.muted", {}, time(event.timestamp_ms), " · ", ago(event.timestamp_ms), event.size != null ? ` · ${bytes(event.size)}` : null)),
      close ? iconButton("close", "Close (Esc)", close) : null),
    h("dl.facts", {},
      h("dt", {}, "Key"),
      h("dd", {}, key.kind === "null" ? h("span.muted", {}, "no key") : h("code", {}, key.kind === "binary" ? oneLine(event, "key") : longMarked(key.text, 300, rangesOf(marks, "key", [], key.text))),
        key.kind === "null" ? null : h("span.fact-tools", {},
          filter && key.kind !== "binary" ? h("button.link", { type: "button", onclick: () => filter(term("key", key.text), false) }, "only") : null,
          can("post", "search") && key.kind !== "binary" ? h("a", { href: link(["trace"], { value: key.text }) }, "trace") : null))),
    tools(event, value),
    tabbed.list, tabbed.panel);
  return { element, stop: () => stop.abort() };
}

/** A view of the value byte for byte: what lists hold of JSON has lost its blanks. */
function exactly(event, value, signal, view) {
  if (value.kind !== "json") return view(value);
  const box = h("div", {}, loading());
  const ask = { offset: event.offset, limit: 1, encoding: "base64" };
  get(path("topics/{}/partitions/{}/events", event.topic, event.partition), ask, signal).then(({ events: [found] }) => {
    if (String(found?.offset) !== String(event.offset)) throw new Error("It is no longer in the topic.");
    put(box, view({ ...read(found, "value"), kind: "text" }));
  }).catch((error) => error.name !== "AbortError" && put(box, problem(error)));
  return box;
}

function rawView(value, marks) {
  if (value.kind === "null") return empty("This event has no value", "A null value: for topics that keep the newest event of a key it means delete.");
  return h("div", {},
    value.kind === "binary" ? h("p.hint", {}, `${bytes(value.bytes.length)} that are not text; shown as UTF-8 as far as it goes.`) : null,
    h("div.payload", {}, longMarked(value.text, 20_000, rangesOf(marks, "text", [], value.text))));
}

const longMarked = (text, limit, ranges) => long(text, limit, (from, to) => marked(text, ranges, from, to));

function headersView(event, marks) {
  if (!event.headers.length) return empty("This event has no headers");
  return h("dl.headers", {}, event.headers.map(({ name, value, value_encoding }) => [
    h("dt", {}, line(name, 200)),
    h("dd", {}, value == null ? h("span.muted", {}, "null") : h("code", {}, longMarked(value, 1000, rangesOf(marks, "header", [name], value))), value_encoding === "base64" ? h("span.tag", {}, "base64") : null),
  ]));
}

function tools(event, value) {
  return h("div.event-tools", {},
    h("span.muted", {}, "Copy"),
    copyButton("value", () => (value.kind === "json" ? writeJson(value.json) : value.text)),
    commands(event).map(([name, text]) => copyButton(name, () => text)),
    copyButton("link", () => location.origin + location.pathname + eventLink(event)),
    can("post", "replay") ? h("span.pair", {},
      h("button.quiet", { type: "button", onclick: () => replay({ events: [event] }) }, "Replay…"),
      h("button.quiet", { type: "button", onclick: () => resend(event) }, "Edit and publish…")) : null);
}

// ------------------------------------------------------------------------------------------ others of its key

const TIMELINE_MAX = 50;

async function sameKey(event, key, more, signal) {
  const found = [];
  for await (const update of lines("search", { query: term("key", key.text), topics: [event.topic], newest_first: true, ...more }, signal))
    if (update.hit && oneLine(update.hit, "key", 1e6) === oneLine(event, "key", 1e6)) found.push(update.hit);
  return found;
}

function timeline(event, key, signal) {
  const box = h("div", {}, loading("Looking for events of this key"));
  sameKey(event, key, { limit: TIMELINE_MAX }, signal).then((found) => {
    put(box,
      h("p.hint", {}, found.length >= TIMELINE_MAX ? `The newest ${TIMELINE_MAX} events of this key in ${plain(event.topic)}` : `${many(found.length, "event")} of this key in ${plain(event.topic)}, newest first`),
      h("ol.timeline", {}, found.map((each, at) => h("li", { "aria-current": placeOf(each) === placeOf(event) ? "true" : null },
        h("a", { href: eventLink(each) }, moment(each.timestamp_ms)),
        h("span.muted", {}, found[at + 1] ? ` +${gap(each.timestamp_ms - found[at + 1].timestamp_ms)}` : " first shown"),
        h("div.clip.mono", {}, line(oneLine(each) ?? "null", 300))))));
  }, (error) => error.name !== "AbortError" && put(box, problem(error)));
  return box;
}

const gap = (ms) => (ms < 1000 ? `${ms} ms` : ago(0, ms).replace(" ago", ""));

function previous(event, key, value, signal) {
  const box = h("div", {}, loading("Looking for the event before"));
  sameKey(event, key, { limit: TIMELINE_MAX, until_ms: event.timestamp_ms + 1 }, signal).then((found) => {
    const before = found.find((each) => each.timestamp_ms < event.timestamp_ms || (each.partition === event.partition && each.offset < event.offset));
    if (!before) return put(box, empty("This is the first event of its key that is kept"));
    const steps = difference(read(before, "value"), value);
    return put(box,
      h("p.hint", {}, "Against ", h("a", { href: eventLink(before) }, `${before.partition}:${before.offset}`), ", ", moment(before.timestamp_ms)),
      steps ? diffView(steps) : h("p", {}, "The two are too long to compare here."));
  }, (error) => error.name !== "AbortError" && put(box, problem(error)));
  return box;
}

/** One event from the server. */
export async function fetchEvent(topic, partition, offset, signal) {
  const reply = await get(path("topics/{}/partitions/{}/events", topic, partition), { offset, limit: 1 }, signal);
  return reply.events.find((each) => String(each.offset) === String(offset)) ?? null;
}

