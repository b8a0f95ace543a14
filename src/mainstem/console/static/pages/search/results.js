/** The results of a search: the list of events, the selection, and what is shown instead of an empty list. */

import { h, replaceContent } from "../../lib/dom.js";
import { NO_HIGHLIGHTS } from "../../lib/highlight.js";
import { emptyState, errorNotice } from "../../widgets/components.js";
import { eventRow } from "../../widgets/event_row.js";
import { Selection } from "../../widgets/selection.js";
import { VirtualList } from "../../widgets/virtual_list.js";

export class SearchResults {
  highlights = NO_HIGHLIGHTS;
  #query;
  #restart;
  #run = null;
  #note = h("div.rows-note");
  #list;
  #selection;

  /** `open(event)` is called for the event that a reader opens, `restart()` to try a failed search again. */
  constructor(query, { open, restart }) {
    this.#query = query;
    this.#restart = restart;
    this.#list = new VirtualList({
      label: "Results",
      kind: "of-events",
      createRow: (event, index) => this.#row(event, index),
      open,
    });
    this.#selection = new Selection({
      getEvents: () => this.#run.events,
      onChange: () => this.#list.redraw(),
    });
    this.element = h("div.split-main", {}, this.#note, this.#list.element);
  }

  get selectionBar() {
    return this.#selection.element;
  }

  /** Show the results of another run. */
  reset(run) {
    this.#run = run;
    this.#selection.clear();
    this.#list.setItems([]);
  }

  draw() {
    const { events, state, error } = this.#run;
    this.#list.setItems(events, { keepPlace: true });
    this.#list.element.hidden = !events.length;
    if (state === "failed") replaceContent(this.#note, errorNotice(error, this.#restart));
    else replaceContent(this.#note, events.length ? null : this.#emptyNote());
  }

  /** Draw the rows again, with other highlights. */
  redraw() {
    this.#list.redraw();
  }

  focus() {
    this.#list.element.focus();
  }

  dispose() {
    this.#list.close();
  }

  /** Move the current row; returns its event. */
  move(step) {
    this.#list.move(step);
    return this.#run.events[this.#list.current];
  }

  openCurrent() {
    this.#list.openCurrent();
  }

  toggleCurrent() {
    this.#selection.toggle(this.#list.current);
  }

  clearSelection() {
    this.#selection.clear();
  }

  #row(event, index) {
    const row = eventRow(event, {
      highlights: this.highlights,
      showTopic: this.#query.showsTopics,
      checkbox: this.#selection.checkbox(index),
    });
    return this.#selection.markRow(row, event);
  }

  #emptyNote() {
    switch (this.#run.state) {
      case "running":
        return emptyState("Searching …");
      case "invalid":
        return emptyState("The query has an error", "The error is underlined.");
      case "complete":
        return this.#nothingFound();
      default:
        return emptyState("Nothing found so far");
    }
  }

  /** Why nothing was found, and what would change that. */
  #nothingFound() {
    const wider = [
      this.#query.hasTimeRange ? "a wider time range" : "",
      this.#query.topics.length ? "more topics" : "",
    ];
    const scope = wider.filter(Boolean).join(" or ");
    const hint = scope ? `Try ${scope}.` : "";
    if (this.#query.query && this.#run.totals?.total_bytes !== 0)
      return emptyState("No matches", `All data was searched. ${hint}`);
    return emptyState("No events here", hint || "Nothing was published yet, or all events were deleted.");
  }
}
