/** The consumers of a subscription, with what each of them has. */

import { h, replaceContent } from "../lib/dom.js";
import { formatCount, formatDuration } from "../lib/format.js";
import { link } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { emptyState, table } from "./components.js";

const CONSUMERS_SHOWN = 500;

export class ConsumersView {
  element = h("div.stack");

  constructor(info) {
    this.update(info);
  }

  update({ subscription, consumers }) {
    if (!consumers.length) {
      const hint = "A consumer is shown while it has events that it has not answered.";
      replaceContent(this.element, emptyState("No consumer has events", hint));
      return;
    }
    const events = ({ consumer }) => link(["subscriptions", subscription], { tab: "events", consumer });
    const columns = [
      { text: "Consumer", cell: (row) => h("a", { href: events(row) }, singleLine(row.consumer, 120)) },
      { text: "Events", kind: "num", cell: ({ leased }) => formatCount(leased) },
      { text: "Pulls", kind: "num", cell: ({ leases }) => formatCount(leases) },
      { text: "First lock expires", kind: "num", cell: ({ deadline }) => untilText(deadline) },
    ];
    replaceContent(this.element, table(columns, consumers.slice(0, CONSUMERS_SHOWN), "Consumers"));
  }
}

/** "in 12 s" of an ISO time. */
export function untilText(iso) {
  if (iso == null) return "–";
  const leftMs = Date.parse(iso) - Date.now();
  return leftMs > 0 ? `in ${formatDuration(leftMs)}` : "now";
}
