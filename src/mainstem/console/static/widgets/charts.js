/**
 * Two charts, as SVG: the histogram that time is dragged on, and the sparkline. Colours come from the style sheet.
 */

import { h, put, s } from "../lib/dom.js";
import { count, moment, tick } from "../lib/text.js";

/**
 * histogram({chosen(from, to)}): volume in grey, matches over it. `show({buckets: [{from, to, count, matches}]})`.
 * Dragging chooses a range; the arrow keys move a mark, Shift with them widens it, Enter chooses it.
 */
export function histogram({ chosen }) {
  const drawing = s("svg", { class: "histogram", preserveAspectRatio: "none", "aria-hidden": "true" });
  const axis = h("div.axis", { "aria-hidden": "true" });
  const tip = h("div.chart-tip", { hidden: true });
  const band = h("div.chart-band", { hidden: true });
  const plot = h("div.chart-plot", {
    tabindex: "0", role: "slider", "aria-label": "Events over time", "aria-valuemin": "0", "aria-valuemax": "0",
    "aria-valuenow": "0", "aria-valuetext": "no data",
    onpointerdown: down, onpointermove: hover, onpointerup: up, onpointercancel: cancel, onpointerleave: () => (tip.hidden = true), onkeydown: keys,
  }, drawing, band, tip);
  const top = h("span.chart-top", { "aria-hidden": "true" });
  const element = h("div.chart", {}, top, plot, axis);
  let buckets = [];
  let dragFrom = null;
  let mark = [0, 0];

  const width = () => plot.clientWidth || 1;
  const at = (event) => Math.min(buckets.length - 1, Math.max(0, Math.floor(((event.clientX - plot.getBoundingClientRect().left) / width()) * buckets.length)));

  function down(event) {
    if (!buckets.length || event.button) return;
    dragFrom = at(event);
    plot.setPointerCapture(event.pointerId);
    showBand(dragFrom, dragFrom);
  }
  function hover(event) {
    if (!buckets.length) return;
    const now = at(event);
    if (dragFrom != null) showBand(Math.min(dragFrom, now), Math.max(dragFrom, now));
    say(now, dragFrom ?? now);
  }
  function up(event) {
    if (dragFrom == null) return;
    const [a, b] = [Math.min(dragFrom, at(event)), Math.max(dragFrom, at(event))];
    cancel();
    if (buckets[a]) chosen(buckets[a].from, buckets[b].to);
  }
  function cancel() {
    dragFrom = null;
    band.hidden = true;
  }
  function showBand(a, b) {
    band.hidden = false;
    band.style.setProperty("left", `${(a / buckets.length) * 100}%`);
    band.style.setProperty("width", `${((b - a + 1) / buckets.length) * 100}%`);
  }
  function describe(a, b) {
    const part = buckets.slice(a, b + 1);
    const sum = (name) => part.reduce((total, each) => total + (each[name] ?? 0), 0);
    const found = part.some((each) => each.matches != null) ? `, ${count(sum("matches"))} shown` : "";
    const millis = buckets[b].to - buckets[a].from < 10_000;
    return `${moment(buckets[a].from, { millis })} to ${moment(buckets[b].to, { millis })}: ${count(sum("count"))} events${found}`;
  }
  function say(a, b) {
    tip.hidden = false;
    tip.textContent = describe(Math.min(a, b), Math.max(a, b));
    tip.style.setProperty("left", `${Math.min(Math.max((a / buckets.length) * width(), 4), Math.max(4, width() - tip.offsetWidth - 4))}px`);
  }
  function keys(event) {
    if (!buckets.length) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const end = Math.min(buckets.length - 1, Math.max(0, mark[1] + step));
      mark = event.shiftKey ? [mark[0], end] : [end, end];
      const [a, b] = [Math.min(...mark), Math.max(...mark)];
      showBand(a, b);
      say(a, b);
      plot.setAttribute("aria-valuenow", String(end));
      plot.setAttribute("aria-valuetext", describe(a, b));
    } else if (event.key === "Enter") {
      event.preventDefault();
      chosen(buckets[Math.min(...mark)].from, buckets[Math.max(...mark)].to);
    }
  }

  function show(next) {
    buckets = next;
    mark = [0, 0];
    draw();
  }

  function draw() {
    const highest = Math.max(1, ...buckets.map((each) => each.count));
    drawing.setAttribute("viewBox", `0 0 ${Math.max(1, buckets.length) * 10} 100`);
    put(drawing, buckets.flatMap((each, i) => {
      const tall = each.count ? Math.max(2, (each.count / highest) * 100) : 0;
      const found = each.matches ? Math.max(4, (each.matches / highest) * 100) : 0;
      return [
        tall ? s("rect", { class: "volume", x: i * 10 + 0.6, width: 8.8, y: 100 - tall, height: tall }) : null,
        found ? s("rect", { class: "matches", x: i * 10 + 0.6, width: 8.8, y: 100 - Math.min(100, found), height: Math.min(100, found) }) : null,
      ];
    }));
    top.textContent = buckets.length ? count(highest) : "";
    plot.setAttribute("aria-valuemax", String(Math.max(0, buckets.length - 1)));
    plot.setAttribute("aria-valuetext", buckets.length ? describe(0, buckets.length - 1) : "no data");
    put(axis);
    if (!buckets.length) return;
    const from = buckets[0].from;
    const span = buckets.at(-1).to - from;
    const places = width() < 500 ? 3 : 6;
    let before = "";
    for (let i = 0; i < places; i++) {
      const label = tick(Math.round(from + (span * i) / (places - 1)), span);
      axis.append(h("span", {}, label === before ? "" : label));
      before = label;
    }
  }

  return { element, show, redraw: draw };
}

/** A line without axes: points [[ms, value]]. `label` says what it is; `caption`: a line below tells its top and since when. */
export function sparkline(points, { label, format = count, width = 160, height = 36, zero = true, caption = false } = {}) {
  if (points.length < 2) return h("span.muted.no-data", {}, "its graph begins in two minutes");
  const values = points.map(([, value]) => value ?? 0);
  const low = zero ? 0 : Math.min(...values);
  const high = Math.max(...values, low + 1e-9);
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const x = (ms) => (to === from ? 0 : ((ms - from) / (to - from)) * width);
  const y = (value) => height - 2 - ((value - low) / (high - low)) * (height - 4);
  const path = points.map(([ms, value], i) => `${i ? "L" : "M"}${x(ms).toFixed(1)} ${y(value ?? 0).toFixed(1)}`).join("");
  const top = format(Math.max(...values));
  const since = moment(from, { seconds: false });
  const title = `${label}: ${format(values.at(-1))} now, at most ${top} since ${since}`;
  const drawing = s("svg", { class: "sparkline", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
    s("title", {}, title),
    s("path", { class: "area", d: `${path}L${width} ${height}L0 ${height}Z` }),
    s("path", { class: "line", d: path }));
  return caption ? h("div", {}, drawing, h("p.spark-caption", {}, h("span", {}, to - from > 23 * 3_600_000 ? "24 hours" : `since ${since.slice(11)}`), h("span", {}, `at most ${top}`))) : drawing;
}
