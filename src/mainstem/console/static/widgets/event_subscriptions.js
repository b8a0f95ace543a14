/** The state of an event in each subscription of its topic. */

import { apiPath, get } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatCount } from "../lib/format.js";
import { link } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { emptyState, errorNotice, loadingState, table } from "./components.js";
import { stateWord } from "./subscription_parts.js";

export function eventSubscriptions({ topic, partition, offset }, signal) {
  const view = h("div.stack", {}, loadingState("Loading the subscriptions"));
  const path = apiPath("topics/{}/partitions/{}/events/{}/subscriptions", topic, partition, offset);
  get(path, null, signal)
    .then((reply) => replaceContent(view, stateTable(reply)))
    .catch((error) => error.name !== "AbortError" && replaceContent(view, errorNotice(error)));
  return view;
}

function stateTable({ subscriptions, total }) {
  if (!total) return emptyState("No subscription reads this topic");
  const columns = [
    {
      text: "Subscription",
      cell: ({ subscription: name }) =>
        h("a", { href: link(["subscriptions", name]) }, singleLine(name, 120)),
    },
    { text: "State", cell: ({ state }) => stateWord(state) },
    { text: "Why not now", cell: ({ why }) => singleLine(why, 200) },
    {
      text: "Deliveries",
      kind: "num",
      cell: ({ attempts, state }) => (state === "done" ? "–" : formatCount(attempts)),
    },
    {
      text: "Failures",
      kind: "num",
      cell: ({ failures, state }) => (state === "done" ? "–" : formatCount(failures)),
    },
  ];
  const more = total - subscriptions.length;
  return [
    table(columns, subscriptions, "Subscriptions"),
    more > 0 ? h("p.muted", {}, `and ${formatCount(more)} more`) : null,
  ];
}
