/** An event as a row of a list. */

import { h } from "../lib/dom.js";
import { NO_HIGHLIGHTS } from "../lib/highlight.js";
import { plainText, singleLine } from "../lib/text.js";
import { formatTime, toIso } from "../lib/time.js";
import { snippet } from "./payload_view.js";

const KEY_CHARACTERS = 120;

/**
 * A row of time, topic, position, key and value. `checkbox` is an element that selects the event, or null.
 */
export function eventRow(event, { showTopic = true, highlights = NO_HIGHLIGHTS, checkbox = null } = {}) {
  const part = (name, missing, limit) => {
    if (event[name] === "") return h("span.muted", {}, "empty");
    return snippet(event, name, highlights, limit) ?? h("span.muted", {}, missing);
  };
  return h(
    `div.event-cols${showTopic ? "" : ".one-topic"}${checkbox ? ".with-checkbox" : ""}`,
    {},
    checkbox,
    h("span.event-time", { title: toIso(event.timestamp_ms) }, formatTime(event.timestamp_ms)),
    showTopic ? h("span.event-topic", { title: plainText(event.topic) }, singleLine(event.topic, 100)) : null,
    h("span.event-place.num", { title: "partition:offset" }, `${event.partition}:${event.offset}`),
    h("span.event-key.untrusted", {}, part("key", "no key", KEY_CHARACTERS)),
    h("span.event-value.untrusted", {}, part("value", "null")),
  );
}
