/**
 * Choosing several events of a list: which ones, the box in each row, and what can be done with them.
 *
 * Owns: the choice. It outlives drawing the list again, and is given up with the search it was made in.
 */

import { exportChosen, replay } from "./replay_export.js";
import { can } from "../lib/api.js";
import { h, icon, put } from "../lib/dom.js";
import { placeOf } from "./event_view.js";
import { iconButton, toast } from "./components.js";
import { count, many } from "../lib/text.js";

const CHOSEN_MAX = 1000;

/** {bar, box(event, index), dress(row, event), toggle(index), all(), clear(), size()}; `items()` are the events of the list, `drawn()` the list's redrawing. */
export function chooser({ items, redraw }) {
  const chosen = new Map();
  const bar = h("div.chosen-bar", { role: "group", "aria-label": "Chosen events", hidden: true });
  let last = -1;

  /** The box of a row. The row itself tells screen readers whether it is chosen. */
  function box(event, index) {
    return h("span.pick", { "aria-hidden": "true", title: "Choose (x), a range with Shift", onclick: (click) => (click.shiftKey && last >= 0 ? range(last, index) : toggle(index)) }, icon("check"));
  }

  function dress(row, event) {
    row.setAttribute("aria-checked", String(chosen.has(placeOf(event))));
    return row;
  }

  function toggle(index) {
    const event = items()[index];
    if (!event) return;
    if (!chosen.delete(placeOf(event))) take(event);
    last = index;
    changed();
  }

  function range(a, b) {
    items().slice(Math.min(a, b), Math.max(a, b) + 1).forEach(take);
    last = b;
    changed();
  }

  function take(event) {
    if (chosen.size < CHOSEN_MAX) chosen.set(placeOf(event), event);
    else toast(`At most ${count(CHOSEN_MAX)} at once: replay or export all matches instead`, "bad");
  }

  function changed() {
    bar.hidden = !chosen.size;
    const events = [...chosen.values()];
    put(bar,
      h("strong", { role: "status" }, `${many(chosen.size, "event")} chosen`),
      can("post", "replay") ? h("button.quiet", { type: "button", onclick: () => replay({ events }) }, "Replay chosen…") : null,
      h("button.quiet", { type: "button", onclick: () => exportChosen(events) }, "Export chosen"),
      h("button.quiet", { type: "button", onclick: all }, `Choose all ${count(Math.min(items().length, CHOSEN_MAX))} shown`),
      iconButton("close", "Choose none", clear));
    redraw();
  }

  function all() {
    items().slice(0, CHOSEN_MAX).forEach((event) => chosen.set(placeOf(event), event));
    changed();
  }

  function clear() {
    last = -1;
    if (!chosen.size) return;
    chosen.clear();
    changed();
  }

  return { bar, box, dress, toggle, clear, size: () => chosen.size };
}
