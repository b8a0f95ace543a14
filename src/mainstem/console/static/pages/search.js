/**
 * The search: one query over topics and times, with results as they are found.
 *
 * Owns: the state in the address (q, topics, since, until, oldest, open): a link shows the same search. The
 * parts are in `search/`: the query, the run, the results, their facets and timeline, and the open event.
 */

import { canUse, get } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { NO_HIGHLIGHTS, queryHighlights } from "../lib/highlight.js";
import { bindKeys } from "../lib/keys.js";
import { updateParams } from "../lib/router.js";
import { SearchDetail } from "./search/detail.js";
import { SearchFacets } from "./search/facets.js";
import { SearchProgress } from "./search/progress.js";
import { SearchQuery } from "./search/query.js";
import { SearchResults } from "./search/results.js";
import { SearchRun } from "./search/run.js";
import { SearchTimeline } from "./search/timeline.js";

const EVENTS_FIRST = 200;
const EVENTS_MORE = 500;
const DRAW_INTERVAL_MS = 120;

export class SearchPage {
  title = "Search";
  #openPosition;
  #run = null;
  #drawTimer = 0;
  #query;
  #timeline;
  #progress;
  #facets;
  #results;
  #detail;
  #area;
  #unbindKeys;

  constructor(_segments, params) {
    const start = () => this.#start({ push: true });
    this.#openPosition = params.get("open");
    this.#query = new SearchQuery(params, start);
    this.#timeline = new SearchTimeline(this.#query, start);
    const filter = (term, exclude) => this.#query.addTerm(term, exclude) && start();
    this.#facets = new SearchFacets(this.#query, filter);
    this.#detail = new SearchDetail({
      filter,
      onChange: () => this.#saveParams(),
      onClose: () => this.#results.focus(),
    });
    this.#results = new SearchResults(this.#query, {
      open: (event) => this.#detail.open(event),
      restart: () => this.#start(),
    });
    this.#progress = new SearchProgress(this.#query, {
      stop: () => this.#run?.stop(),
      continue: () => this.#continue(),
      toggleFacets: () => this.#area.classList.toggle("with-facets"),
    });
    this.#unbindKeys = this.#bindKeys();
    this.element = this.#createElement();
  }

  shown() {
    if (this.#openPosition) this.#detail.openPosition(this.#openPosition);
    this.#start();
    this.#query.focus();
  }

  paramsChanged(params) {
    if (this.#query.readParams(params)) this.#start();
  }

  close() {
    this.#run?.discard();
    this.#run = null;
    clearTimeout(this.#drawTimer);
    for (const part of [this.#query, this.#facets, this.#detail, this.#results]) part.dispose();
    this.#unbindKeys();
  }

  #createElement() {
    const split = h("div.split", {}, this.#results.element, this.#detail.element);
    this.#area = h("div.results", { "aria-busy": "true" }, this.#facets.element, split);
    return h(
      "div.search",
      {},
      this.#query.element,
      this.#timeline.element,
      this.#progress.element,
      this.#results.selectionBar,
      this.#area,
    );
  }

  #bindKeys() {
    return bindKeys({
      j: ["Next result", () => this.#step(1)],
      k: ["Previous result", () => this.#step(-1)],
      Enter: ["Open the result", () => this.#results.openCurrent()],
      x: ["Select the result, to replay or export several", () => this.#results.toggleCurrent()],
      Escape: ["Close the result, or clear the selection", () => this.#closeOrClear()],
      s: ["Stop the search", () => this.#run?.stop()],
    });
  }

  #step(step) {
    const event = this.#results.move(step);
    if (this.#detail.event && event) this.#detail.open(event);
  }

  #closeOrClear() {
    if (this.#detail.event) this.#detail.close();
    else this.#results.clearSelection();
  }

  // ---------------------------------------------------------------------------------------- the search

  #saveParams({ push = false } = {}) {
    updateParams({ ...this.#query.params(), open: this.#detail.position }, { push });
  }

  /** Start a new search; `push` adds a step to the browser's history. */
  #start({ push = false } = {}) {
    this.#run?.discard();
    this.#query.showError(null);
    this.#saveParams({ push });
    this.#facets.reset();
    const run = new SearchRun({
      oldestFirst: this.#query.oldestFirst,
      onEvent: (event) => this.#onEvent(event),
      onProgress: () => this.#drawSoon(),
    });
    this.#run = run;
    this.#results.reset(run);
    this.#loadHighlights();
    this.#loadTimeline(run);
    this.#stream(this.#query.request({ limit: EVENTS_FIRST }));
  }

  #continue() {
    this.#stream(this.#query.request({ limit: EVENTS_MORE, resume: this.#run.resume }));
  }

  async #stream(request) {
    const run = this.#run;
    const ended = run.stream(request);
    this.#drawProgress();
    await ended;
    if (run !== this.#run) return;
    const { column, length } = run.error?.body ?? {};
    if (run.state === "invalid") this.#query.showError({ message: run.error.message, column, length });
    this.#draw();
  }

  #onEvent(event) {
    this.#facets.add(event);
    this.#timeline.count(event);
  }

  async #loadTimeline(run) {
    await this.#timeline.load();
    if (run !== this.#run) return;
    for (const event of run.events) this.#timeline.count(event);
    this.#drawSoon();
  }

  /** What to highlight: the server parses the query. */
  async #loadHighlights() {
    const { query } = this.#query;
    this.#setHighlights(NO_HIGHLIGHTS);
    if (!query || !canUse("get", "query/check")) return;
    const reply = await get("query/check", { q: query }).catch(() => null);
    if (!reply || query !== this.#query.query) return;
    this.#setHighlights(queryHighlights(reply.highlights));
    this.#results.redraw();
    this.#detail.redraw();
  }

  #setHighlights(highlights) {
    this.#results.highlights = highlights;
    this.#detail.highlights = highlights;
  }

  // ---------------------------------------------------------------------------------------- drawing

  #drawSoon() {
    this.#drawTimer ||= setTimeout(() => {
      this.#drawTimer = 0;
      this.#draw();
    }, DRAW_INTERVAL_MS);
  }

  #draw() {
    this.#results.draw();
    this.#timeline.draw();
    this.#facets.draw();
    this.#drawProgress();
  }

  #drawProgress() {
    this.#area.setAttribute("aria-busy", String(this.#run.state === "running"));
    this.#progress.draw(this.#run);
  }
}
