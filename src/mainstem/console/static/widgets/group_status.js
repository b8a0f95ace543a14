/** How a consumer group is doing, in words: its state, its members, its outlook, and where it is stuck. */

import { h } from "../lib/dom.js";
import { formatDuration, formatRate } from "../lib/format.js";
import { singleLine } from "../lib/text.js";

const LITTLE_LAG_MS = 10_000;
const STEADY_PER_S = 0.05;
const STATE_KINDS = {
  Stable: ".ok",
  Dead: ".bad",
  PreparingRebalance: ".warn",
  CompletingRebalance: ".warn",
};

/** A tag with Kafka's state of a group. */
export const stateTag = (state) =>
  h(`span.tag${STATE_KINDS[state] ?? ""}`, {}, state === "Empty" ? "no members" : singleLine(state, 40));

/** A tag for a share group; null for other groups. */
export const shareTag = (protocolType) =>
  protocolType === "share"
    ? h("span.tag.after", { title: "Its records are acknowledged one by one" }, "share group")
    : null;

/**
 * A tag that says how long positions have not moved; null if none is stuck. Without members it says "unread".
 */
export function stuckTag(stuck, hasMembers) {
  if (!stuck) return null;
  const title = "Nothing was read in this time, although there are unread events";
  return h(
    "span.tag.bad.after",
    { title },
    `${hasMembers ? "stuck" : "unread"} ${formatDuration(stuck.for_ms)}`,
  );
}

/**
 * When the group will have caught up, or that its lag grows; empty if it hardly lags. While a part of the
 * group is stuck there is no time to predict.
 */
export function lagOutlook({ lag, lag_ms: lagMs, lag_per_s: growth, stuck }) {
  if (!lag || growth == null || lagMs < LITTLE_LAG_MS) return "";
  if (growth > STEADY_PER_S) return `falling behind by ${formatRate(growth)}`;
  if (growth >= -STEADY_PER_S || stuck) return "";
  return `caught up in ${formatDuration(Math.max(1000, Math.round((lag / -growth) * 1000)))}`;
}

/** Kafka writes a host with a slash before it. */
export const hostName = (host) => singleLine(String(host ?? "").replace(/^\//, ""), 80);

/** The member that a position is assigned to: its client and host. */
export function memberName({ client_id: client, host }) {
  if (client == null) return "not assigned to a member";
  return [singleLine(client || "unnamed client", 80), " on ", hostName(host)];
}
