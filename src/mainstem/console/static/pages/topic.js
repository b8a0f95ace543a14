/** One topic: live tail, partitions, settings, and publishing a test event. */

import { apiPath, canUse, get } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatBytes, formatCount, plural } from "../lib/format.js";
import { link, updateParams } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { loadInto, loadingState, table } from "../widgets/components.js";
import { openDeleteEvents } from "../widgets/deletion.js";
import { LiveTail } from "../widgets/live_tail.js";
import { publishForm } from "../widgets/publish_form.js";
import { Tabs } from "../widgets/tabs.js";
import { openAddPartitions, openDeleteTopic } from "../widgets/topic_actions.js";
import { topicSettings } from "../widgets/topic_settings.js";

export class TopicPage {
  #params;
  #abort = new AbortController();
  #summary = h("span.muted");
  #actions = h("div.actions");
  #body = h("div.page-body.flush", {}, loadingState("Loading the topic"));
  #tabs = null;

  constructor([, name], params) {
    this.title = name;
    this.#params = params;
    const crumb = h("span.crumb", {}, h("a", { href: link(["topics"]) }, "Topics"), " / ");
    const heading = h("h1", {}, crumb, singleLine(name, 249));
    const head = h("div.page-head", {}, heading, this.#summary, h("span.spacer"), this.#actions);
    this.element = h("div", {}, head, this.#body);
    this.#load();
  }

  close() {
    this.#abort.abort();
    this.#tabs?.close();
  }

  #load() {
    return loadInto(this.#body, async () => {
      this.#draw(await get(apiPath("topics/{}", this.title), null, this.#abort.signal));
    });
  }

  #draw(topic) {
    const tag = topic.internal ? h("span.tag", {}, "internal") : null;
    replaceContent(this.#summary, summaryText(topic), tag);
    replaceContent(this.#actions, actionButtons(topic));
    this.#tabs?.close();
    this.#tabs = new Tabs(this.#tabItems(topic), this.#params.get("tab") ?? "tail", (id) => {
      this.#params.set("tab", id);
      updateParams({ tab: id });
    });
    replaceContent(this.#body, this.#tabs.list, this.#tabs.panel);
  }

  #tabItems(topic) {
    const reload = () => this.#load();
    const canPublish = canUse("post", "topics/{}/events", topic) && !topic.internal;
    const canTail = canUse("get", "topics/{}/tail", topic);
    return [
      canTail && { id: "tail", text: "Live tail", create: () => new LiveTail(topic.topic) },
      { id: "partitions", text: "Partitions", create: () => partitionsView(topic, reload) },
      topic.settings.length > 0 && {
        id: "settings",
        text: "Settings",
        create: () => topicSettings(topic, reload),
      },
      canPublish && { id: "publish", text: "Publish", create: () => publishForm(topic) },
    ].filter(Boolean);
  }
}

function summaryText({ partitions, bytes }) {
  const events = partitions.reduce((sum, { begin, end }) => sum + end - begin, 0);
  const size = bytes != null ? formatBytes(bytes) : null;
  return [plural(events, "event"), size, plural(partitions.length, "partition")].filter(Boolean).join(" · ");
}

function actionButtons(topic) {
  const search = h("a.button", { href: link(["search"], { topics: topic.topic }) }, "Search");
  const canDelete = canUse("delete", "topics/{}", topic) && !topic.internal;
  const readers = h("a.button", { href: link(["subscriptions"], { topic: topic.topic }) }, "Subscriptions");
  return [
    canUse("get", "subscriptions") ? readers : null,
    canUse("post", "search", topic) ? search : null,
    canDelete ? h("button", { type: "button", onclick: () => openDeleteTopic(topic) }, "Delete…") : null,
  ];
}

function partitionsView(topic, reload) {
  const canAdd = canUse("post", "topics/{}/partitions", topic) && !topic.internal;
  const add = () => openAddPartitions(topic, reload);
  const button = h("button", { type: "button", onclick: add }, "Add partitions…");
  return h(
    "div.stack",
    {},
    canAdd ? h("div.bar", {}, button) : null,
    table(partitionColumns(topic, reload), topic.partitions, "Partitions"),
  );
}

function partitionColumns(topic, reload) {
  const hasSizes = topic.partitions.some(({ bytes }) => bytes != null);
  const isReplicated = topic.partitions.some(({ replicas }) => replicas?.length > 1);
  const canDelete = canUse("post", "topics/{}/delete-records", topic) && !topic.internal;
  const leader = (id) => (id < 0 ? h("span.tag.bad", {}, "none") : id);
  const deleteButton = (partition) => {
    if (partition.begin === partition.end) return "";
    const onclick = () => openDeleteEvents(topic.topic, partition, reload);
    return h("button.quiet", { type: "button", onclick }, "Delete events…");
  };
  return [
    { text: "Partition", kind: "num", cell: ({ partition }) => partition },
    { text: "First offset", kind: "num", cell: ({ begin }) => formatCount(begin) },
    { text: "End", kind: "num", cell: ({ end }) => formatCount(end) },
    { text: "Events", kind: "num", cell: ({ begin, end }) => formatCount(end - begin) },
    hasSizes && { text: "Size", kind: "num", cell: ({ bytes }) => formatBytes(bytes) },
    { text: "Leader", kind: "num", cell: (partition) => leader(partition.leader) },
    isReplicated && {
      text: "In sync",
      cell: (partition) => `${partition.in_sync.length} of ${partition.replicas.length}`,
    },
    canDelete && { text: "", kind: "num", cell: deleteButton },
  ].filter(Boolean);
}
