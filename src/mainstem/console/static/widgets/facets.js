/**
 * Facets: the most frequent values of each field, over the matches that are shown or, asked for, over all.
 *
 * Owns: counting what has been loaded, as it comes, and the panel. A click filters in, the minus filters out.
 */

import { h, icon, put } from "../lib/dom.js";
import { dotted, fieldName, term } from "../lib/query_terms.js";
import { line, count, many, plain } from "../lib/text.js";

const VALUES_SHOWN = 8;
const VALUES_KEPT = 2000;
const OPEN_FIRST = 5;

function* fields(value, path = []) {
  if (Array.isArray(value)) {
    for (const each of value) yield* fields(each, path);
  } else if (value !== null && typeof value === "object") {
    for (const [name, each] of Object.entries(value)) yield* fields(each, [...path, name]);
  } else if (path.length) {
    yield [fieldName(path), value === null ? "null" : String(value)];
  }
}

function* all(event) {
  yield ["topic", event.topic];
  yield ["partition", String(event.partition)];
  if (event.key != null && event.key_encoding !== "base64") yield ["key", event.key];
  for (const each of event.headers) if (each.value != null && each.value_encoding !== "base64") yield [`header.${dotted([each.name])}`, each.value];
  if (event.value_encoding === "json") yield* fields(event.value);
}

/** {element, add(event), draw(), clear(), counting(share), exact(reply)}. `filter(term, exclude)`; `ask()` starts the exact count. */
export function facetPanel({ filter, ask, compare }) {
  const counters = new Map();
  let events = 0;
  let server = null;
  let apart = null;
  let share = null;
  const open = new Map();
  const word = h("input", { type: "search", placeholder: "Find a field", "aria-label": "Find a field", oninput: () => draw() });
  const note = h("p.hint", { role: "status" });
  const rows = h("div.facet-list");
  const exactly = ask ? h("button.quiet", { type: "button", onclick: ask, title: "Counts every match of the query on the server" }, "Count all matches") : null;
  const comparing = compare ? h("button.quiet", { type: "button", onclick: compare, title: "Which values are more frequent among the matches than among the rest" }, "What sets them apart?") : null;
  const element = h("aside.facets", { "aria-label": "Facets" }, h("div.facets-head", {}, word, note, h("div.facet-actions", {}, exactly, comparing)), rows);

  function add(event) {
    events++;
    const seen = new Set();
    for (const [name, value] of all(event)) {
      const mark = `${name}\u0000${value}`;
      if (seen.has(mark)) continue;
      seen.add(mark);
      let values = counters.get(name);
      if (!values) counters.set(name, (values = new Map()));
      if (values.size < VALUES_KEPT || values.has(value)) values.set(value, (values.get(value) ?? 0) + 1);
    }
  }

  /** What stands first: topic and key, then fields that most matches have, and of those the ones with few values. */
  function rank([name, values]) {
    if (name === "topic" || name === "key") return name === "topic" ? -2 : -1;
    const covered = Math.min(1, values.reduce((sum, [, n]) => sum + n, 0) / Math.max(1, server?.events ?? events));
    return (1 - covered) * 1000 + (values.length < 2 ? 90 : Math.min(80, values.length));
  }

  function draw() {
    put(note, share !== null ? `Counting … ${Math.floor(share * 100)} %` : apart ? "More or less frequent than among the rest" : server ? `Over all ${many(server.events, "match")}${server.complete === false ? ", as far as was searched" : ""}` : events ? `Over the ${count(events)} shown` : "");
    if (exactly) exactly.hidden = !events || Boolean(server || apart) || share !== null;
    if (comparing) comparing.hidden = !events || Boolean(apart);
    if (apart) return drawApart();
    const total = server?.events ?? events;
    const found = server
      ? Object.entries(server.fields)
      : [...counters].map(([name, values]) => [name, [...values].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))]);
    const wanted = word.value.trim().toLowerCase();
    const shown = found.filter(([name]) => name.toLowerCase().includes(wanted)).sort((a, b) => rank(a) - rank(b) || (a[0] < b[0] ? -1 : 1));
    return put(rows, shown.slice(0, 80).map(([name, values], at) => facet(name, values, total, open.get(name) ?? (at < OPEN_FIRST || wanted !== ""))));
  }

  function facet(name, values, total, isOpen) {
    return h("details.facet", { open: isOpen, ontoggle: (event) => open.set(name, event.currentTarget.open) },
      h("summary", {}, line(name, 60), h("span.muted", {}, count(values.length) + (values.length >= VALUES_KEPT ? "+" : ""))),
      values.slice(0, VALUES_SHOWN).map(([value, n]) => facetValue(name, value, count(n), n / Math.max(1, total))),
      values.length > VALUES_SHOWN ? h("p.hint", {}, `and ${count(values.length - VALUES_SHOWN)} more`) : null);
  }

  function facetValue(name, value, told, share) {
    const text = plain(value).slice(0, 200);
    return h("div.facet-row", {},
      h("button.facet-value", { type: "button", title: `Only ${plain(name)}: ${text}`, "aria-label": `Only ${plain(name)}: ${text} (${told})`, onclick: () => filter(term(name, value), false) },
        h("span.facet-bar", { style: { width: `${Math.min(1, share) * 100}%` } }), h("span.facet-text", {}, value === "" ? h("span.muted", {}, "empty") : line(value, 60)), h("span.facet-count", {}, told)),
      h("button.icon-button.facet-out", { type: "button", "aria-label": `Without ${plain(name)}: ${text}`, title: "Leave these out", onclick: () => filter(term(name, value), true) }, icon("minus")));
  }

  function drawApart() {
    const wanted = word.value.trim().toLowerCase();
    put(rows,
      h("button.quiet", { type: "button", onclick: () => ((apart = null), draw()) }, "Back to the facets"),
      apart.length ? null : h("p.hint", {}, "Nothing does: every value is about as frequent among the rest."),
      apart.filter((each) => each.field.toLowerCase().includes(wanted)).map((each) => h("div.apart", {},
        h("p", {}, line(each.field, 60)),
        facetValue(each.field, each.value, `${percent(each.selected_share)} / ${percent(each.baseline_share)}`, each.selected_share))));
  }

  return {
    element,
    add,
    draw,
    clear() {
      counters.clear();
      events = 0;
      server = apart = share = null;
      draw();
    },
    counting(now) {
      share = now;
      draw();
    },
    exact(reply) {
      server = reply;
      share = null;
      draw();
    },
    differences(list) {
      apart = list;
      draw();
    },
  };
}

const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
