/**
 * The selection of several events in a list: which ones, their checkboxes, and what can be done with them.
 *
 * Owns: the selected events. They stay selected when the list is drawn again, until the next search.
 */

import { canUse } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { eventPosition } from "../lib/events.js";
import { formatCount, plural } from "../lib/format.js";
import { iconButton, showToast } from "./components.js";
import { exportEvents, replayEvents } from "./replay_export.js";

const SELECTED_MAX = 1000;

export class Selection {
  #getEvents;
  #onChange;
  /** Position -> event. */
  #selected = new Map();
  #lastIndex = -1;

  /** `getEvents()` returns the events of the list. `onChange()` is called to draw the list again. */
  constructor({ getEvents, onChange }) {
    this.#getEvents = getEvents;
    this.#onChange = onChange;
    this.element = h("div.selection-bar", { role: "group", "aria-label": "Selected events", hidden: true });
  }

  /** The checkbox of a row. Screen readers get the state from the row itself: see `markRow`. */
  checkbox(index) {
    const onclick = (event) =>
      event.shiftKey && this.#lastIndex >= 0 ? this.#selectRange(index) : this.toggle(index);
    const title = "Select (x); with Shift, select a range";
    return h("span.row-checkbox", { "aria-hidden": "true", title, onclick }, icon("check"));
  }

  markRow(row, event) {
    row.setAttribute("aria-checked", String(this.#selected.has(eventPosition(event))));
    return row;
  }

  toggle(index) {
    const event = this.#getEvents()[index];
    if (!event) return;
    if (!this.#selected.delete(eventPosition(event))) this.#add(event);
    this.#lastIndex = index;
    this.#changed();
  }

  clear() {
    this.#lastIndex = -1;
    if (!this.#selected.size) return;
    this.#selected.clear();
    this.#changed();
  }

  #add(event) {
    if (this.#selected.size < SELECTED_MAX) this.#selected.set(eventPosition(event), event);
    else {
      const limit = formatCount(SELECTED_MAX);
      showToast(`At most ${limit} events can be selected. Replay or export all matches instead.`, {
        kind: "bad",
      });
    }
  }

  #selectRange(index) {
    const [first, last] = [Math.min(this.#lastIndex, index), Math.max(this.#lastIndex, index)];
    for (const event of this.#getEvents().slice(first, last + 1)) this.#add(event);
    this.#lastIndex = index;
    this.#changed();
  }

  #selectAll() {
    for (const event of this.#getEvents().slice(0, SELECTED_MAX))
      this.#selected.set(eventPosition(event), event);
    this.#changed();
  }

  #changed() {
    this.element.hidden = !this.#selected.size;
    const events = [...this.#selected.values()];
    const button = (text, onclick) => h("button.quiet", { type: "button", onclick }, text);
    const shown = Math.min(this.#getEvents().length, SELECTED_MAX);
    replaceContent(
      this.element,
      h("strong", { role: "status" }, `${plural(events.length, "event")} selected`),
      canUse("post", "replay") ? button("Replay selected…", () => replayEvents(events)) : null,
      button("Export selected", () => exportEvents(events)),
      button(`Select all ${formatCount(shown)} shown`, () => this.#selectAll()),
      iconButton("close", "Clear the selection", () => this.clear()),
    );
    this.#onChange();
  }
}
