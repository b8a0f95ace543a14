/** The facets of a search, and the requests that count or compare all matches on the server. */

import { canUse, post, streamLines } from "../../lib/api.js";
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

  async #count() {
    this.dispose();
    const counting = new AbortController();
    this.#counting = counting;
    const request = { ...this.#query.matches(), top: VALUES_PER_FIELD };
    let counts = null;
    try {
      for await (const { facets, progress, done } of streamLines("facets", request, counting.signal)) {
        if (counting !== this.#counting) return;
        if (facets) counts = facets;
        else if (progress) this.#panel.showCountProgress(progress.totals.share);
        else if (done) this.#panel.showExactCounts(exactCounts(counts, done));
      }
    } catch (error) {
      if (counting !== this.#counting || error.name === "AbortError") return;
      this.#panel.showCountProgress(null);
      openDialog("The matches could not be counted", errorNotice(error));
    }
  }

  /** Compare the matches with all other events of the same topics and times. */
  async #compare() {
    const { query, ...scope } = this.#query.matches();
    const baseline = { query: query ? `NOT (${query})` : "", ...scope };
    try {
      const reply = await post("compare", { selection: { query, ...scope }, baseline });
      this.#panel.showDifferences(reply.differences);
    } catch (error) {
      openDialog("The matches could not be compared", errorNotice(error));
    }
  }
}

function exactCounts({ events, fields }, { reason, totals }) {
  const pairs = (values) => values.map(({ value, count }) => [value, count]);
  const byField = Object.entries(fields).map(([name, values]) => [name, pairs(values)]);
  const complete = reason === "complete" && !totals.undecodable;
  return { events, fields: Object.fromEntries(byField), complete };
}
