/** The list of subscriptions: how much each has to deliver, how old it is, and what keeps it from it. */

import { canUse, getAll } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatCount, formatDuration, formatRate, formatShort, plural } from "../lib/format.js";
import { bindKeys } from "../lib/keys.js";
import { Poller } from "../lib/poller.js";
import { link, navigate, updateParams } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { emptyState, errorNotice, loadingState } from "../widgets/components.js";
import { openCreateSubscription } from "../widgets/subscription_actions.js";
import { depthBar, outstanding } from "../widgets/subscription_parts.js";
import { VirtualList } from "../widgets/virtual_list.js";

const INTERVAL_MS = 5000;
const LATE_MS = 600_000;
/** Columns by ID, with what they are sorted by. */
const COLUMNS = {
  name: { text: "Name", value: (row) => row.subscription, ascending: true },
  depth: { text: "Outstanding", value: (row) => outstanding(row.depth) },
  oldest: { text: "Oldest", value: (row) => row.oldest_age_ms ?? -1 },
  acked: { text: "Acked/s", value: (row) => row.acked_per_s },
  consumers: { text: "Consumers", value: (row) => row.consumers },
};

export class SubscriptionsPage {
  title = "Subscriptions";
  #rows = [];
  #topic;
  #sortColumn;
  #isDescending;
  #filter;
  #total = h("span.muted", { role: "status" });
  #body = h("div.page-body.flush", {}, loadingState("Loading subscriptions"));
  #listHead = h("div.rows-head.queue-cols");
  #list = new VirtualList({
    label: "Subscriptions",
    kind: "tall",
    createRow: (row) => listRow(row),
    open: ({ subscription }) => navigate(["subscriptions", subscription]),
    href: ({ subscription }) => link(["subscriptions", subscription]),
  });
  #poller = new Poller({
    load: (signal) => this.#load(signal),
    onError: (error) =>
      replaceContent(
        this.#body,
        errorNotice(error, () => this.#poller.run()),
      ),
    intervalMs: INTERVAL_MS,
  });
  #unbindKeys = bindKeys({
    j: ["Next subscription", () => this.#list.move(1)],
    k: ["Previous subscription", () => this.#list.move(-1)],
    Enter: ["Open the subscription", () => this.#list.openCurrent()],
  });

  constructor(_segments, params) {
    this.#topic = params.get("topic") ?? "";
    this.#sortColumn = Object.hasOwn(COLUMNS, params.get("sort") ?? "") ? params.get("sort") : "name";
    this.#isDescending = params.get("down") === "1";
    this.#filter = h("input.filter", {
      type: "search",
      placeholder: "Filter subscriptions",
      "aria-label": "Filter subscriptions by name",
      "data-search": "",
      value: params.get("q") ?? "",
      spellcheck: "false",
      autocomplete: "off",
      oninput: () => this.#onChange(),
    });
    this.element = h("div", {}, this.#head(), this.#body);
    this.#poller.run();
  }

  close() {
    this.#poller.close();
    this.#unbindKeys();
    this.#list.close();
  }

  #head() {
    const create = () => openCreateSubscription(this.#topic);
    const button = h("button.primary", { type: "button", onclick: create }, "New subscription");
    const topic = this.#topic
      ? h(
          "a.tag",
          { href: link(["subscriptions"]), title: "Show all" },
          "of ",
          singleLine(this.#topic, 60),
          " ×",
        )
      : null;
    return h(
      "div.page-head",
      {},
      h("h1", {}, "Subscriptions"),
      this.#total,
      topic,
      h("span.spacer"),
      this.#filter,
      canUse("post", "subscriptions") ? button : null,
    );
  }

  async #load(signal) {
    this.#rows = await getAll("subscriptions", { query: { topic: this.#topic }, signal });
    this.#draw();
  }

  #onChange() {
    updateParams({
      q: this.#filter.value.trim(),
      topic: this.#topic,
      sort: this.#sortColumn === "name" ? "" : this.#sortColumn,
      down: this.#isDescending ? "1" : "",
    });
    this.#draw();
  }

  #sortBy(id) {
    this.#isDescending = id === this.#sortColumn ? !this.#isDescending : !COLUMNS[id].ascending;
    this.#sortColumn = id;
    this.#onChange();
  }

  #draw() {
    const text = this.#filter.value.trim().toLowerCase();
    const { value } = COLUMNS[this.#sortColumn];
    const sign = this.#isDescending ? -1 : 1;
    const order = (a, b) => (value(a) < value(b) ? -sign : value(a) > value(b) ? sign : 0);
    const rows = this.#rows
      .filter(({ subscription }) => subscription.toLowerCase().includes(text))
      .sort(order);
    this.#total.textContent = plural(this.#rows.length, "subscription");
    if (!this.#rows.length) replaceContent(this.#body, noSubscriptions());
    else if (!rows.length)
      replaceContent(this.#body, emptyState("No subscription has this text in its name"));
    else this.#drawList(rows);
  }

  /** The rows are new objects after each load, so the current row and the place are kept by index. */
  #drawList(rows) {
    this.#drawHead();
    if (!this.#list.element.isConnected) replaceContent(this.#body, this.#listHead, this.#list.element);
    const { current, element } = this.#list;
    const { scrollTop } = element;
    this.#list.setItems(rows);
    if (current >= 0) this.#list.setCurrent(Math.min(current, rows.length - 1));
    element.scrollTop = scrollTop;
  }

  #drawHead() {
    const heading = (id) => {
      const isSorted = id === this.#sortColumn;
      const arrow = this.#isDescending ? " ↓" : " ↑";
      const order = this.#isDescending ? ", descending" : ", ascending";
      return h(
        `button${id === "name" ? "" : ".num"}`,
        { type: "button", onclick: () => this.#sortBy(id), "aria-pressed": String(isSorted) },
        COLUMNS[id].text,
        isSorted ? [arrow, h("span.visually-hidden", {}, order)] : null,
      );
    };
    replaceContent(this.#listHead, Object.keys(COLUMNS).map(heading));
  }
}

function listRow(row) {
  const { subscription: name, topics, depth, problems } = row;
  const topicText = topics.length === 1 ? singleLine(topics[0], 80) : plural(topics.length, "topic");
  const total = outstanding(depth);
  const detail = problems.length
    ? h("span.warn-text", {}, singleLine(problems[0], 200))
    : h("span.muted", {}, topicText);
  const age = row.oldest_age_ms;
  return h(
    "div.queue-cols",
    {},
    h("span.group-name", {}, h("strong", {}, singleLine(name, 200)), detail),
    h(
      "span.stacked.num",
      { title: `${formatCount(total)} events` },
      h("span", {}, total ? formatShort(total) : h("span.muted", {}, "empty")),
      depthBar(depth),
    ),
    h(
      `span.num${age > LATE_MS ? ".warn-text" : ""}`,
      {},
      age == null ? h("span.muted", {}, "–") : formatDuration(age),
    ),
    h("span.num", {}, formatRate(row.acked_per_s)),
    h("span.num", {}, formatCount(row.consumers)),
  );
}

const noSubscriptions = () =>
  emptyState(
    "No subscriptions yet",
    "A subscription delivers the events of topics to workers, which acknowledge each one. Create one here" +
      " or with mainstem queues create.",
  );
