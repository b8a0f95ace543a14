/** The open event of a search, beside its results. */

import { h, replaceContent } from "../../lib/dom.js";
import { eventPosition, fetchEvent } from "../../lib/events.js";
import { NO_HIGHLIGHTS } from "../../lib/highlight.js";
import { EventView } from "../../widgets/event_view.js";

export class SearchDetail {
  highlights = NO_HIGHLIGHTS;
  element = h("div.detail", { hidden: true });
  #filter;
  #onChange;
  #onClose;
  #event = null;
  #view = null;

  /** `onChange()` is called when another event is open or none, `onClose()` when a reader closed it. */
  constructor({ filter, onChange, onClose }) {
    this.#filter = filter;
    this.#onChange = onChange;
    this.#onClose = onClose;
  }

  /** The open event; null if there is none. */
  get event() {
    return this.#event;
  }

  /** The position of the open event; empty if there is none. */
  get position() {
    return this.#event ? eventPosition(this.#event) : "";
  }

  open(event) {
    this.#event = event;
    this.redraw();
    this.element.hidden = false;
    this.#onChange();
  }

  /**
   * Open the event at a position of an address, topic:partition:offset, unless another one is open by then.
   */
  async openPosition(text) {
    const [, topic, partition, offset] = /^(.*):(\d+):(\d+)$/.exec(text) ?? [];
    if (!topic) return;
    const event = await fetchEvent({ topic, partition, offset }).catch(() => null);
    if (event && !this.#event) this.open(event);
  }

  /** Draw the open event again, with other highlights. */
  redraw() {
    if (!this.#event) return;
    this.#view?.close();
    this.#view = new EventView(this.#event, {
      filter: this.#filter,
      close: () => this.close(),
      highlights: this.highlights,
    });
    replaceContent(this.element, this.#view.element);
  }

  close() {
    if (!this.#event) return;
    this.dispose();
    this.#event = null;
    this.element.hidden = true;
    this.#onChange();
    this.#onClose();
  }

  dispose() {
    this.#view?.close();
    this.#view = null;
  }
}
