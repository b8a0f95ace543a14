/** The facets of a search, and the requests that count or compare all matches on the server. */

import { canUse, streamLines } from "../../lib/api.js";
import { errorNotice, openDialog } from "../../widgets/components.js";
import { FacetPanel } from "../../widgets/facet_panel.js";

const VALUES_PER_FIELD = 50;

export class SearchFacets {
  #query;
  #panel;
  #counting = null;

  /** `filter(term, exclude)` changes the query. */
  constructor(query, filter) {
    this.#query = query;
    this.#panel = new FacetPanel({
      filter,
      count: canUse("post", "facets") ? () => this.#count() : null,
      compare: canUse("post", "compare") ? () => this.#compare() : null,
      stop: () => this.#stop(),
    });
    this.element = this.#panel.element;
  }

  add(event) {
    this.#panel.add(event);
  }

  draw() {
    this.#panel.draw();
  }

  /** Start again, for another search. */
  reset() {
    this.dispose();
    this.#panel.clear();
  }

  dispose() {
    this.#counting?.abort();
    this.#counting = null;
  }

  #stop() {
    this.dispose();
    this.#panel.showCountProgress(null);
  }

  async #count() {
    let counts = null;
    const request = { ...this.#query.matches(), top: VALUES_PER_FIELD };
    await this.#stream("facets", request, "The matches could not be counted", ({ facets, done }) => {
      if (facets) counts = facets;
      else if (done) this.#panel.showExactCounts(exactCounts(counts, done));
    });
  }

  /** Compare the matches with all other events of the same topics and times. */
  async #compare() {
    const { query, ...scope } = this.#query.matches();
    const baseline = { query: query ? `NOT (${query})` : "", ...scope };
    const request = { selection: { query, ...scope }, baseline };
    await this.#stream("compare", request, "The matches could not be compared", ({ comparison, done }) => {
      if (comparison) this.#panel.showDifferences(comparison.differences);
      else if (done) this.#panel.showCountProgress(null);
    });
  }

  /** Read the lines of a request, which replaces the one before it, and show its progress. */
  async #stream(path, request, failure, handle) {
    this.dispose();
    const counting = new AbortController();
    this.#counting = counting;
    this.#panel.showCountProgress(0);
    try {
      for await (const line of streamLines(path, request, counting.signal)) {
        if (counting !== this.#counting) return;
        if (line.progress) this.#panel.showCountProgress(line.progress.totals.share);
        else handle(line);
      }
    } catch (error) {
      if (counting !== this.#counting || error.name === "AbortError") return;
      this.#panel.showCountProgress(null);
      openDialog(failure, errorNotice(error));
    }
  }
}

function exactCounts({ events, fields }, { reason, totals }) {
  const pairs = (values) => values.map(({ value, count }) => [value, count]);
  const byField = Object.entries(fields).map(([name, values]) => [name, pairs(values)]);
  const complete = reason === "complete" && !totals.undecodable;
  return { events, fields: Object.fromEntries(byField), complete };
}
