/** The list of topics: up to tens of thousands, filtered and sorted in the browser. */

import { canUse, getPages } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatBytes, formatCount, formatShort, plural } from "../lib/format.js";
import { bindKeys } from "../lib/keys.js";
import { link, navigate, updateParams } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { emptyState, loadInto, loadingState } from "../widgets/components.js";
import { openCreateTopic } from "../widgets/topic_actions.js";
import { VirtualList } from "../widgets/virtual_list.js";

const PAGE_SIZE = 5000;
/** Columns by ID. Those that are not `always` shown are left out where the server has no such figures. */
const COLUMNS = {
  name: { text: "Name", value: (topic) => topic.topic, always: true, ascending: true },
  partitions: { text: "Partitions", value: (topic) => topic.partitions, always: true },
  events: { text: "Events", value: (topic) => topic.events, always: true },
  size: { text: "Size", value: (topic) => topic.bytes, format: formatBytes },
  in: { text: "In/s", value: (topic) => topic.in_per_s, format: formatShort },
  out: { text: "Out/s", value: (topic) => topic.out_per_s, format: formatShort },
};

export class TopicsPage {
  title = "Topics";
  #topics = [];
  #sortColumn;
  #isDescending;
  #columns = ["name", "partitions", "events"];
  #abort = new AbortController();
  #filter;
  #internal;
  #total = h("span.muted", { role: "status" });
  #body = h("div.page-body.flush", {}, loadingState("Loading topics"));
  #listHead = h("div.rows-head.topic-cols");
  #list = new VirtualList({
    label: "Topics",
    createRow: (topic) => this.#row(topic),
    open: ({ topic }) => navigate(["topics", topic]),
    href: ({ topic }) => link(["topics", topic]),
  });
  #unbindKeys = bindKeys({
    j: ["Next topic", () => this.#list.move(1)],
    k: ["Previous topic", () => this.#list.move(-1)],
    Enter: ["Open the topic", () => this.#list.openCurrent()],
  });

  constructor(_segments, params) {
    this.#sortColumn = Object.hasOwn(COLUMNS, params.get("sort") ?? "") ? params.get("sort") : "name";
    this.#isDescending = params.get("down") === "1";
    this.#filter = h("input.filter", {
      type: "search",
      placeholder: "Filter topics",
      "aria-label": "Filter topics by name",
      "data-search": "",
      value: params.get("q") ?? "",
      spellcheck: "false",
      autocomplete: "off",
      oninput: () => this.#onChange(),
    });
    this.#internal = h("input", {
      type: "checkbox",
      checked: params.get("internal") === "1",
      onchange: () => this.#onInternal(),
    });
    this.element = h("div", {}, this.#head(), this.#body);
    this.#load();
  }

  close() {
    this.#abort.abort();
    this.#unbindKeys();
    this.#list.close();
  }

  #head() {
    const create = h("button.primary", { type: "button", onclick: openCreateTopic }, "New topic");
    return h(
      "div.page-head",
      {},
      h("h1", {}, "Topics"),
      this.#total,
      h("span.spacer"),
      this.#filter,
      h("label.check", {}, this.#internal, "internal"),
      canUse("post", "topics") ? create : null,
    );
  }

  /** Load all topics page by page, and draw them after each. */
  #load() {
    return loadInto(this.#body, async () => {
      const topics = [];
      const query = { limit: PAGE_SIZE, internal: this.#internal.checked ? "true" : "" };
      for await (const page of getPages("topics", { query, signal: this.#abort.signal })) {
        topics.push(...page);
        this.#show([...topics]);
      }
    });
  }

  #show(topics) {
    const hasValues = ({ value }) => topics.some((topic) => value(topic) != null);
    this.#topics = topics;
    this.#columns = Object.keys(COLUMNS).filter((id) => COLUMNS[id].always || hasValues(COLUMNS[id]));
    this.#draw();
  }

  // ---------------------------------------------------------------------------------------- filter, order

  #saveParams() {
    updateParams({
      q: this.#filter.value.trim(),
      sort: this.#sortColumn === "name" ? "" : this.#sortColumn,
      down: this.#isDescending ? "1" : "",
      internal: this.#internal.checked ? "1" : "",
    });
  }

  #onChange() {
    this.#saveParams();
    this.#draw();
  }

  #onInternal() {
    this.#saveParams();
    this.#load();
  }

  #sortBy(id) {
    this.#isDescending = id === this.#sortColumn ? !this.#isDescending : !COLUMNS[id].ascending;
    this.#sortColumn = id;
    this.#onChange();
  }

  #compare(a, b) {
    const { value } = COLUMNS[this.#sortColumn];
    const order = compareValues(value(a), value(b));
    return (this.#isDescending ? -order : order) || compareValues(a.topic, b.topic);
  }

  // ---------------------------------------------------------------------------------------- drawing

  #draw() {
    const words = this.#filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const matches = ({ topic }) => words.every((word) => topic.toLowerCase().includes(word));
    const topics = this.#topics.filter(matches).sort((a, b) => this.#compare(a, b));
    const total = plural(this.#topics.length, "topic");
    this.#total.textContent = words.length ? `${formatCount(topics.length)} of ${total}` : total;
    this.#drawListHead();
    if (!topics.length) {
      replaceContent(this.#body, this.#topics.length ? this.#noMatch() : noTopics());
      return;
    }
    if (!this.#list.element.isConnected) replaceContent(this.#body, this.#listHead, this.#list.element);
    this.#list.setItems(topics);
  }

  #noMatch() {
    const showAll = () => {
      this.#filter.value = "";
      this.#onChange();
    };
    const button = h("button", { type: "button", onclick: showAll }, "Show all topics");
    return emptyState("No topic has these words in its name", button);
  }

  #drawListHead() {
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
    replaceContent(this.#listHead, this.#columns.map(heading));
    this.element.style.setProperty("--more-cols", String(this.#columns.length - 1));
  }

  #row(topic) {
    const { topic: name, internal } = topic;
    const figure = ({ value, format = formatCount }) => h("span.num", {}, format(value(topic)));
    const tag = internal ? h("span.tag", {}, "internal") : null;
    const figures = this.#columns.slice(1).map((id) => figure(COLUMNS[id]));
    return h("div.topic-cols", {}, h("span.topic-name", {}, singleLine(name, 249), tag), figures);
  }
}

/** Compares two strings, or two numbers of which unknown ones are the smallest. */
function compareValues(a, b) {
  if (typeof a === "string") return a < b ? -1 : a > b ? 1 : 0;
  return (a ?? -1) - (b ?? -1);
}

const noTopics = () =>
  emptyState(
    "No topics yet",
    "A producer creates a topic with its first event. You can also create one here.",
  );
