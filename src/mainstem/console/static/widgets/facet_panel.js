/**
 * Facets: the most frequent values of each field, over the matches that are shown or, on request, over all.
 *
 * Owns: counting values of matches as they load, and the panel. A click on a value filters for it; its minus
 * button excludes it.
 */

import { h, icon, replaceContent } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { countedNumber, isContainer, isNumber } from "../lib/numbers.js";
import { dottedPath, fieldName, fieldTerm } from "../lib/query_terms.js";
import { plainText, singleLine } from "../lib/text.js";

const FACETS_MAX = 80;
const VALUES_SHOWN = 8;
const COUNTED_VALUES_MAX = 2000;
const OPEN_INITIALLY = 5;

export class FacetPanel {
  #filter;
  /** Field name -> (value -> count), of the matches that are shown. */
  #counters = new Map();
  #eventCount = 0;
  /** Counts of the server over all matches: {events, fields, complete}. */
  #exactCounts = null;
  #countedShare = null;
  #differences = null;
  #openFacets = new Map();
  #search;
  #stop;
  #note = h("p.hint", { role: "status" });
  #list = h("div.facet-list");
  #countButton;
  #compareButton;

  /**
   * `filter(term, exclude)` changes the query. `count` and `compare` start those requests; null: not offered.
   * `stop()` ends the one that runs.
   */
  constructor({ filter, count, compare, stop }) {
    this.#filter = filter;
    this.#stop = stop;
    this.#search = h("input", {
      type: "search",
      placeholder: "Find a field",
      "aria-label": "Find a field",
      oninput: () => this.draw(),
    });
    const button = (text, title, onclick) => h("button.quiet", { type: "button", title, onclick }, text);
    this.#countButton =
      count && button("Count all matches", "Counts the values of every match, on the server", count);
    this.#compareButton =
      compare && button("Compare with the rest", "Finds values that are typical of the matches", compare);
    const actions = h("div.facet-actions", {}, this.#countButton, this.#compareButton);
    this.element = h(
      "aside.facets",
      { "aria-label": "Facets" },
      h("div.facets-head", {}, this.#search, this.#note, actions),
      this.#list,
    );
  }

  /** Count the values of a match. */
  add(event) {
    this.#eventCount++;
    const seen = new Set();
    for (const [name, value] of eventFields(event)) {
      const identity = `${name}\u0000${value}`;
      if (seen.has(identity)) continue;
      seen.add(identity);
      if (!this.#counters.has(name)) this.#counters.set(name, new Map());
      const counts = this.#counters.get(name);
      if (counts.size < COUNTED_VALUES_MAX || counts.has(value))
        counts.set(value, (counts.get(value) ?? 0) + 1);
    }
  }

  clear() {
    this.#counters.clear();
    this.#eventCount = 0;
    this.#exactCounts = this.#countedShare = this.#differences = null;
    this.draw();
  }

  /** Show how much of the matches has been counted, from 0 to 1; null: no longer counting. */
  showCountProgress(share) {
    this.#countedShare = share;
    this.draw();
  }

  showExactCounts(counts) {
    this.#exactCounts = counts;
    this.#countedShare = null;
    this.draw();
  }

  /** Show how the matches differ from all other events: differences of the server's comparison. */
  showDifferences(differences) {
    this.#differences = differences;
    this.draw();
  }

  draw() {
    replaceContent(this.#note, this.#noteText());
    const isCounted = Boolean(this.#exactCounts || this.#differences) || this.#countedShare !== null;
    if (this.#countButton) this.#countButton.hidden = !this.#eventCount || isCounted;
    if (this.#compareButton)
      this.#compareButton.hidden =
        !this.#eventCount || Boolean(this.#differences) || this.#countedShare !== null;
    replaceContent(this.#list, this.#differences ? this.#differenceViews() : this.#facetViews());
  }

  #noteText() {
    const counting =
      this.#countedShare === null ? "" : `Counting … ${Math.floor(this.#countedShare * 100)} %`;
    if (this.#differences) return `Share among the matches / among all other events. ${counting}`;
    if (counting) return counting;
    if (this.#exactCounts) {
      const partly = this.#exactCounts.complete ? "" : ", as far as they were searched";
      return `Over all ${plural(this.#exactCounts.events, "match")}${partly}`;
    }
    return this.#eventCount ? `Over the ${formatCount(this.#eventCount)} shown` : "";
  }

  get #searchText() {
    return this.#search.value.trim().toLowerCase();
  }

  // ---------------------------------------------------------------------------------------- facets

  get #totalEvents() {
    return this.#exactCounts?.events ?? this.#eventCount;
  }

  /** [[field, [[value, count]]]]; the values of each field are in descending order of their counts. */
  #fieldCounts() {
    if (this.#exactCounts) return Object.entries(this.#exactCounts.fields);
    const byCount = (a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1);
    return [...this.#counters].map(([name, counts]) => [name, [...counts].sort(byCount)]);
  }

  /** Sort key: topic and key, then fields that most matches have, of those the ones with few values. */
  #rank([name, values]) {
    if (name === "topic") return -2;
    if (name === "key") return -1;
    const events = values.reduce((sum, [, count]) => sum + count, 0);
    const share = Math.min(1, events / Math.max(1, this.#totalEvents));
    return (1 - share) * 1000 + (values.length < 2 ? 90 : Math.min(80, values.length));
  }

  #facetViews() {
    const searchText = this.#searchText;
    const byRank = (a, b) => this.#rank(a) - this.#rank(b) || (a[0] < b[0] ? -1 : 1);
    return this.#fieldCounts()
      .filter(([name]) => name.toLowerCase().includes(searchText))
      .sort(byRank)
      .slice(0, FACETS_MAX)
      .map(([name, values], i) => {
        const isOpen = this.#openFacets.get(name) ?? (i < OPEN_INITIALLY || searchText !== "");
        return this.#facetView(name, values, isOpen);
      });
  }

  #facetView(name, values, isOpen) {
    const valueCount = formatCount(values.length) + (values.length >= COUNTED_VALUES_MAX ? "+" : "");
    const hidden = values.length - VALUES_SHOWN;
    const total = Math.max(1, this.#totalEvents);
    return h(
      "details.facet",
      {
        open: isOpen,
        ontoggle: (event) => this.#openFacets.set(name, event.currentTarget.open),
      },
      h("summary", {}, singleLine(name, 60), h("span.muted", {}, valueCount)),
      values
        .slice(0, VALUES_SHOWN)
        .map(([value, count]) => this.#valueView(name, value, formatCount(count), count / total)),
      hidden > 0 ? h("p.hint", {}, `and ${formatCount(hidden)} more`) : null,
    );
  }

  /** A value with its bar; `amount` is what is shown beside it. */
  #valueView(name, value, amount, share) {
    const label = `${plainText(name)}: ${plainText(value).slice(0, 200)}`;
    return h(
      "div.facet-row",
      {},
      h(
        "button.facet-value",
        {
          type: "button",
          title: `Filter for ${label}`,
          "aria-label": `Filter for ${label} (${amount})`,
          onclick: () => this.#filter(fieldTerm(name, value), false),
        },
        h("span.facet-bar", { style: { width: `${Math.min(1, share) * 100}%` } }),
        h("span.facet-text", {}, value === "" ? h("span.muted", {}, "empty") : singleLine(value, 60)),
        h("span.facet-count", {}, amount),
      ),
      h(
        "button.icon-button.facet-exclude",
        {
          type: "button",
          title: "Exclude events with this value",
          "aria-label": `Exclude ${label}`,
          onclick: () => this.#filter(fieldTerm(name, value), true),
        },
        icon("minus"),
      ),
    );
  }

  // ---------------------------------------------------------------------------------------- comparison

  #differenceViews() {
    const searchText = this.#searchText;
    const back = () => {
      this.#stop();
      this.showDifferences(null);
    };
    const views = this.#differences
      .filter(({ field }) => field.toLowerCase().includes(searchText))
      .map(({ field, value, selected_share: share, baseline_share: baseline }) =>
        h(
          "div.facet-difference",
          {},
          h("p", {}, singleLine(field, 60)),
          this.#valueView(field, value, `${formatShare(share)} / ${formatShare(baseline)}`, share),
        ),
      );
    return [
      h("button.quiet", { type: "button", onclick: back }, "Back to the facets"),
      this.#differences.length
        ? null
        : h("p.hint", {}, "No differences: all values are about as frequent among the other events."),
      views,
    ];
  }
}

const formatShare = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** The fields of an event and their values as text: [name, value]. Binary data is left out. */
function* eventFields(event) {
  yield ["topic", event.topic];
  yield ["partition", String(event.partition)];
  if (event.key != null && event.key_encoding !== "base64") yield ["key", event.key];
  for (const { name, value, value_encoding: encoding } of event.headers)
    if (value != null && encoding !== "base64") yield [`header.${dottedPath([name])}`, value];
  if (event.value_encoding === "json") yield* jsonFields(event.value);
}

function* jsonFields(value, path = []) {
  if (Array.isArray(value)) {
    for (const item of value) yield* jsonFields(item, path);
  } else if (isContainer(value)) {
    for (const [name, item] of Object.entries(value)) yield* jsonFields(item, [...path, name]);
  } else if (path.length) {
    yield [fieldName(path), isNumber(value) ? countedNumber(value) : String(value)];
  }
}
