/** Trace: one value across all topics, in the order of time, with the gaps between. */

import { get, lines } from "../lib/api.js";
import { h, icon, put } from "../lib/dom.js";
import { eventLink, eventView } from "../widgets/event_view.js";
import * as keys from "../lib/keys.js";
import { marker, UNMARKED } from "../lib/highlight.js";
import { empty, problem, showUnreadable } from "../widgets/components.js";
import { snippet } from "../lib/payload.js";
import { link, update } from "../lib/router.js";
import { bounds, timeMenu } from "../widgets/filters.js";
import { phrase } from "../lib/query_terms.js";
import { count, duration, line, moment, plain } from "../lib/text.js";

const EVENTS_MAX = 500;
const COLOURS = 8;

export function tracePage(_segments, params) {
  let run = null;
  let hits = [];
  let totals = null;
  let unreadable = [];
  let ended = "";
  let chosen = -1;
  let detail = null;
  let timer = 0;
  let marks = UNMARKED;
  const value = h("input.query", { type: "text", value: params.get("value") ?? "", "data-search": "", placeholder: "An id that events of several topics share", "aria-label": "Value to trace", spellcheck: "false", autocomplete: "off", onkeydown: (event) => event.key === "Enter" && begin() });
  const times = timeMenu({ since: params.get("since") ?? "", until: params.get("until") ?? "" }, begin);
  const status = h("div.progress-text.muted", { role: "status" });
  const control = h("span");
  const legend = h("div.legend", { "aria-label": "Topics" });
  const fall = h("ol.waterfall", { "aria-label": "Events in the order of time" });
  const note = h("div.rows-note");
  const side = h("div.detail", { hidden: true });
  const element = h("div.search", {},
    h("div.search-head", {}, h("h1.unseen", {}, "Trace"), h("div.query-box", {}, value), h("div.search-scope", {}, times.element, h("button.primary", { type: "button", onclick: begin }, icon("trace"), "Trace"))),
    h("div.progress-line", {}, status, control, h("span.spacer"), legend),
    h("div.split", {}, h("div.split-main", {}, note, h("div.fall-box", {}, fall)), side));

  async function begin() {
    run?.abort();
    hide();
    hits = [];
    totals = null;
    unreadable = [];
    chosen = -1;
    const wanted = value.value.trim();
    update({ value: wanted, ...times.value() }, { push: params.get("value") !== wanted });
    params.set("value", wanted);
    ended = wanted ? "running" : "";
    draw();
    if (!wanted) return;
    const mine = (run = new AbortController());
    get("query/check", { q: phrase(wanted) }).then((told) => mine === run && ((marks = marker(told.highlights)), draw()), () => {});
    const range = Object.fromEntries(Object.entries(bounds(times.value())).filter(([, each]) => each != null));
    try {
      for await (const told of lines("search", { query: phrase(wanted), topics: [], ...range, newest_first: true, limit: EVENTS_MAX }, mine.signal)) {
        if (told.hit) hits.push(told.hit);
        if (told.unreadable) unreadable.push(told.unreadable);
        const part = told.progress ?? told.done;
        if (part) totals = part.totals;
        if (told.done) ended = told.done.reason;
        timer ||= setTimeout(() => ((timer = 0), draw()), 150);
      }
    } catch (error) {
      if (mine !== run) return;
      ended = error.name === "AbortError" ? "stopped" : "failed";
      if (ended === "failed") {
        put(fall);
        put(note, problem(error, begin));
        return;
      }
    }
    if (mine === run) draw();
  }

  function draw() {
    hits.sort((a, b) => a.timestamp_ms - b.timestamp_ms || (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition || Number(a.offset) - Number(b.offset)));
    const topics = [...new Set(hits.map((each) => each.topic))];
    const first = hits[0]?.timestamp_ms ?? 0;
    const span = Math.max(1, (hits.at(-1)?.timestamp_ms ?? 0) - first);
    put(legend, topics.slice(0, 12).map((topic, at) => h("a.legend-item", { href: link(["topics", topic]) }, h(`i.lane.c${at % COLOURS}`), line(topic, 40))));
    const gaps = hits.map((each, at) => (at ? each.timestamp_ms - hits[at - 1].timestamp_ms : 0));
    const wide = Math.max(60_000, span / 20);
    put(fall, hits.map((each, at) => [
      gaps[at] > wide ? h("li.fall-gap", {}, `${duration(gaps[at])} later`) : null,
      h("li.fall-row", { "aria-current": at === chosen ? "true" : null, onclick: (event) => event.target.closest("a") || show(at) },
        h("span.event-time", {}, moment(each.timestamp_ms)),
        h("span.fall-gap-ms.num", {}, at && gaps[at] <= wide ? `+${duration(gaps[at])}` : ""),
        h("span.fall-topic", {}, h(`i.lane.c${topics.indexOf(each.topic) % COLOURS}`), line(each.topic, 60)),
        h("span.fall-lane", { "aria-hidden": "true" }, h(`i.lane.c${topics.indexOf(each.topic) % COLOURS}`, { style: { left: `${((each.timestamp_ms - first) / span) * 100}%` } })),
        h("a.fall-value.hostile", { href: eventLink(each), title: "Open this event" }, snippet(each, "value", marks, 240) ?? "null")),
    ]));
    drawStatus(topics);
    put(note, hits.length || ended === "running" ? null : ended === "" ? empty("Which value?", "An order number, a tail number, a correlation id: every event of every topic that holds it is put in one line of time.")
      : empty("No event holds this value", totals ? "Every topic was searched." : ""));
  }

  function drawStatus(topics) {
    const searched = totals ? ` · searched ${Math.floor((ended === "complete" ? 1 : totals.share ?? 0) * 100)} %` : "";
    const missed = unreadable.length ? [" · ", h("button.link.bad-text", { type: "button", onclick: () => showUnreadable(unreadable) }, `${count(unreadable.length)} unreadable`)] : null;
    put(status, hits.length ? [h("strong", {}, `${count(hits.length)} events in ${topics.length === 1 ? "one topic" : `${topics.length} topics`}`), ` over ${duration(hits.at(-1).timestamp_ms - hits[0].timestamp_ms)}`, ended === "limit" ? `, the newest ${count(EVENTS_MAX)} only` : "", searched, missed] : ended === "running" ? ["searching all topics", searched, missed] : [missed]);
    put(control, ended === "running" ? h("button.quiet", { type: "button", onclick: () => run?.abort() }, icon("stop"), "Stop") : null);
  }

  function show(at) {
    chosen = Math.min(hits.length - 1, Math.max(0, at));
    if (!hits[chosen]) return;
    detail?.stop();
    detail = eventView(hits[chosen], { close: hide, marks });
    put(side, detail.element);
    side.hidden = false;
    [...fall.querySelectorAll(".fall-row")].forEach((row, i) => {
      if (i === chosen) {
        row.setAttribute("aria-current", "true");
        row.scrollIntoView({ block: "nearest" });
      } else row.removeAttribute("aria-current");
    });
  }

  function hide() {
    detail?.stop();
    detail = null;
    side.hidden = true;
  }

  const unbind = keys.bind({ j: ["Next event", () => show(chosen + 1)], k: ["Previous event", () => show(chosen - 1)], Escape: ["Close the event", hide] });
  return {
    title: params.get("value") ? `Trace ${plain(params.get("value"))}` : "Trace",
    element,
    shown() {
      begin();
      value.focus();
    },
    close() {
      run?.abort();
      run = null;
      clearTimeout(timer);
      detail?.stop();
      unbind();
    },
  };
}
