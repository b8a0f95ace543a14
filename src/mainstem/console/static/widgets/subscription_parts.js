/** Parts of the pages of subscriptions: states with their colours, the bar of depths, links to events. */

import { h } from "../lib/dom.js";
import { formatCount } from "../lib/format.js";
import { link } from "../lib/router.js";
import { singleLine } from "../lib/text.js";

/** The states of an outstanding event, in the order of their way, with what they mean. */
export const STATES = {
  ready: "a worker can have it now",
  leased: "a worker has it",
  waiting: "it waits for a time",
  parked: "it waits for an earlier event of its key",
  dying: "it is given up, and its dead letter is not written yet",
  ahead: "the filter was not applied to it yet",
};
export const BROWSED_STATES = Object.keys(STATES).filter((state) => state !== "ahead");

export const outstanding = (depth) => Object.keys(STATES).reduce((sum, state) => sum + depth[state], 0);

/** A bar whose parts are the events in each state. */
export function depthBar(depth) {
  const total = outstanding(depth);
  const states = Object.keys(STATES).filter((state) => depth[state]);
  const label = states.map((state) => `${state} ${formatCount(depth[state])}`).join(", ") || "no events";
  const part = (state) => h(`i.state-${state}`, { style: { "flex-grow": String(depth[state] / total) } });
  return h("span.depth-bar", { role: "img", "aria-label": label, title: label }, states.map(part));
}

/** A state as a word with its colour. */
export const stateWord = (state) => h("span.state-word", {}, h(`i.state-${state}`), state);

/** A link to an event by its position `topic/partition/offset`. */
export function positionLink(position) {
  const [topic, partition, offset] = position.split("/");
  const href = link(["event", topic, partition, offset]);
  return h("a.place", { href, title: "Open the event" }, singleLine(`${topic} ${partition}:${offset}`, 120));
}

export const positionOf = ({ topic, partition, offset }) => `${topic}/${partition}/${offset}`;

/** Positions as requests have them. */
export function placeOf(position) {
  const [topic, partition, offset] = position.split("/");
  return { topic, partition: Number(partition), offset: Number(offset) };
}
