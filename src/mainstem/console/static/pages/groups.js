/** Consumer groups: how far behind they are, in events and in time, who stands still, and setting them back. */

import { can, get, path, post, remove } from "../lib/api.js";
import { NO_WAY_BACK, withDryRun } from "../widgets/dry_run.js";
import { sparkline } from "../widgets/charts.js";
import { h, icon, put } from "../lib/dom.js";
import * as keys from "../lib/keys.js";
import { dialog, empty, field, loading, problem, table, toast } from "../widgets/components.js";
import { go, link, update } from "../lib/router.js";
import { count, duration, line, many, plain, short } from "../lib/text.js";
import { list } from "../widgets/virtual_list.js";

const AGAIN_MS = 5000;
const BEHIND_MS = 10_000;
const STATES = { Stable: "ok", Empty: "", Dead: "bad", PreparingRebalance: "warn", CompletingRebalance: "warn" };

const points = (history, name) => history[name].map((value, at) => [history.from_ms + at * history.step_s * 1000, value]).filter(([, value]) => value != null);

/** When it will have caught up (not while a part of it stands still), or that it will not; empty while it hardly lags. */
function outlook({ lag, lag_ms: waits, lag_per_s: grows, stuck }) {
  if (!lag || grows == null || waits < BEHIND_MS) return "";
  if (grows < -0.05) return stuck ? "" : `up to date in ${duration(Math.max(1000, Math.round((lag / -grows) * 1000)))}`;
  return grows > 0.05 ? `falls behind, ${short(grows)}/s` : "";
}

