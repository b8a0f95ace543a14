/** Overview: is it well, how much comes in and goes out, how full is the disk, and who is behind. */

import { can, get, health, who } from "../lib/api.js";
import { sparkline } from "../widgets/charts.js";
import { h, icon, put } from "../lib/dom.js";
import { loading, problem, table } from "../widgets/components.js";
import { link } from "../lib/router.js";
import { ago, bytes, count, duration, line, many, short, visible } from "../lib/text.js";

const AGAIN_MS = 2000;
const BEHIND_MS = 60_000;
const NOTED_MS = 10_000;

export function overviewPage() {
  const stop = new AbortController();
  let timer = 0;
  let rounds = 0;
  const body = h("div.page-body", {}, loading("Loading"));
  const state = h("div");
  const cards = h("div.cards");
  const busiest = h("section");
  const behind = h("section");
  const element = h("div", {}, h("div.page-head", {}, h("h1", {}, "Overview"), h("span.muted", {}, clusterWords())), body);

  async function load() {
    try {
      const [stats, well] = await Promise.all([get("stats", null, stop.signal), health(stop.signal)]);
      drawState(well, stats);
      drawCards(stats);
      drawBusiest(stats);
      if (rounds++ % 5 === 0 && can("get", "groups")) drawBehind(await get("groups", { limit: 500 }, stop.signal));
      if (!cards.isConnected) put(body, state, cards, h("div.columns", {}, busiest, behind));
      timer = setTimeout(load, AGAIN_MS);
    } catch (error) {
      if (error.name !== "AbortError") {
        put(body, problem(error, load));
        timer = setTimeout(load, AGAIN_MS * 2);
      }
    }
  }

  function drawState(well, stats) {
    const { read_only: readOnly, embedded, brokers = [] } = who();
    put(state, readOnly ? h("p.notice.spaced", {}, "Read-only: here nothing can be changed, published or replayed.") : null, well.ok
      ? h("p.health", {}, h("span.dot.ok"), h("strong", {}, "Well"), h("span.muted", {}, ` · ${embedded === false ? `${many(brokers.length, "broker")}, seen by this console for ${ago(stats.started_ms).replace(" ago", "")}` : `takes and gives events · up ${ago(stats.started_ms).replace(" ago", "")}`}`))
      : h("div.notice.bad", { role: "alert" }, icon("warn"), h("div", {}, h("strong", {}, "Something is wrong"), h("ul.plain-list", {}, well.problems.map((each) => h("li", {}, visible(each)))))),
    well.notes.map((each) => h("p.notice.warn.spaced", {}, icon("warn"), visible(each))));
  }

  function drawCards(stats) {
    const { history, disk } = stats;
    const points = (name) => history[name].map((value, at) => [history.from_ms + at * history.step_s * 1000, value]).filter(([, value]) => value != null);
    put(cards,
      card("Events in", `${short(stats.rates.in_per_s)}/s`, sparkline(points("in_per_s"), { label: "Events in a second", format: (n) => `${short(n)}/s`, height: 44, caption: true })),
      card("Read by groups", `${short(stats.rates.out_per_s)}/s`, sparkline(points("out_per_s"), { label: "Events read a second", format: (n) => `${short(n)}/s`, height: 44, caption: true })),
      card("Kept", count(stats.events), h("p.muted", {}, "events in ", h("a", { href: link(["topics"]) }, many(stats.topics, "topic")), `, ${many(stats.partitions, "partition")}`)),
      disk ? card("Disk", bytes(disk.used_bytes), diskBar(disk)) : null);
  }

  function drawBusiest(stats) {
    put(busiest, h("h2.section", {}, "Busiest topics"), stats.busiest.length ? table([
      { text: "Topic", cell: (each) => h("a", { href: link(["topics", each.topic]) }, line(each.topic, 120)) },
      { text: "In/s", kind: "num", cell: (each) => short(each.in_per_s) },
      { text: "Out/s", kind: "num", cell: (each) => short(each.out_per_s) },
    ], stats.busiest.slice(0, 10), "Busiest topics") : h("p.muted", {}, "Nothing comes in at the moment."));
  }

  function drawBehind({ groups }) {
    const late = groups.filter((each) => each.lag && (each.stuck || each.lag_ms > NOTED_MS)).sort((a, b) => Boolean(b.stuck) - Boolean(a.stuck) || (b.lag_ms ?? 0) - (a.lag_ms ?? 0));
    put(behind, h("h2.section", {}, "Groups behind"), late.length ? table([
      { text: "Group", cell: (each) => [h("a", { href: link(["groups", each.group]) }, line(each.group, 120)), each.stuck ? h("span.tag.bad.after", {}, `${each.members ? "stuck" : "unread"} ${duration(each.stuck.for_ms)}`) : null] },
      { text: "Behind", kind: "num", cell: (each) => short(each.lag) },
      { text: "Oldest waits", kind: "num", cell: (each) => (each.lag_ms == null ? "–" : h(each.lag_ms > BEHIND_MS ? "span.warn-text" : "span", {}, duration(each.lag_ms))) },
    ], late.slice(0, 10), "Groups behind") : h("p.muted", {}, groups.length ? "No group is more than ten seconds behind." : "No group reads anything yet."));
  }

  load();
  return {
    title: "Overview",
    element,
    close() {
      stop.abort();
      clearTimeout(timer);
    },
  };
}

function clusterWords() {
  const { at, version, embedded, brokers = [] } = who();
  return [embedded ? `mainstem ${version ?? ""}` : `${many(brokers.length, "broker")}, console ${version ?? ""}`, at ? ` · Kafka clients: ${at}` : ""].join("");
}

const card = (title, value, more) => h("section.card", {}, h("h2.card-title", {}, title), h("p.card-value", {}, value), more);

function diskBar({ used_bytes: used, free_bytes: free, total_bytes: total }) {
  const share = (part) => `${Math.min(100, (part / Math.max(1, total)) * 100)}%`;
  const left = free / Math.max(1, total);
  return h("div.disk", {},
    h("div.disk-bar", { role: "img", "aria-label": `${bytes(used)} by the log, ${bytes(free)} free of ${bytes(total)}` },
      h("i.by-log", { style: { width: share(used) } }), h("i.by-others", { style: { width: share(total - free - used) } })),
    h(`p${left < 0.1 ? ".warn-text" : ".muted"}`, {}, `${bytes(free)} free of ${bytes(total)}`));
}
