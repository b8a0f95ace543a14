/** The tab with the newest events of the audit: who did what on which resource, allowed or denied. */

import { streamLines } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { eventLink } from "../lib/events.js";
import { formatCount } from "../lib/format.js";
import { link } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { timeElement } from "../lib/time.js";
import { emptyState, loadInto, loadingState, table } from "./components.js";

const TOPIC = "__mainstem_audit";
const LIMIT = 200;
const FILTERS = [
  ["", "Everything"],
  ["outcome:denied", "Denied"],
  ["action:login", "Logins"],
  ["action:(create OR delete OR alter OR alter_configs)", "Changes"],
];

export class AuditView {
  #filter;
  #search = h("a");
  #list = h("div");
  #abort = new AbortController();

  constructor() {
    this.#filter = h(
      "select",
      { "aria-label": "Show", oninput: () => this.#load() },
      FILTERS.map(([query, text]) => h("option", { value: query }, text)),
    );
    const onclick = () => this.#load();
    const refresh = h("button", { type: "button", onclick }, "Refresh");
    this.element = h(
      "div.stack",
      {},
      h("div.bar", {}, this.#filter, refresh, h("span.spacer"), this.#search),
      this.#list,
    );
    this.#load();
  }

  close() {
    this.#abort.abort();
  }

  #load() {
    return loadInto(this.#list, () => this.#show());
  }

  async #show() {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const query = this.#filter.value;
    const open = h("a", { href: link(["search"], { q: query, topics: TOPIC }) }, "Search the audit");
    this.#search.replaceWith(open);
    this.#search = open;
    replaceContent(this.#list, loadingState("Loading the audit"));
    const events = [];
    const body = { query, topics: [TOPIC], limit: LIMIT };
    for await (const { hit } of streamLines("search", body, signal)) if (hit) events.push(hit);
    replaceContent(this.#list, events.length ? table(COLUMNS, events, "Audit") : nothing(query));
  }
}

const nothing = (query) =>
  query
    ? emptyState("Nothing of this kind is in the audit")
    : emptyState("The audit is empty", "It is on with access control, and where clients log in.");

const COLUMNS = [
  {
    text: "Time",
    cell: (event) => h("a", { href: eventLink(event) }, timeElement(event.timestamp_ms)),
  },
  {
    text: "Who",
    cell: ({ value }) => [
      h("strong", {}, singleLine(value.principal, 80)),
      h("p.hint", {}, singleLine([value.host, value.client_id].filter(Boolean).join(" · "), 120)),
    ],
  },
  { text: "Did", kind: "action", cell: ({ value }) => singleLine(value.action, 40) },
  {
    text: "On",
    cell: ({ value }) =>
      value.resource
        ? [`${value.resource_type} `, h("code", {}, singleLine(value.resource, 100))]
        : details(value),
  },
  {
    text: "Outcome",
    cell: ({ value }) => [
      h(`span.tag.${tone(value.outcome)}`, {}, value.outcome),
      value.count > 1 ? h("span.muted", {}, ` ×${formatCount(value.count)}`) : null,
      h("p.hint", {}, singleLine(value.rule || value.reason || "", 200)),
    ],
  },
];

const tone = (outcome) => (outcome === "allowed" || outcome === "done" ? "ok" : "bad");

function details({ details: fields }) {
  const text = Object.entries(fields ?? {})
    .filter(([, value]) => value !== false && value !== "")
    .map(([name, value]) => `${name}=${value}`);
  return h("span.muted", {}, singleLine(text.join(" "), 160));
}
