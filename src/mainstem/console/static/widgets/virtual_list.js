/**
 * A list of any length: only the rows in sight are elements. One row height; j, k, Home and End move a choice.
 */

import { h, put } from "../lib/dom.js";

/**
 * list({label, row(item, index), open(item, index), href(item)}) with `items(array)`, `choose(index)`, `move(step)`.
 * The height of a row is read from the CSS variable --row of the element; `kind` is a class of it.
 */
export function list({ label, row, open, href = null, kind = "" }) {
  const space = h("div.rows-space", { role: "presentation" });
  const element = h(`div.rows${kind && `.${kind}`}`, { role: "listbox", "aria-label": label, tabindex: "0", onscroll: draw, onkeydown: keys }, space);
  let items = [];
  let chosen = -1;
  let held;
  let height = 0;
  let drawn = new Map();
  const watcher = new ResizeObserver(() => {
    height = 0;
    drawn.forEach((each) => each.remove());
    drawn = new Map();
    draw();
  });
  watcher.observe(element);

  function measure() {
    if (!height) height = parseFloat(getComputedStyle(element).getPropertyValue("--row")) || 32;
    return height;
  }

  function draw() {
    const each = measure();
    space.style.setProperty("height", `${items.length * each}px`);
    const first = Math.max(0, Math.floor(element.scrollTop / each) - 8);
    const last = Math.min(items.length, Math.ceil((element.scrollTop + element.clientHeight) / each) + 8);
    for (const [at, node] of drawn) {
      if (at >= first && at < last) continue;
      node.remove();
      drawn.delete(at);
    }
    for (let at = first; at < last; at++) if (!drawn.has(at)) place(at, each);
  }

  function place(at, each) {
    const node = row(items[at], at);
    node.classList.add("row");
    node.setAttribute("role", "option");
    node.setAttribute("aria-posinset", String(at + 1));
    node.setAttribute("aria-setsize", String(items.length));
    node.setAttribute("aria-selected", String(at === chosen));
    node.id ||= `row-${label.replace(/\W/g, "")}-${at}`;
    node.style.setProperty("top", `${at * each}px`);
    node.addEventListener("click", (event) => {
      if (event.target.closest("a, button, .pick") || String(getSelection())) return;
      choose(at);
      if (href && (event.ctrlKey || event.metaKey)) elsewhere(items[at]);
      else open?.(items[at], at);
    });
    node.addEventListener("auxclick", (event) => event.button === 1 && href && elsewhere(items[at]));
    drawn.set(at, node);
    const after = [...drawn.keys()].filter((other) => other > at).sort((a, b) => a - b)[0];
    if (after === undefined) space.append(node);
    else drawn.get(after).before(node);
  }

  /** In another tab, as a link would be: a row is one thing to a screen reader and holds no link. */
  const elsewhere = (item) => window.open(href(item), "_blank", "noopener");

  function choose(at) {
    drawn.get(chosen)?.setAttribute("aria-selected", "false");
    chosen = at;
    held = items[at];
    if (at < 0) return element.removeAttribute("aria-activedescendant");
    const each = measure();
    if (at * each < element.scrollTop) element.scrollTop = at * each;
    else if ((at + 1) * each > element.scrollTop + element.clientHeight) element.scrollTop = (at + 1) * each - element.clientHeight;
    draw();
    const node = drawn.get(at);
    node?.setAttribute("aria-selected", "true");
    if (node) element.setAttribute("aria-activedescendant", node.id);
    return undefined;
  }

  const move = (step) => items.length && choose(Math.min(items.length - 1, Math.max(0, chosen + step)));

  function keys(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[event.key];
    if (step) {
      event.preventDefault();
      move(step);
    } else if (event.key === "Enter" && chosen >= 0 && event.target === element) {
      event.preventDefault();
      openChosen();
    }
  }

  const openChosen = () => chosen >= 0 && items[chosen] !== undefined && open?.(items[chosen], chosen);

  return {
    element,
    move,
    choose,
    openChosen,
    chosen: () => chosen,
    /** Draw the rows in sight again: what they show has changed, they have not. */
    again() {
      drawn.forEach((node) => node.remove());
      drawn = new Map();
      draw();
    },
    /** Show other items; `keep`: the choice and the place stay, for a list that has grown. */
    items(next, keep = false) {
      const place = keep ? element.scrollTop : 0;
      items = next;
      chosen = keep && held !== undefined ? items.indexOf(held) : -1;
      put(space);
      drawn = new Map();
      draw();
      element.scrollTop = place;
    },
    close: () => watcher.disconnect(),
  };
}
