/**
 * Shows an event among the others with its key: all of them as a timeline, and the difference to the
 * previous.
 */

import { streamLines } from "../lib/api.js";
import { diffLines } from "../lib/diff.js";
import { h, replaceContent } from "../lib/dom.js";
import { eventLink, eventPosition } from "../lib/events.js";
import { formatDuration, plural } from "../lib/format.js";
import { addIntegers, compareNumbers } from "../lib/numbers.js";
import { previewText, readPayload } from "../lib/payload.js";
import { fieldTerm } from "../lib/query_terms.js";
import { plainText, singleLine } from "../lib/text.js";
import { formatTime, isAfterAllTimes } from "../lib/time.js";
import { emptyState, errorNotice, loadingState } from "./components.js";
import { diffView } from "./diff_view.js";

const EVENTS_MAX = 50;
const COMPARED_KEY_CHARACTERS = 1e6;

/** The newest events of the topic that have this event's key. */
async function fetchSameKey(event, filters, signal) {
  const key = readPayload(event, "key").text;
  const wholeKey = (other) => previewText(other, "key", COMPARED_KEY_CHARACTERS);
  const request = {
    query: fieldTerm("key", key),
    topics: [event.topic],
    newest_first: true,
    limit: EVENTS_MAX,
    ...filters,
  };
  const events = [];
  for await (const { hit } of streamLines("search", request, signal))
    if (hit && wholeKey(hit) === wholeKey(event)) events.push(hit);
  return events;
}

/** A container that shows what `load()` resolves to. */
function loadedView(label, load) {
  const view = h("div", {}, loadingState(label));
  load().then(
    (content) => replaceContent(view, content),
    (error) => error.name !== "AbortError" && replaceContent(view, errorNotice(error)),
  );
  return view;
}

/** All events with this event's key, newest first. */
export function keyTimeline(event, signal) {
  return loadedView("Searching for events with this key", async () => {
    const events = await fetchSameKey(event, {}, signal);
    const topic = plainText(event.topic);
    const title =
      events.length >= EVENTS_MAX
        ? `The newest ${EVENTS_MAX} events with this key in ${topic}`
        : `${plural(events.length, "event")} with this key in ${topic}, newest first`;
    const items = events.map((other, i) => timelineItem(other, events[i + 1], event));
    return [h("p.hint", {}, title), h("ol.timeline", {}, items)];
  });
}

function timelineItem(event, previous, shownEvent) {
  const gapMs = previous ? event.timestamp_ms - previous.timestamp_ms : null;
  const isShown = eventPosition(event) === eventPosition(shownEvent);
  return h(
    "li",
    { "aria-current": isShown ? "true" : null },
    h("a", { href: eventLink(event) }, formatTime(event.timestamp_ms)),
    h("span.muted", {}, previous ? ` ${formatGap(gapMs)}` : " oldest shown"),
    h("div.clip.mono", {}, singleLine(previewText(event) ?? "null", 300)),
  );
}

/** +3 s, or −3 s where times do not rise with offsets. */
const formatGap = (ms) => (ms < 0 ? "−" : "+") + formatDuration(Math.abs(ms));

/** The difference between this event's value and that of the previous event with its key. */
export function previousDifference(event, signal) {
  return loadedView("Searching for the previous event", async () => {
    const until = addIntegers(event.timestamp_ms ?? 0, 1);
    const events = await fetchSameKey(event, isAfterAllTimes(until) ? {} : { until_ms: until }, signal);
    const previous = events.find((other) => isBefore(other, event));
    if (!previous) return emptyState("No earlier event with this key is stored");
    const edits = diffLines(readPayload(previous, "value"), readPayload(event, "value"));
    const position = `${previous.partition}:${previous.offset}`;
    return [
      h(
        "p.hint",
        {},
        "Compared with ",
        h("a", { href: eventLink(previous) }, position),
        ", ",
        formatTime(previous.timestamp_ms),
      ),
      edits ? diffView(edits) : h("p", {}, "The values differ in too many lines to compare them here."),
    ];
  });
}

function isBefore(other, event) {
  if (compareNumbers(other.timestamp_ms, event.timestamp_ms) < 0) return true;
  return other.partition === event.partition && compareNumbers(other.offset, event.offset) < 0;
}
