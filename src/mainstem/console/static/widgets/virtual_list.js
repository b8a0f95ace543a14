/** A list of any length with elements only for the rows that are in sight. */

import { h, replaceContent } from "../lib/dom.js";

const ROW_HEIGHT_PX = 32;
const OVERSCAN_ROWS = 8;
const PAGE_ROWS = 15;
const KEY_STEPS = {
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: PAGE_ROWS,
  PageUp: -PAGE_ROWS,
  Home: Number.NEGATIVE_INFINITY,
  End: Number.POSITIVE_INFINITY,
};

/**
 * A listbox whose rows all have the height of the CSS variable --row. One row is current: the keyboard moves
 * it.
 *
 * `createRow(item, index)` returns an element, `open(item)` is called by Enter or a click, `href(item)` is
 * the address that a click with Ctrl or the middle button opens in another tab.
 */
export class VirtualList {
  #label;
  #createRow;
  #open;
  #href;
  #items = [];
  #rows = new Map();
  #current = -1;
  #currentItem;
  #rowHeight = 0;
  #space = h("div.rows-space", { role: "presentation" });
  #resizes;

  constructor({ label, createRow, open, href = null, kind = "" }) {
    this.#label = label;
    this.#createRow = createRow;
    this.#open = open;
    this.#href = href;
    this.element = h(
      `div.rows${kind && `.${kind}`}`,
      {
        role: "listbox",
        "aria-label": label,
        tabindex: "0",
        onscroll: () => this.#draw(),
        onkeydown: (event) => this.#onKeyDown(event),
      },
      this.#space,
    );
    this.#resizes = new ResizeObserver(() => {
      this.#rowHeight = 0;
      this.redraw();
    });
    this.#resizes.observe(this.element);
  }

  /** The index of the current row; -1 if there is none. */
  get current() {
    return this.#current;
  }

  /**
   * Show other items. `keepPlace` keeps the current row and the scroll position: for a list that has grown.
   */
  setItems(items, { keepPlace = false } = {}) {
    const scrollTop = keepPlace ? this.element.scrollTop : 0;
    this.#items = items;
    this.#current = keepPlace && this.#currentItem !== undefined ? items.indexOf(this.#currentItem) : -1;
    replaceContent(this.#space);
    this.#rows.clear();
    this.#draw();
    this.element.scrollTop = scrollTop;
  }

  /** Create the rows in sight again: what they show has changed, the items have not. */
  redraw() {
    replaceContent(this.#space);
    this.#rows.clear();
    this.#draw();
  }

  /** Make a row the current one and scroll it into sight; -1 leaves no row current. */
  setCurrent(index) {
    this.#rows.get(this.#current)?.setAttribute("aria-selected", "false");
    this.#current = index;
    this.#currentItem = this.#items[index];
    if (index < 0) {
      this.element.removeAttribute("aria-activedescendant");
      return;
    }
    this.#scrollTo(index);
    this.#draw();
    const row = this.#rows.get(index);
    row?.setAttribute("aria-selected", "true");
    if (row) this.element.setAttribute("aria-activedescendant", row.id);
  }

  /** Move the current row down by `step` rows, up if it is negative. */
  move(step) {
    if (!this.#items.length) return;
    this.setCurrent(Math.min(this.#items.length - 1, Math.max(0, this.#current + step)));
  }

  openCurrent() {
    const item = this.#items[this.#current];
    if (item !== undefined) this.#open(item);
  }

  close() {
    this.#resizes.disconnect();
  }

  #measureRow() {
    const declared = () => getComputedStyle(this.element).getPropertyValue("--row");
    this.#rowHeight ||= Number.parseFloat(declared()) || ROW_HEIGHT_PX;
    return this.#rowHeight;
  }

  #scrollTo(index) {
    const height = this.#measureRow();
    const { scrollTop, clientHeight } = this.element;
    if (index * height < scrollTop) this.element.scrollTop = index * height;
    else if ((index + 1) * height > scrollTop + clientHeight)
      this.element.scrollTop = (index + 1) * height - clientHeight;
  }

  #draw() {
    const height = this.#measureRow();
    const { scrollTop, clientHeight } = this.element;
    this.#space.style.setProperty("height", `${this.#items.length * height}px`);
    const first = Math.max(0, Math.floor(scrollTop / height) - OVERSCAN_ROWS);
    const end = Math.min(this.#items.length, Math.ceil((scrollTop + clientHeight) / height) + OVERSCAN_ROWS);
    for (const [index, row] of this.#rows) {
      if (index >= first && index < end) continue;
      row.remove();
      this.#rows.delete(index);
    }
    for (let index = first; index < end; index++) if (!this.#rows.has(index)) this.#insertRow(index, height);
  }

  /** Add a row to the document in the order of the items, as screen readers need it. */
  #insertRow(index, height) {
    const row = this.#createRow(this.#items[index], index);
    row.classList.add("row");
    row.setAttribute("role", "option");
    row.setAttribute("aria-posinset", String(index + 1));
    row.setAttribute("aria-setsize", String(this.#items.length));
    row.setAttribute("aria-selected", String(index === this.#current));
    row.id ||= `row-${this.#label.replace(/\W/g, "")}-${index}`;
    row.style.setProperty("top", `${index * height}px`);
    row.addEventListener("click", (event) => this.#onClick(event, index));
    row.addEventListener("auxclick", (event) => event.button === 1 && this.#openTab(index));
    this.#rows.set(index, row);
    const following = [...this.#rows.keys()].filter((other) => other > index);
    if (following.length) this.#rows.get(Math.min(...following)).before(row);
    else this.#space.append(row);
  }

  #onClick(event, index) {
    if (event.target.closest("a, button, .row-checkbox") || String(getSelection())) return;
    this.setCurrent(index);
    if (this.#href && (event.ctrlKey || event.metaKey)) this.#openTab(index);
    else this.#open(this.#items[index]);
  }

  /** A row is one option to a screen reader and must not contain a link, so a tab is opened here. */
  #openTab(index) {
    if (this.#href) window.open(this.#href(this.#items[index]), "_blank", "noopener");
  }

  #onKeyDown(event) {
    const step = KEY_STEPS[event.key];
    if (step) {
      event.preventDefault();
      this.move(step);
    } else if (event.key === "Enter" && this.#current >= 0 && event.target === this.element) {
      event.preventDefault();
      this.openCurrent();
    }
  }
}
