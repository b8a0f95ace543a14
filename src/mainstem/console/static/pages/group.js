/** One consumer group: its lag, positions and members, and the actions that reset or delete it. */

import { apiPath, canUse, get } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { formatCount, formatDuration, formatShort, plural } from "../lib/format.js";
import { Poller } from "../lib/poller.js";
import { link } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { errorNotice, loadingState, table } from "../widgets/components.js";
import { openDeleteGroup, openResetGroup } from "../widgets/group_actions.js";
import { hostName, lagOutlook, memberName, shareTag, stateTag, stuckTag } from "../widgets/group_status.js";
import { historyPoints, sparkline } from "../widgets/sparkline.js";

const INTERVAL_MS = 5000;
const STUCK_HINT =
  "This member has not committed a position since then. It may fail at one event, wait for a call that" +
  " never returns, or not commit at all.";

export class GroupPage {
  #summary = h("span.facts-line");
  #actions = h("div.actions");
  #alarm = h("div");
  #charts = h("div.cards");
  #positions = h("div");
  #members = h("div");
  #body = h("div.page-body", {}, loadingState("Loading the group"));
  #poller = new Poller({
    load: (signal) => this.#load(signal),
    onError: (error) =>
      replaceContent(
        this.#body,
        errorNotice(error, () => this.#poller.run()),
      ),
    intervalMs: INTERVAL_MS,
  });

  constructor([, name]) {
    this.title = name;
    const crumb = h("span.crumb", {}, h("a", { href: link(["groups"]) }, "Groups"), " / ");
    const heading = h("h1", {}, crumb, singleLine(name, 200));
    const head = h("div.page-head", {}, heading, this.#summary, h("span.spacer"), this.#actions);
    this.element = h("div", {}, head, this.#body);
    this.#poller.run();
  }

  close() {
    this.#poller.close();
  }

  async #load(signal) {
    const group = await get(apiPath("groups/{}", this.title), null, signal);
    this.#draw(group);
    if (!canUse("get", "stats/groups/{}")) return;
    const history = await get(apiPath("stats/groups/{}", this.title), null, signal).catch(() => null);
    replaceContent(this.#charts, history ? chartCards(group, history) : null);
  }

  #draw(group) {
    replaceContent(
      this.#summary,
      stateTag(group.state),
      shareTag(group.protocol_type),
      h("span.muted", {}, summaryText(group)),
    );
    replaceContent(this.#actions, this.#actionButtons(group));
    replaceContent(this.#alarm, group.stuck.length ? stuckNotice(group) : null);
    replaceContent(this.#positions, positionTable(group));
    replaceContent(this.#members, memberTable(group));
    if (this.#positions.isConnected) return;
    replaceContent(
      this.#body,
      this.#alarm,
      this.#charts,
      h("h2.section", {}, "Positions"),
      this.#positions,
      h("h2.section", {}, "Members"),
      this.#members,
    );
  }

  #actionButtons(group) {
    const button = (text, onclick) => h("button", { type: "button", onclick }, text);
    const reset = () => openResetGroup(group, () => this.#poller.run());
    return [
      canUse("post", "groups/{}/reset", group) ? button("Reset…", reset) : null,
      canUse("delete", "groups/{}", group) ? button("Delete…", () => openDeleteGroup(group)) : null,
    ];
  }
}

function summaryText(group) {
  if (group.lag == null) return "no position yet";
  if (group.lag === 0) return "up to date";
  const lag = `${plural(group.lag, "event")} behind, ${formatDuration(group.lag_ms)}`;
  return [lag, lagOutlook({ ...group, stuck: group.stuck[0] })].filter(Boolean).join(" · ");
}

function chartCards(group, history) {
  const waiting = group.lag_ms == null ? "–" : formatDuration(group.lag_ms);
  return [
    chartCard("Lag in events", formatShort(group.lag), historyPoints(history, "lag"), formatShort),
    chartCard("Age of the oldest unread event", waiting, historyPoints(history, "lag_ms"), formatDuration),
  ];
}

function chartCard(title, value, points, format) {
  const chart = sparkline(points, { label: title, format, height: 56, caption: true });
  return h("section.card", {}, h("h2.card-title", {}, title), h("p.card-value", {}, value), chart);
}

/** Where the group is stuck, since when, and what to look at. */
function stuckNotice({ stuck, members, positions }) {
  const [first, ...others] = stuck;
  const stuckPositions = positions.filter((position) =>
    stuck.some((place) => isSamePartition(place, position)),
  );
  const unread = stuckPositions.reduce((sum, { lag }) => sum + (lag ?? 0), 0);
  const duration = formatDuration(first.for_ms);
  const also = others.length ? ` and ${plural(others.length, "other partition")}` : "";
  return h(
    "div.notice.bad",
    { role: "alert" },
    icon("warn"),
    h(
      "div",
      {},
      h("strong", {}, members.length ? `Stuck for ${duration}` : `No consumer has read for ${duration}`),
      h(
        "p",
        {},
        singleLine(first.topic, 100),
        ` partition ${first.partition}${also} did not move: ${plural(unread, "event")} unread. `,
        members.length ? ["Check ", h("strong", {}, memberName(first)), "."] : "The group has no members.",
      ),
      members.length ? h("p.muted", {}, STUCK_HINT) : null,
    ),
  );
}

const isSamePartition = (a, b) => a.topic === b.topic && a.partition === b.partition;

function positionTable({ positions, members, stuck }) {
  const muted = (text) => h("span.muted", {}, text);
  const ownerCell = (position) => {
    const isAssigned = ([topic, partition]) => isSamePartition({ topic, partition }, position);
    const owner = members.find((member) => member.assigned.some(isAssigned));
    const place = stuck.find((candidate) => isSamePartition(candidate, position));
    const name = owner ? singleLine(owner.client_id || owner.id, 60) : muted("unassigned");
    return [name, stuckTag(place, members.length)];
  };
  const waitingCell = ({ lag_ms: lagMs }) => {
    if (lagMs == null) return "–";
    return lagMs === 0 ? muted("up to date") : formatDuration(lagMs);
  };
  const columns = [
    {
      text: "Topic",
      cell: ({ topic }) => h("a", { href: link(["topics", topic]) }, singleLine(topic, 120)),
    },
    { text: "Partition", kind: "num", cell: ({ partition }) => partition },
    { text: "Position", kind: "num", cell: (position) => positionLink(position) ?? muted("none") },
    { text: "End", kind: "num", cell: ({ end }) => formatCount(end) },
    { text: "Lag", kind: "num", cell: ({ lag }) => formatCount(lag) },
    { text: "Oldest unread", kind: "num", cell: waitingCell },
    { text: "Member", cell: ownerCell },
  ];
  return table(columns, positions, "Positions");
}

function positionLink({ topic, partition, offset }) {
  if (offset == null) return null;
  const href = link(["event", topic, String(partition), String(offset)]);
  return h("a", { href, title: "The next event to read" }, formatCount(offset));
}

function assignedCell({ assigned, undecoded_bytes: bytes }, protocolType) {
  if (!bytes) return formatCount(assigned.length);
  const isConsumer = ["consumer", "", undefined].includes(protocolType);
  const what = isConsumer ? "assignment cannot be read" : `assignment of protocol ${protocolType}`;
  return h("span.muted", {}, singleLine(`${what}: ${plural(bytes, "byte")}`, 120));
}

function memberTable({ members, protocol_type: protocolType }) {
  if (!members.length) return h("p.notice", {}, "This group has no members at the moment.");
  const instance = ({ instance_id: id }) => (id == null ? h("span.muted", {}, "–") : singleLine(id, 80));
  const columns = [
    { text: "Client", cell: (member) => singleLine(member.client_id, 80) },
    { text: "Host", cell: (member) => hostName(member.host) },
    { text: "Instance", cell: instance },
    { text: "Partitions", kind: "num", cell: (member) => assignedCell(member, protocolType) },
    { text: "Member ID", cell: (member) => h("code", {}, singleLine(member.id, 60)) },
  ];
  return table(columns, members, "Members");
}
