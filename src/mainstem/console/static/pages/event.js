/** One event, addressed by its position: #/event/TOPIC/PARTITION/OFFSET. */

import { canUse } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { fetchEvent } from "../lib/events.js";
import { bindKeys } from "../lib/keys.js";
import { link, navigate } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { emptyState, loadInto, loadingState } from "../widgets/components.js";
import { EventView } from "../widgets/event_view.js";

const MISSING_HINT =
  "It has not been written yet, or the offset belongs to no event: to a control record, or to" +
  " one that was removed.";

/** A number of an address without leading zeros, exact whatever its length; "0" for what is no number. */
const wholeNumber = (text) => (/^\d{1,19}$/.test(text) ? String(BigInt(text)) : "0");

export class EventPage {
  #position;
  #abort = new AbortController();
  #body = h("div.page-body.flush", {}, loadingState("Loading the event"));
  #view = null;
  #unbindKeys = bindKeys({
    j: ["Next event", () => this.#step(1)],
    k: ["Previous event", () => this.#step(-1)],
    Escape: ["Back", () => history.back()],
  });

  constructor([, topic, partition, offset]) {
    this.#position = { topic, partition, offset };
    this.title = `${topic} ${partition}:${offset}`;
    this.element = h("div.event-page", {}, this.#head(), this.#body);
    this.#load();
  }

  close() {
    this.#abort.abort();
    this.#view?.close();
    this.#unbindKeys();
  }

  #head() {
    const { topic, partition, offset } = this.#position;
    const topicLink = h("a", { href: link(["topics", topic]) }, singleLine(topic, 100));
    const crumb = h("span.crumb", {}, topicLink, ` / ${wholeNumber(partition)} / `);
    const button = (text, step) =>
      h(
        "button",
        { type: "button", onclick: () => this.#step(step), disabled: String(offset) === "0" && step < 0 },
        text,
      );
    return h(
      "div.page-head",
      {},
      h("h1", {}, crumb, wholeNumber(offset)),
      h("span.spacer"),
      h("span.stepper", {}, button("Previous", -1), button("Next", 1)),
    );
  }

  #step(step) {
    const { topic, partition, offset } = this.#position;
    const next = BigInt(wholeNumber(offset)) + BigInt(step);
    navigate(["event", topic, partition, String(next < 0n ? 0n : next)]);
  }

  #load() {
    return loadInto(this.#body, async () => {
      const event = await fetchEvent(this.#position, this.#abort.signal);
      this.#view = event ? new EventView(event, { filter: this.#filter() }) : null;
      const missing = () => emptyState("There is no event at this offset", MISSING_HINT);
      replaceContent(this.#body, this.#view?.element ?? missing());
    });
  }

  /** Opens a search of the topic; null if the server has no search. */
  #filter() {
    if (!canUse("post", "search")) return null;
    const { topic } = this.#position;
    return (term, exclude) => navigate(["search"], { q: exclude ? `NOT ${term}` : term, topics: topic });
  }
}
