/**
 * Search: one query over topics and times; results as they are found, with how far the search has come.
 *
 * The address holds the whole state (q, topics, since, until, oldest, open), so that a link shows the same.
 */

import { can, get, lines, post } from "../lib/api.js";
import { histogram } from "../widgets/charts.js";
import { chooser } from "../widgets/selection.js";
import { h, icon, put } from "../lib/dom.js";
import { eventRow, eventView, fetchEvent, placeOf } from "../widgets/event_view.js";
import { facetPanel } from "../widgets/facets.js";
import * as keys from "../lib/keys.js";
import { marker, UNMARKED } from "../lib/highlight.js";
import { dialog, empty, problem, showUnreadable } from "../widgets/components.js";
import { queryBox } from "../widgets/query_box.js";
import { update } from "../lib/router.js";
import { bounds, timeMenu, topicMenu } from "../widgets/filters.js";
import { bytes, count, iso, many, moment } from "../lib/text.js";
import { exportMatches, replay } from "../widgets/replay_export.js";
import { list } from "../widgets/virtual_list.js";

const FIRST = 200;
const MORE = 500;
const BUCKETS = 120;
const DRAWN_EVERY_MS = 120;

export function searchPage(_segments, params) {
  let run = null;
  let counting = null;
  let hits = [];
  const seen = new Set();
  let unreadable = [];
  let totals = null;
  let buckets = [];
  let resume = null;
  let ended = "";
  let detail = null;
  let drawTimer = 0;
  let marks = UNMARKED;

  const box = queryBox({ value: params.get("q") ?? "", run: () => begin(true), scope: () => topics.value() });
  const topics = topicMenu(commas(params.get("topics")), () => begin(true));
  const times = timeMenu({ since: params.get("since") ?? "", until: params.get("until") ?? "" }, () => begin(true));
  let oldest = params.get("oldest") === "1";
  const order = h("button.quiet", { type: "button", onclick: () => ((oldest = !oldest), begin(true)) });
  const chart = histogram({ chosen: (from, to) => (times.set({ since: iso(from), until: iso(to) }), begin(true)) });
  const status = h("div.progress-text", { role: "status" });
  const bar = h("div.progress-bar", {}, h("i"));
  const control = h("span.progress-control");
  const rows = list({ label: "Results", kind: "of-events", row, open: show });
  const picks = chooser({ items: () => hits, redraw: () => rows.again() });
  const note = h("div.rows-note");
  const facets = facetPanel({ filter, ask: can("post", "facets") ? countAll : null, compare: can("post", "compare") ? compare : null });
  const showFacets = h("button.quiet.facets-toggle", { type: "button", "aria-expanded": "false", onclick: toggleFacets }, "Facets");
  const side = h("div.detail", { hidden: true });
  const results = h("div.results", { "aria-busy": "true" }, facets.element, h("div.split", {}, h("div.split-main", {}, note, rows.element), side));
  const element = h("div.search", {},
    h("div.search-head", {},
      h("h1.unseen", {}, "Search"),
      box.element,
      h("div.search-scope", {}, topics.element, times.element, order, h("button.primary", { type: "button", onclick: () => begin(true) }, icon("search"), "Search"))),
    chart.element,
    h("div.progress", {}, bar, h("div.progress-line", {}, status, h("div.result-tools", {}, control, showFacets,
      can("post", "export") ? h("button.quiet", { type: "button", onclick: () => exportMatches(matchesOnly()) }, "Export…") : null,
      can("post", "replay") ? h("button.quiet", { type: "button", onclick: () => replay({ matches: matchesOnly() }) }, "Replay…") : null))),
    picks.bar,
    results);

  function row(event, index) {
    return picks.dress(eventRow(event, { marks, topics: topics.value().length !== 1 || topics.value()[0].includes("*"), pick: picks.box(event, index) }), event);
  }

  // -------------------------------------------------------------------------------------- the request

  function request(more) {
    return {
      query: box.value(), topics: topics.value(), ...given(bounds(times.value())), newest_first: !oldest, limit: FIRST, ...more,
    };
  }

  function save(push) {
    update({ q: box.value(), topics: topics.value().join(","), ...times.value(), oldest: oldest ? "1" : "", open: detail ? placeOf(detail.event) : "" }, { push });
  }

  function begin(push) {
    run?.abort();
    counting?.abort();
    counting = null;
    hits = [];
    seen.clear();
    unreadable = [];
    totals = resume = null;
    ended = "";
    box.problem(null);
    save(push);
    picks.clear();
    facets.clear();
    rows.items([]);
    loadMarks();
    loadHistogram();
    stream({});
  }

  async function stream(more) {
    const mine = (run = new AbortController());
    const before = totals;
    ended = "running";
    drawProgress();
    try {
      for await (const told of lines("search", request(more), mine.signal)) {
        if (told.hit) found(told.hit);
        else if (told.unreadable) unreadable.push(told.unreadable);
        else take(told, before);
        drawSoon();
      }
      if (ended === "running") ended = "cut";
    } catch (error) {
      if (mine !== run) return;
      ended = error.name === "AbortError" ? "stopped" : "failed";
      if (ended === "failed") failed(error);
    }
    if (mine === run) draw();
  }

  function failed(error) {
    if (error.body?.column != null) {
      box.problem({ message: error.message, column: error.body.column, length: error.body.length });
      ended = "query";
    } else {
      ended = "failed";
      put(note, problem(error, () => begin(false)));
    }
  }

  function take(told, before) {
    const part = told.progress ?? told.done;
    totals = { ...part.totals };
    totals.matches = hits.length;
    if (before) {
      totals.undecodable += before.undecodable;
      totals.elapsed_s += before.elapsed_s;
    }
    resume = part.resume ?? (told.done ? null : resume);
    if (told.done) ended = told.done.reason;
  }

  /** When a stopped search goes on, what was found after its last token comes again. */
  function found(event) {
    const place = placeOf(event);
    if (!seen.has(place)) insert(event);
    seen.add(place);
  }

  /** Into the order of the list: units of work come by time, their events in one piece. */
  function insert(event) {
    const later = (a, b) => (oldest ? a.timestamp_ms - b.timestamp_ms : b.timestamp_ms - a.timestamp_ms);
    let at = hits.length;
    while (at > 0 && later(hits[at - 1], event) > 0) at--;
    hits.splice(at, 0, event);
    facets.add(event);
    const bucket = buckets.length ? Math.floor((event.timestamp_ms - buckets[0].from) / (buckets[0].to - buckets[0].from)) : -1;
    if (buckets[bucket]) buckets[bucket].matches = (buckets[bucket].matches ?? 0) + 1;
  }

  /** What to mark in the matches: the server reads the query. */
  async function loadMarks() {
    const mine = box.value();
    marks = UNMARKED;
    if (!mine || !can("get", "query/check")) return;
    const told = await get("query/check", { q: mine }).catch(() => null);
    if (!told || mine !== box.value()) return;
    marks = marker(told.highlights);
    rows.again();
    if (detail) show(detail.event);
  }

  async function loadHistogram() {
    if (!can("get", "histogram")) return void (chart.element.hidden = true);
    const mine = box.value();
    const { since_ms, until_ms } = bounds(times.value());
    try {
      const reply = await get("histogram", { topics: topics.value().join(","), since: since_ms != null ? iso(since_ms) : "", until: until_ms != null ? iso(until_ms) : "", buckets: BUCKETS });
      if (mine !== box.value()) return undefined;
      buckets = reply.buckets.map((each) => ({ from: each.from_ms, to: each.to_ms, count: each.count, matches: null }));
      const shown = hits.splice(0);
      facets.clear();
      shown.forEach(insert);
      drawSoon();
    } catch (error) {
      buckets = [];
      if (error.status !== 400) drawSoon();
    }
    return undefined;
  }

  // -------------------------------------------------------------------------------------- drawing

  function drawSoon() {
    drawTimer ||= setTimeout(() => {
      drawTimer = 0;
      draw();
    }, DRAWN_EVERY_MS);
  }

  function draw() {
    rows.items(hits, true);
    chart.show(buckets);
    facets.draw();
    drawProgress();
    rows.element.hidden = !hits.length;
    if (ended === "failed") return;
    put(note, hits.length ? null : ended === "running" ? empty("Searching …") : ended === "query" ? empty("The query cannot be read", "See what is underlined.")
      : ended === "complete" ? nothing() : empty("Nothing found so far"));
  }

  /** Why there is nothing, and what would change it. */
  function nothing() {
    const { since, until } = times.value();
    const wider = [since || until ? "a wider time range" : "", topics.value().length ? "more topics" : ""].filter(Boolean).join(" or ");
    const hint = wider ? `${wider[0].toUpperCase()}${wider.slice(1)} may have some.` : "";
    if (!box.value() || totals?.total_bytes === 0) return empty("No events here", hint || "Nothing has been published yet, or all of it was deleted.");
    return empty("Nothing matches", `All there is was searched. ${hint}`);
  }

  function drawProgress() {
    const running = ended === "running";
    const share = totals?.share ?? 0;
    const inner = bar.firstElementChild;
    inner.style.setProperty("width", `${(ended === "complete" ? 1 : share) * 100}%`);
    results.setAttribute("aria-busy", String(running));
    put(order, oldest ? "Oldest first" : "Newest first");
    put(status, totals ? progressWords() : running ? "starting …" : "");
    put(control,
      running ? h("button.quiet", { type: "button", onclick: stop }, icon("stop"), "Stop") : null,
      !running && resume ? h("button.quiet", { type: "button", onclick: () => stream({ resume, limit: MORE }) }, icon("play"), ended === "limit" ? "More matches" : "Go on") : null);
  }

  function progressWords() {
    const { total_bytes: all, scanned_bytes: scanned, skipped_bytes: skipped, removed_bytes: removed = 0, matches, undecodable, elapsed_s: seconds, reached_ms: reached } = totals;
    const through = scanned + skipped + removed;
    const why = { limit: ", stopped at the limit", budget: ", stopped after its time", stopped: ", stopped", cut: ", cut off by the server" }[ended] ?? "";
    const covered = all && !through && matches ? `searched the ${oldest ? "oldest" : "newest"} of ${bytes(all)}` : all ? `searched ${bytes(through)} of ${bytes(all)} (${Math.floor((through / all) * 100)} %)` : all === 0 ? "nothing to search" : `searched ${Math.floor(totals.share * 100)} %`;
    return [
      h("strong", {}, many(matches, "match")), why,
      h("span.muted", {},
        ` · ${covered}`,
        skipped ? ` · ${bytes(skipped)} ruled out unread` : "",
        totals.indexed_bytes ? ` (${bytes(totals.indexed_bytes)} by the index)` : "",
        totals.index_note ? ` · ${totals.index_note}` : "",
        ended !== "complete" && reached != null ? ` · all of them ${oldest ? "up" : "back"} to ${moment(reached, { millis: false })}` : "",
        seconds ? ` · ${seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`}` : "",
        ` · `),
      undecodable ? h("button.link.bad-text", { type: "button", onclick: () => showUnreadable(unreadable) }, `${count(undecodable)} unreadable`) : h("span.muted", {}, "0 unreadable"),
    ];
  }

  const stop = () => run?.abort();

  function toggleFacets() {
    const shown = results.classList.toggle("with-facets");
    showFacets.setAttribute("aria-expanded", String(shown));
  }

  // -------------------------------------------------------------------------------------- filters, facets

  function filter(term, exclude) {
    const before = box.value();
    const needsBrackets = /\bOR\b/.test(before) && !/^\(.*\)$/.test(before);
    const kept = needsBrackets ? `(${before})` : before;
    const added = exclude ? `NOT ${term}` : term;
    if (before.includes(added)) return;
    box.set(kept ? `${kept} ${added}` : added);
    begin(true);
  }

  function matchesOnly() {
    const rest = request({});
    delete rest.newest_first;
    delete rest.limit;
    return rest;
  }

  async function countAll() {
    counting?.abort();
    const mine = (counting = new AbortController());
    let reply = null;
    try {
      for await (const told of lines("facets", { ...matchesOnly(), top: 50 }, mine.signal)) {
        if (mine !== counting) return;
        if (told.facets) reply = told.facets;
        else if (told.progress) facets.counting(told.progress.totals.share);
        else if (told.done) facets.exact(counted(reply, told.done));
      }
    } catch (error) {
      if (mine !== counting || error.name === "AbortError") return;
      facets.counting(null);
      dialog("Counting did not work", problem(error));
    }
  }

  function counted(reply, { reason, totals: { undecodable } }) {
    const fields = Object.entries(reply.fields).map(([name, values]) => [name, values.map((each) => [each.value, each.count])]);
    return { events: reply.events, fields: Object.fromEntries(fields), complete: reason === "complete" && !undecodable };
  }

  async function compare() {
    const { query, ...rest } = matchesOnly();
    try {
      const reply = await post("compare", { selection: { query, ...rest }, baseline: { query: query ? `NOT (${query})` : "", ...rest } });
      facets.differences(reply.differences);
    } catch (error) {
      dialog("Comparing did not work", problem(error));
    }
  }

  // -------------------------------------------------------------------------------------- one event

  function show(event) {
    detail?.view.stop();
    detail = { event, view: eventView(event, { filter, close: hide, marks }) };
    put(side, detail.view.element);
    side.hidden = false;
    save(false);
  }

  function hide() {
    if (!detail) return;
    detail.view.stop();
    detail = null;
    side.hidden = true;
    save(false);
    rows.element.focus();
  }

  async function openFromAddress(place) {
    const [, topic, partition, offset] = /^(.*):(\d+):(\d+)$/.exec(place) ?? [];
    if (!topic) return;
    const event = await fetchEvent(topic, partition, offset).catch(() => null);
    if (event && !detail) show(event);
  }

  function step(by) {
    rows.move(by);
    if (detail && hits[rows.chosen()]) show(hits[rows.chosen()]);
  }

  const unbind = keys.bind({
    j: ["Next result", () => step(1)],
    k: ["Previous result", () => step(-1)],
    Enter: ["Open the result", rows.openChosen],
    x: ["Choose the result, to replay or export several", () => picks.toggle(rows.chosen())],
    Escape: ["Close the result, or choose none", () => (detail ? hide() : picks.clear())],
    s: ["Stop the search", stop],
  });

  return {
    title: "Search",
    element,
    shown() {
      if (params.get("open")) openFromAddress(params.get("open"));
      begin(false);
      box.input.focus();
    },
    changed(next) {
      const now = (name) => next.get(name) ?? "";
      if (now("q") === box.value() && now("topics") === topics.value().join(",") && now("since") === times.value().since && now("until") === times.value().until) return;
      box.set(now("q"));
      topics.set(commas(now("topics")));
      times.set({ since: now("since"), until: now("until") });
      begin(false);
    },
    close() {
      run?.abort();
      counting?.abort();
      run = null;
      detail?.view.stop();
      clearTimeout(drawTimer);
      box.close();
      rows.close();
      unbind();
    },
  };
}

const commas = (text) => (text ?? "").split(",").filter(Boolean);
const given = (object) => Object.fromEntries(Object.entries(object).filter(([, value]) => value != null));
