/** Identifies events and fetches single ones. */

import { apiPath, get } from "./api.js";
import { link } from "./router.js";

const EVENTS = "topics/{}/partitions/{}/events";

/** topic:partition:offset, as an address contains it. */
export const eventPosition = ({ topic, partition, offset }) => `${topic}:${partition}:${offset}`;

/** The link to the page of an event. */
export const eventLink = ({ topic, partition, offset }) =>
  link(["event", topic, String(partition), String(offset)]);

/** The event at a position; null if there is none. */
export async function fetchEvent({ topic, partition, offset }, signal) {
  const reply = await get(apiPath(EVENTS, topic, partition), { offset, limit: 1 }, signal);
  return reply.events.find((event) => String(event.offset) === String(offset)) ?? null;
}

/** An event with its key and value byte for byte: elsewhere JSON has lost its white space. */
export async function fetchRawEvent({ topic, partition, offset }, signal) {
  const query = { offset, limit: 1, encoding: "base64" };
  const reply = await get(apiPath(EVENTS, topic, partition), query, signal);
  const [event] = reply.events;
  if (String(event?.offset) !== String(offset)) throw new Error("The event is no longer in the topic.");
  return event;
}