/** Kafka writes a host with a slash before it. */
const hostOf = (host) => line(String(host ?? "").replace(/^\//, ""), 80);

/** Whose turn it is: the client and its host. */
const who = ({ client_id: client, host }) => (client == null ? "assigned to nobody" : [line(client || "a client without a name", 80), " on ", hostOf(host)]);

const stateTag = (state) => h(`span.tag${STATES[state] ? `.${STATES[state]}` : ""}`, {}, state === "Empty" ? "no members" : line(state, 40));

export function groupsPage(_segments, params) {
  const stop = new AbortController();
  const histories = new Map();
  let groups = [];
  let timer = 0;
  const filter = h("input.filter", { type: "search", placeholder: "Filter groups", "aria-label": "Filter groups by name", "data-search": "", value: params.get("q") ?? "", oninput: () => (update({ q: filter.value.trim() }), draw()), spellcheck: "false" });
  const total = h("span.muted", { role: "status" });
  const rows = list({ label: "Groups", kind: "tall", row, open: (group) => go(["groups", group.group]), href: (group) => link(["groups", group.group]) });
  const body = h("div.page-body.flush", {}, loading("Loading groups"));
  const head = h("div.rows-head.group-cols", {}, h("span", {}, "Group"), h("span", {}, "State"), h("span.num", {}, "Behind"), h("span.num", {}, "Oldest waits"), h("span", {}, "24 hours"));
  const element = h("div", {}, h("div.page-head", {}, h("h1", {}, "Groups"), total, h("span.spacer"), filter), body);

  function row(group) {
    const spark = h("span.spark");
    const ahead = outlook(group);
    const node = h("div.group-cols", {},
      h("span.group-name", {}, h("strong", {}, line(group.group, 200)), h("span.muted", {}, group.topics.length === 1 ? line(group.topics[0], 80) : many(group.topics.length, "topic"))),
      state(group),
      h("span.num", { title: group.lag == null ? "" : `${count(group.lag)} events` }, group.lag == null ? "–" : short(group.lag)),
      h("span.two.num", {},
        h(`span${group.lag_ms > 300_000 ? ".warn-text" : ""}`, {}, group.lag_ms == null ? "–" : group.lag_ms === 0 ? "up to date" : duration(group.lag_ms)),
        ahead ? h("span.muted", {}, ahead) : null),
      spark);
    history(group.group).then((found) => found && put(spark, sparkline(points(found, "lag"), { label: `Lag of ${plain(group.group)}`, height: 26 })));
    return node;
  }

  function state(group) {
    if (!group.stuck) return h("span", {}, stateTag(group.state), group.members ? h("span.muted", {}, ` ${many(group.members, "member")}`) : null);
    return h("span.two", {},
      h("span", {}, h("span.tag.bad", { title: "It has read nothing although there is something to read" }, `${group.members ? "stuck" : "unread"} ${duration(group.stuck.for_ms)}`)),
      h("span.muted", {}, group.members ? who(group.stuck) : "no members"));
  }

  function history(name) {
    if (!can("get", "stats/groups/{}")) return Promise.resolve(null);
    if (!histories.has(name)) histories.set(name, get(path("stats/groups/{}", name), null, stop.signal).catch(() => null));
    return histories.get(name);
  }

  function draw() {
    const wanted = filter.value.trim().toLowerCase();
    const shown = groups.filter((group) => group.group.toLowerCase().includes(wanted));
    total.textContent = many(groups.length, "group");
    if (!groups.length) put(body, empty("No consumer groups", "A group appears when its first consumer joins, or when a position is set for it."));
    else if (!shown.length) put(body, empty("No group has this in its name"));
    else {
      if (!rows.element.isConnected) put(body, head, rows.element);
      const place = rows.element.scrollTop;
      const chosen = rows.chosen();
      rows.items(shown);
      if (chosen >= 0) rows.choose(Math.min(chosen, shown.length - 1));
      rows.element.scrollTop = place;
    }
  }

  async function load() {
    try {
      const all = [];
      let after = "";
      do {
        const reply = await get("groups", { limit: 500, after }, stop.signal);
        all.push(...reply.groups);
        after = reply.next;
      } while (after);
      groups = all;
      draw();
      timer = setTimeout(load, AGAIN_MS);
    } catch (error) {
      if (error.name === "AbortError") return;
      put(body, problem(error, load));
    }
  }

  const forget = setInterval(() => histories.clear(), 60_000);
  const unbind = keys.bind({ j: ["Next", () => rows.move(1)], k: ["Previous", () => rows.move(-1)], Enter: ["Open", rows.openChosen] });
  load();
  return {
    title: "Groups",
    element,
    close() {
      stop.abort();
      clearTimeout(timer);
      clearInterval(forget);
      unbind();
      rows.close();
    },
  };
}

// ------------------------------------------------------------------------------------------ one group

export function groupPage([, name]) {
  const stop = new AbortController();
  let timer = 0;
  let group = null;
  const facts = h("span.facts-line");
  const actions = h("div.actions");
  const charts = h("div.cards");
  const alarm = h("div");
  const positions = h("div");
  const members = h("div");
  const body = h("div.page-body", {}, loading("Loading the group"));
  const element = h("div", {},
    h("div.page-head", {}, h("h1", {}, h("span.crumb", {}, h("a", { href: link(["groups"]) }, "Groups"), " / "), line(name, 200)), facts, h("span.spacer"), actions),
    body);

  function draw() {
    put(facts, stateTag(group.state), h("span.muted", {}, group.lag == null ? "no position yet" : group.lag === 0 ? "up to date" : [`${many(group.lag, "event")} behind, ${duration(group.lag_ms)}`, outlook({ ...group, stuck: group.stuck[0] })].filter(Boolean).join(" · ")));
    put(actions,
      can("post", "groups/{}/reset") ? h("button", { type: "button", onclick: () => reset(group, load) }, "Reset…") : null,
      can("delete", "groups/{}") ? h("button", { type: "button", onclick: () => deleteGroup(group) }, "Delete…") : null);
    put(positions, table([
      { text: "Topic", cell: (each) => h("a", { href: link(["topics", each.topic]) }, line(each.topic, 120)) },
      { text: "Partition", kind: "num", cell: (each) => each.partition },
      { text: "Position", kind: "num", cell: (each) => (each.offset == null ? h("span.muted", {}, "none") : h("a", { href: link(["event", each.topic, String(each.partition), String(each.offset)]), title: "The next event it will read" }, count(each.offset))) },
      { text: "End", kind: "num", cell: (each) => count(each.end) },
      { text: "Behind", kind: "num", cell: (each) => (each.lag == null ? "–" : count(each.lag)) },
      { text: "Waiting", kind: "num", cell: (each) => (each.lag_ms == null ? "–" : each.lag_ms === 0 ? h("span.muted", {}, "up to date") : duration(each.lag_ms)) },
      { text: "Member", cell: (each) => [owner(each), stuckTag(each)] },
    ], group.positions, "Positions"));
    put(members, group.members.length ? table([
      { text: "Client", cell: (each) => line(each.client_id, 80) },
      { text: "Host", cell: (each) => hostOf(each.host) },
      { text: "Instance", cell: (each) => (each.instance_id == null ? h("span.muted", {}, "–") : line(each.instance_id, 80)) },
      { text: "Partitions", kind: "num", cell: (each) => count(each.assigned.length) },
      { text: "Member id", cell: (each) => h("code", {}, line(each.id, 60)) },
    ], group.members, "Members") : h("p.notice", {}, "Nobody is in this group at the moment."));
    put(alarm, group.stuck.length ? stuckNotice(group) : null);
    if (!positions.isConnected) put(body, alarm, charts, h("h2.section", {}, "Positions"), positions, h("h2.section", {}, "Members"), members);
  }

  function owner(each) {
    const found = group.members.find((member) => member.assigned.some(([topic, partition]) => topic === each.topic && partition === each.partition));
    return found ? line(found.client_id || found.id, 60) : h("span.muted", {}, "nobody");
  }

  function stuckTag({ topic, partition }) {
    const found = group.stuck.find((each) => each.topic === topic && each.partition === partition);
    return found ? h("span.tag.bad.after", {}, `${group.members.length ? "stuck" : "unread"} ${duration(found.for_ms)}`) : null;
  }

  async function drawCharts() {
    if (!can("get", "stats/groups/{}")) return;
    const history = await get(path("stats/groups/{}", name), null, stop.signal).catch(() => null);
    if (!history) return void put(charts);
    put(charts,
      card("Events behind", short(group.lag), sparkline(points(history, "lag"), { label: "Events behind", format: short, height: 56, caption: true })),
      card("Oldest unread event waits", group.lag_ms == null ? "–" : duration(group.lag_ms), sparkline(points(history, "lag_ms"), { label: "Time behind", format: duration, height: 56, caption: true })));
  }

  async function load() {
    clearTimeout(timer);
    try {
      group = await get(path("groups/{}", name), null, stop.signal);
      draw();
      await drawCharts();
      timer = setTimeout(load, AGAIN_MS);
    } catch (error) {
      if (error.name !== "AbortError") put(body, problem(error, load));
    }
  }

  load();
  return {
    title: name,
    element,
    close() {
      stop.abort();
      clearTimeout(timer);
    },
  };
}

/** Who stands still, since when, and what to look at. */
function stuckNotice(group) {
  const [first, ...others] = group.stuck;
  const held = group.positions.filter((each) => group.stuck.some((stuck) => stuck.topic === each.topic && stuck.partition === each.partition)).reduce((sum, each) => sum + (each.lag ?? 0), 0);
  return h("div.notice.bad", { role: "alert" }, icon("warn"), h("div", {},
    h("strong", {}, group.members.length ? `Stuck for ${duration(first.for_ms)}` : `Nobody has read for ${duration(first.for_ms)}`),
    h("p", {}, line(first.topic, 100), ` partition ${first.partition} has not moved`, others.length ? `, nor ${many(others.length, "other partition")}` : "", `: ${many(held, "event")} unread. `,
      group.members.length ? ["Look at ", h("strong", {}, who(first)), "."] : "No consumer is in the group."),
    group.members.length ? h("p.muted", {}, "It is in the group and has committed no position since: an event that it cannot get past, a call that never returns, or commits that are left out.") : null));
}

const card = (title, value, chart) => h("section.card", {}, h("h2.card-title", {}, title), h("p.card-value", {}, value), chart);

// ------------------------------------------------------------------------------------------ actions

const PLACES = [["earliest", "the first event that is kept"], ["latest", "the end"], ["time", "a time"], ["age", "so long ago"], ["offset", "an offset"]];

function reset(group, reload) {
  const place = h("select", {}, PLACES.map(([value, text]) => h("option", { value }, text)));
  const value = h("input", { spellcheck: "false", autocomplete: "off" });
  const valueField = h("div", { hidden: true }, field("Value", value));
  const topics = [...new Set(group.positions.map((each) => each.topic))];
  const boxes = topics.map((topic) => h("input", { type: "checkbox", checked: true, value: topic }));
  const hints = { time: "2013-06-01T12:00:00Z", age: "-10m", offset: "0" };
  place.addEventListener("input", () => {
    valueField.hidden = !hints[place.value];
    value.value = "";
    value.setAttribute("placeholder", hints[place.value] ?? "");
  });
  const age = (text) => (place.value === "age" && text && !text.startsWith("-") ? `-${text}` : text);
  withDryRun({
    title: `Reset ${plain(group.group)}`,
    fields: [
      group.members.length ? h("p.notice.warn", {}, `It has ${many(group.members.length, "member")}: stop them first. The server refuses otherwise.`) : null,
      field("Go on from", place), valueField,
      topics.length > 1 ? h("fieldset.choices", {}, h("legend", {}, "Topics"), topics.map((topic, at) => h("label.choice", {}, boxes[at], line(topic, 100)))) : null,
    ],
    watch: [place, value, ...boxes],
    verb: "Reset",
    wanted(dryRun) {
      const to = hints[place.value] ? age(value.value.trim()) : place.value;
      const chosen = boxes.filter((each) => each.checked).map((each) => each.value);
      return to && chosen.length ? { to, topics: chosen, dry_run: dryRun } : null;
    },
    send: (request) => post(path("groups/{}/reset", group.group), request),
    told: (reply) => [
      h(`p.notice${reply.again || reply.passed_over ? ".warn" : ""}`, {}, h("span", {},
        reply.again ? [h("strong", {}, many(reply.again, "event")), " will be read again. "] : null,
        reply.passed_over ? [h("strong", {}, many(reply.passed_over, "event")), " will not be read. "] : null,
        reply.again || reply.passed_over ? null : "This changes nothing that was read.")),
      table([
        { text: "Topic", cell: (each) => line(each.topic, 80) },
        { text: "Partition", kind: "num", cell: (each) => each.partition },
        { text: "Now", kind: "num", cell: (each) => (each.old == null ? "none" : count(each.old)) },
        { text: "Then", kind: "num", cell: (each) => count(each.new) },
      ], reply.moves.slice(0, 200), "What would be set"),
    ],
    done({ moves }) {
      const undo = moves.filter((each) => each.old != null && each.old !== each.new);
      toast(`Reset ${group.group}`, "", undo.length ? { text: "Undo", run: () => setBack(group, undo, reload) } : null);
      reload();
    },
  });
}

/** The positions as they were before a reset. */
async function setBack(group, moves, reload) {
  try {
    for (const { topic, partition, old } of moves) await post(path("groups/{}/reset", group.group), { to: String(old), topics: [topic], partition });
    toast(`${plain(group.group)} goes on where it was`);
  } catch (error) {
    dialog("The reset was not undone", problem(error));
  }
  reload();
}

function deleteGroup(group) {
  withDryRun({
    title: `Delete ${plain(group.group)}`,
    fields: h("p.above", {}, `A consumer that joins again starts where its own settings say. `, h("strong", {}, NO_WAY_BACK)),
    watch: [],
    verb: "Delete group",
    wanted: (dryRun) => dryRun,
    send: (dryRun) => remove(path("groups/{}", group.group), { dry_run: dryRun }),
    told: ({ positions }) => h("p.notice.warn", {}, h("span", {}, "This forgets ", h("strong", {}, many(positions, "position")), ".")),
    done() {
      toast(`Deleted ${group.group}`);
      go(["groups"]);
    },
  });
}
