/** One event, by its place: #/event/TOPIC/PARTITION/OFFSET. */

import { h, put } from "../lib/dom.js";
import { eventView, fetchEvent } from "../widgets/event_view.js";
import * as keys from "../lib/keys.js";
import { empty, loading, problem } from "../widgets/components.js";
import { go, link } from "../lib/router.js";
import { line } from "../lib/text.js";
import { can } from "../lib/api.js";

export function eventPage([, topic, partition, offset]) {
  const stop = new AbortController();
  const body = h("div.page-body.flush", {}, loading("Loading the event"));
  const step = (by) => go(["event", topic, partition, String(Math.max(0, Number(offset) + by))]);
  const element = h("div.event-page", {},
    h("div.page-head", {},
      h("h1", {}, h("span.crumb", {}, h("a", { href: link(["topics", topic]) }, line(topic, 100)), ` / ${Number(partition)} / `), Number(offset)),
      h("span.spacer"),
      h("span.stepper", {},
        h("button", { type: "button", onclick: () => step(-1), disabled: Number(offset) === 0 }, "Older"),
        h("button", { type: "button", onclick: () => step(1) }, "Newer"))),
    body);
  let view = null;

  async function load() {
    try {
      const event = await fetchEvent(topic, partition, offset, stop.signal);
      if (!event) return put(body, empty("There is no event at this offset", "The end has not got there yet, or the place belongs to no event (a control record, or compacted away)."));
      view = eventView(event, can("post", "search") ? { filter: (term, exclude) => go(["search"], { q: exclude ? `NOT ${term}` : term, topics: topic }) } : {});
      return put(body, view.element);
    } catch (error) {
      return error.name !== "AbortError" && put(body, problem(error, load));
    }
  }

  const unbind = keys.bind({ j: ["Newer event", () => step(1)], k: ["Older event", () => step(-1)], Escape: ["Back", () => history.back()] });
  load();
  return {
    title: `${topic} ${partition}:${offset}`,
    element,
    close() {
      stop.abort();
      view?.stop();
      unbind();
    },
  };
}
