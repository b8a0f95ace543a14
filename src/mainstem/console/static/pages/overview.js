/** The overview: health of the server, rates of events, disk space, busiest topics, and groups that lag. */

import { canUse, clusterInfo, fetchHealth, get } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { formatBytes, formatCount, formatDuration, formatRate, formatShort, plural } from "../lib/format.js";
import { Poller } from "../lib/poller.js";
import { link } from "../lib/router.js";
import { singleLine, visibleText } from "../lib/text.js";
import { errorNotice, loadingState, table } from "../widgets/components.js";
import { stuckTag } from "../widgets/group_status.js";
import { historyPoints, sparkline } from "../widgets/sparkline.js";

const INTERVAL_MS = 2000;
const RETRY_MS = 4000;
const LOADS_PER_GROUP_LOAD = 5;
const ROWS_MAX = 10;
const LISTED_LAG_MS = 10_000;
const LATE_MS = 60_000;
const OLD_MS = 15_000;
const GROUPS_OLD_MS = 45_000;
const LITTLE_FREE_SHARE = 0.1;

export class OverviewPage {
  title = "Overview";
  #loads = 0;
  #body = h("div.page-body", {}, loadingState());
  #health = h("div");
  #cards = h("div.cards");
  #busiest = h("section");
  #lagging = h("section");
  #poller = new Poller({
    load: (signal) => this.#load(signal),
    onError: (error) =>
      replaceContent(
        this.#body,
        errorNotice(error, () => this.#poller.run()),
      ),
    intervalMs: INTERVAL_MS,
    retryMs: RETRY_MS,
  });

  constructor() {
    const head = h("div.page-head", {}, h("h1", {}, "Overview"), h("span.muted", {}, clusterSummary()));
    this.element = h("div", {}, head, this.#body);
    this.#poller.run();
  }

  close() {
    this.#poller.close();
  }

  async #load(signal) {
    const [stats, health] = await Promise.all([get("stats", null, signal), fetchHealth(signal)]);
    replaceContent(this.#health, healthView(health, stats));
    replaceContent(this.#cards, cardViews(stats));
    replaceContent(this.#busiest, busiestView(stats));
    if (this.#loads++ % LOADS_PER_GROUP_LOAD === 0 && canUse("get", "groups")) {
      const { groups } = await get("groups", { limit: 500 }, signal);
      replaceContent(this.#lagging, laggingView(groups));
    }
    if (this.#cards.isConnected) return;
    const columns = h("div.columns", {}, this.#busiest, this.#lagging);
    replaceContent(this.#body, this.#health, this.#cards, columns);
  }
}

/** Whether this console is in front of another Kafka cluster. */
const isRemote = () => clusterInfo().embedded === false;

function clusterSummary() {
  const { at, version = "", embedded, brokers = [] } = clusterInfo();
  const software = embedded
    ? `mainstem ${version}`
    : `${plural(brokers.length, "broker")}, console ${version}`;
  return at ? `${software} · Kafka clients: ${at}` : software;
}

// ------------------------------------------------------------------------------------------ health

function healthView({ ok, problems, notes }, stats) {
  const readOnly = "Read-only mode: this console cannot change, publish or replay anything.";
  return [
    clusterInfo().read_only ? h("p.notice.spaced", {}, readOnly) : null,
    ok ? healthyView(stats) : unhealthyView(problems),
    ageView(stats),
    notes.map((note) => h("p.notice.warn.spaced", {}, icon("warn"), visibleText(note))),
    closedDoorsView(),
  ];
}

/** How old the figures are, if the server has not updated them for a while; else null. */
function ageView({ age_ms: ageMs, groups_age_ms: groupsAgeMs }) {
  const old = [
    ageMs > OLD_MS ? `topics and rates are ${formatDuration(ageMs)} old` : null,
    groupsAgeMs > GROUPS_OLD_MS ? `lag and stalled groups are ${formatDuration(groupsAgeMs)} old` : null,
  ].filter(Boolean);
  if (old.length === 0) return null;
  return h("p.notice.warn.spaced", {}, icon("warn"), `The server is busy: the figures of ${old.join(", ")}.`);
}

/** The doors that are off, each with the flag that turns it on; null if there are none. */
function closedDoorsView() {
  const closed = (clusterInfo().doors ?? []).filter(({ addresses }) => addresses.length === 0);
  if (isRemote() || closed.length === 0) return null;
  const texts = closed.map(({ title, off_reason: reason, flag }) => {
    const cause = reason ? `${reason}; ` : "";
    return `${title} (${cause}${flag} HOST:PORT)`;
  });
  return h("p.muted.spaced", {}, `Doors that are off: ${texts.join(", ")}`);
}

function healthyView({ started_ms: startedMs }) {
  const runningFor = formatDuration(Date.now() - startedMs);
  const brokers = plural(clusterInfo().brokers?.length ?? 0, "broker");
  const detail = isRemote()
    ? `${brokers}, observed by this console for ${runningFor}`
    : `reading and writing · up ${runningFor}`;
  return h("p.health", {}, h("span.dot.ok"), h("strong", {}, "Healthy"), h("span.muted", {}, ` · ${detail}`));
}

function unhealthyView(problems) {
  const list = h(
    "ul.plain-list",
    {},
    problems.map((text) => h("li", {}, visibleText(text))),
  );
  return h(
    "div.notice.bad",
    { role: "alert" },
    icon("warn"),
    h("div", {}, h("strong", {}, "Not healthy"), list),
  );
}

// ------------------------------------------------------------------------------------------ cards

function cardViews({ history, rates, events, topics, partitions, disk }) {
  const chart = (name, label) =>
    sparkline(historyPoints(history, name), { label, format: formatRate, height: 44, caption: true });
  return [
    card("Events in", formatRate(rates.in_per_s), chart("in_per_s", "Events published per second")),
    card("Read by groups", formatRate(rates.out_per_s), chart("out_per_s", "Events read per second")),
    card(
      "Stored",
      formatCount(events),
      h(
        "p.muted",
        {},
        "events in ",
        h("a", { href: link(["topics"]) }, plural(topics, "topic")),
        `, ${plural(partitions, "partition")}`,
      ),
    ),
    disk ? card("Disk", formatBytes(disk.used_bytes), diskView(disk)) : null,
  ];
}

const card = (title, value, content) =>
  h("section.card", {}, h("h2.card-title", {}, title), h("p.card-value", {}, value), content);

function diskView({ used_bytes: used, free_bytes: free, total_bytes: total }) {
  const width = (bytes) => ({ style: { width: `${Math.min(100, (bytes / Math.max(1, total)) * 100)}%` } });
  const isLittle = free / Math.max(1, total) < LITTLE_FREE_SHARE;
  const [freeText, totalText] = [formatBytes(free), formatBytes(total)];
  const label = `${formatBytes(used)} used by the log, ${freeText} free of ${totalText}`;
  return h(
    "div.disk",
    {},
    h(
      "div.disk-bar",
      { role: "img", "aria-label": label },
      h("i.by-log", width(used)),
      h("i.by-others", width(total - free - used)),
    ),
    h(`p${isLittle ? ".warn-text" : ".muted"}`, {}, `${freeText} free of ${totalText}`),
  );
}

// ------------------------------------------------------------------------------------------ tables

function busiestView({ busiest }) {
  const topicLink = ({ topic }) => h("a", { href: link(["topics", topic]) }, singleLine(topic, 120));
  const columns = [
    { text: "Topic", cell: topicLink },
    { text: "In/s", kind: "num", cell: (topic) => formatShort(topic.in_per_s) },
    { text: "Out/s", kind: "num", cell: (topic) => formatShort(topic.out_per_s) },
  ];
  return [
    h("h2.section", {}, "Busiest topics"),
    busiest.length
      ? table(columns, busiest.slice(0, ROWS_MAX), "Busiest topics")
      : h("p.muted", {}, "No events are being published at the moment."),
  ];
}

/** The groups that lag: stuck ones first, then by how long their oldest unread event has waited. */
function laggingView(groups) {
  const byUrgency = (a, b) => Boolean(b.stuck) - Boolean(a.stuck) || (b.lag_ms ?? 0) - (a.lag_ms ?? 0);
  const lagging = groups
    .filter(({ lag, lag_ms: lagMs, stuck }) => lag && (stuck || lagMs > LISTED_LAG_MS))
    .sort(byUrgency);
  const groupLink = ({ group }) => h("a", { href: link(["groups", group]) }, singleLine(group, 120));
  const waiting = ({ lag_ms: lagMs }) =>
    lagMs == null ? "–" : h(lagMs > LATE_MS ? "span.warn-text" : "span", {}, formatDuration(lagMs));
  const columns = [
    { text: "Group", cell: (group) => [groupLink(group), stuckTag(group.stuck, group.members)] },
    { text: "Lag", kind: "num", cell: ({ lag }) => formatShort(lag) },
    { text: "Oldest unread", kind: "num", cell: waiting },
  ];
  const nothing = groups.length
    ? "No group lags by more than ten seconds."
    : "There are no consumer groups yet.";
  return [
    h("h2.section", {}, "Groups that lag"),
    lagging.length
      ? table(columns, lagging.slice(0, ROWS_MAX), "Groups that lag")
      : h("p.muted", {}, nothing),
  ];
}
