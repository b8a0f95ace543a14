/** Tabs: a list of buttons and the panel of the one that is selected. */

import { h, replaceContent } from "../lib/dom.js";

let tabSetCount = 0;

/**
 * Items are {id, text, create}. `create()` is called when a tab is first selected; it returns a node or a
 * view {element, shown?, hidden?, close?}, whose methods are called as it appears, disappears and is
 * discarded.
 */
export class Tabs {
  #items;
  #onSelect;
  #prefix = `tab${++tabSetCount}`;
  #buttons;
  #views = new Map();

  /** `onSelect(id)` is called when a reader selects a tab. An unknown `firstId` selects the first tab. */
  constructor(items, firstId, onSelect) {
    this.#items = items;
    this.#onSelect = onSelect;
    this.#buttons = items.map((item) => this.#button(item));
    this.list = h(
      "div.tabs",
      { role: "tablist", onkeydown: (event) => this.#onKeyDown(event) },
      this.#buttons,
    );
    this.panel = h("div.tab-panel", { role: "tabpanel", tabindex: "-1" });
    this.#select(firstId);
  }

  close() {
    for (const view of this.#views.values()) view.close?.();
  }

  #button({ id, text }) {
    const onclick = () => {
      this.#select(id);
      this.#onSelect(id);
    };
    const attributes = { type: "button", role: "tab", id: `${this.#prefix}-${id}`, onclick };
    return h("button.tab", attributes, text);
  }

  #onKeyDown(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const count = this.#buttons.length;
    const next = this.#buttons[(this.#buttons.indexOf(document.activeElement) + step + count) % count];
    next.focus();
    next.click();
  }

  #select(id) {
    const index = Math.max(
      0,
      this.#items.findIndex((item) => item.id === id),
    );
    const selected = this.#items[index];
    this.#buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === index));
      button.tabIndex = i === index ? 0 : -1;
    });
    for (const [key, view] of this.#views) if (key !== selected.id) view.hidden?.();
    if (!this.#views.has(selected.id)) this.#views.set(selected.id, asView(selected.create()));
    const view = this.#views.get(selected.id);
    this.panel.setAttribute("aria-labelledby", `${this.#prefix}-${selected.id}`);
    replaceContent(this.panel, view.element);
    view.shown?.();
  }
}

const asView = (content) => (content instanceof Node ? { element: content } : content);
