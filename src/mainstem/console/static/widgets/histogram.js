/**
 * A histogram of events over time on which a time range is selected. Its colours come from the style sheet.
 */

import { h, replaceContent, svg } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { formatTick, formatTime } from "../lib/time.js";

const SHORT_RANGE_MS = 10_000;
const NARROW_PX = 500;

/**
 * Buckets are {from, to, count, matches}: all events in grey, matches over them. `onSelect(from, to)` is
 * called when a range is dragged, or selected by keyboard: the arrow keys move, Shift extends, Enter selects.
 */
export class Histogram {
  #onSelect;
  #buckets = [];
  #dragStart = null;
  #keyRange = [0, 0];
  #bars = svg("svg", { class: "histogram", preserveAspectRatio: "none", "aria-hidden": "true" });
  #axis = h("div.axis", { "aria-hidden": "true" });
  #tip = h("div.chart-tip", { hidden: true });
  #band = h("div.chart-band", { hidden: true });
  #maximum = h("span.chart-top", { "aria-hidden": "true" });
  #plot;

  constructor({ onSelect }) {
    this.#onSelect = onSelect;
    this.#plot = h("div.chart-plot", this.#plotAttributes(), this.#bars, this.#band, this.#tip);
    this.element = h("div.chart", {}, this.#maximum, this.#plot, this.#axis);
  }

  #plotAttributes() {
    return {
      tabindex: "0",
      role: "slider",
      "aria-label": "Events over time",
      "aria-valuemin": "0",
      "aria-valuemax": "0",
      "aria-valuenow": "0",
      "aria-valuetext": "no data",
      onpointerdown: (event) => this.#startDrag(event),
      onpointermove: (event) => this.#hover(event),
      onpointerup: (event) => this.#endDrag(event),
      onpointercancel: () => this.#cancelDrag(),
      onpointerleave: () => {
        this.#tip.hidden = true;
      },
      onkeydown: (event) => this.#onKeyDown(event),
    };
  }

  show(buckets) {
    this.#buckets = buckets;
    this.#keyRange = [0, 0];
    this.#drawBars();
    this.#drawAxis();
  }

  // ---------------------------------------------------------------------------------------- selection

  get #width() {
    return this.#plot.clientWidth || 1;
  }

  #bucketAt(event) {
    const share = (event.clientX - this.#plot.getBoundingClientRect().left) / this.#width;
    return Math.min(this.#buckets.length - 1, Math.max(0, Math.floor(share * this.#buckets.length)));
  }

  #startDrag(event) {
    if (!this.#buckets.length || event.button) return;
    this.#dragStart = this.#bucketAt(event);
    this.#plot.setPointerCapture(event.pointerId);
    this.#showBand(this.#dragStart, this.#dragStart);
  }

  #hover(event) {
    if (!this.#buckets.length) return;
    const [first, last] = inOrder(this.#dragStart ?? this.#bucketAt(event), this.#bucketAt(event));
    if (this.#dragStart != null) this.#showBand(first, last);
    this.#showTip(first, last, this.#bucketAt(event));
  }

  #endDrag(event) {
    if (this.#dragStart == null) return;
    const [first, last] = inOrder(this.#dragStart, this.#bucketAt(event));
    this.#cancelDrag();
    this.#selectBuckets(first, last);
  }

  #cancelDrag() {
    this.#dragStart = null;
    this.#band.hidden = true;
  }

  #selectBuckets(first, last) {
    if (this.#buckets[first]) this.#onSelect(this.#buckets[first].from, this.#buckets[last].to);
  }

  #onKeyDown(event) {
    if (!this.#buckets.length) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      event.preventDefault();
      this.#moveKeyRange(step, event.shiftKey);
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.#selectBuckets(...inOrder(...this.#keyRange));
    }
  }

  #moveKeyRange(step, extend) {
    const end = Math.min(this.#buckets.length - 1, Math.max(0, this.#keyRange[1] + step));
    this.#keyRange = extend ? [this.#keyRange[0], end] : [end, end];
    const [first, last] = inOrder(...this.#keyRange);
    this.#showBand(first, last);
    this.#showTip(first, last, first);
    this.#plot.setAttribute("aria-valuenow", String(end));
    this.#plot.setAttribute("aria-valuetext", this.#describe(first, last));
  }

  // ---------------------------------------------------------------------------------------- drawing

  #showBand(first, last) {
    const percent = (n) => `${(n / this.#buckets.length) * 100}%`;
    this.#band.hidden = false;
    this.#band.style.setProperty("left", percent(first));
    this.#band.style.setProperty("width", percent(last - first + 1));
  }

  #showTip(first, last, anchor) {
    this.#tip.hidden = false;
    this.#tip.textContent = this.#describe(first, last);
    const rightmost = Math.max(4, this.#width - this.#tip.offsetWidth - 4);
    const left = Math.min(Math.max((anchor / this.#buckets.length) * this.#width, 4), rightmost);
    this.#tip.style.setProperty("left", `${left}px`);
  }

  #describe(first, last) {
    const buckets = this.#buckets.slice(first, last + 1);
    const sum = (name) => buckets.reduce((total, bucket) => total + (bucket[name] ?? 0), 0);
    const hasMatches = buckets.some((bucket) => bucket.matches != null);
    const [from, to] = [buckets[0].from, buckets.at(-1).to];
    const options = { millis: to - from < SHORT_RANGE_MS };
    const shown = hasMatches ? `, ${formatCount(sum("matches"))} shown` : "";
    const range = `${formatTime(from, options)} to ${formatTime(to, options)}`;
    return `${range}: ${plural(sum("count"), "event")}${shown}`;
  }

  #drawBars() {
    const buckets = this.#buckets;
    const maximum = Math.max(1, ...buckets.map((bucket) => bucket.count));
    this.#bars.setAttribute("viewBox", `0 0 ${Math.max(1, buckets.length) * 10} 100`);
    replaceContent(
      this.#bars,
      buckets.map((bucket, i) => [
        bar("volume", i, bucket.count && Math.max(2, (bucket.count / maximum) * 100)),
        bar("matches", i, bucket.matches && Math.max(4, (bucket.matches / maximum) * 100)),
      ]),
    );
    this.#maximum.textContent = buckets.length ? formatCount(maximum) : "";
    this.#plot.setAttribute("aria-valuemax", String(Math.max(0, buckets.length - 1)));
    const summary = buckets.length ? this.#describe(0, buckets.length - 1) : "no data";
    this.#plot.setAttribute("aria-valuetext", summary);
  }

  #drawAxis() {
    replaceContent(this.#axis);
    if (!this.#buckets.length) return;
    const edges = [...this.#buckets.map((bucket) => bucket.from), this.#buckets.at(-1).to];
    const span = edges.at(-1) - edges[0];
    const tickCount = this.#width < NARROW_PX ? 3 : 6;
    let previous = "";
    for (let i = 0; i < tickCount; i++) {
      const edge = edges[Math.round(((edges.length - 1) * i) / (tickCount - 1))]; // exact, also beyond 2^53
      const label = formatTick(edge, span);
      this.#axis.append(h("span", {}, label === previous ? "" : label));
      previous = label;
    }
  }
}

const inOrder = (a, b) => (a <= b ? [a, b] : [b, a]);

/** A bar of `percent` of the plot's height; null if it would be empty. */
function bar(kind, index, percent) {
  if (!percent) return null;
  const height = Math.min(100, percent);
  return svg("rect", { class: kind, x: index * 10 + 0.6, width: 8.8, y: 100 - height, height });
}
