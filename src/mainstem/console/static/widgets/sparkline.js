/** A small line chart without axes. Its colours come from the style sheet. */

import { h, svg } from "../lib/dom.js";
import { formatCount } from "../lib/format.js";
import { formatTime } from "../lib/time.js";

const WIDTH = 160;
const ALMOST_A_DAY_MS = 23 * 3_600_000;

/** The points [[ms, value]] of a series in a history of the server; missing values are left out. */
export function historyPoints(history, name) {
  const points = history[name].map((value, i) => [history.from_ms + i * history.step_s * 1000, value]);
  return points.filter(([, value]) => value != null);
}

/**
 * A chart of points [[ms, value]]; `label` names the series, `caption` adds the maximum and the start below.
 */
export function sparkline(points, { label, format = formatCount, height = 36, caption = false }) {
  if (points.length < 2) return h("span.muted.no-data", {}, "The graph starts after two minutes.");
  const values = points.map(([, value]) => value);
  const maximum = format(Math.max(...values));
  const [start, end] = [points[0][0], points.at(-1)[0]];
  const since = formatTime(start, { seconds: false });
  const title = `${label}: ${format(values.at(-1))} now, maximum ${maximum} since ${since}`;
  const chart = drawLine(points, title, height);
  if (!caption) return chart;
  const range = end - start > ALMOST_A_DAY_MS ? "24 hours" : `since ${since.slice(11)}`;
  const captionLine = h("p.spark-caption", {}, h("span", {}, range), h("span", {}, `max ${maximum}`));
  return h("div", {}, chart, captionLine);
}

function drawLine(points, title, height) {
  const top = Math.max(...points.map(([, value]) => value), 1e-9);
  const [start, end] = [points[0][0], points.at(-1)[0]];
  const x = (ms) => (end === start ? 0 : ((ms - start) / (end - start)) * WIDTH);
  const y = (value) => height - 2 - (value / top) * (height - 4);
  const line = points
    .map(([ms, value], i) => `${i ? "L" : "M"}${x(ms).toFixed(1)} ${y(value).toFixed(1)}`)
    .join("");
  return svg(
    "svg",
    {
      class: "sparkline",
      viewBox: `0 0 ${WIDTH} ${height}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": title,
    },
    svg("title", {}, title),
    svg("path", { class: "area", d: `${line}L${WIDTH} ${height}L0 ${height}Z` }),
    svg("path", { class: "line", d: line }),
  );
}
