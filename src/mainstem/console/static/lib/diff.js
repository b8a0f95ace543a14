/** The difference of two payloads, line by line: what was, what is. */

import { add, h } from "./dom.js";
import { pairs, writeJson } from "./payload.js";
import { many, visible } from "./text.js";

const DIFF_LINES_MAX = 3000;

/** The lines of two payloads: [["same" | "del" | "add", text]]; null: too long to compare. */
export function difference(before, after) {
  const a = textOf(before).split("\n");
  const b = textOf(after).split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const [x, y] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  if (x.length * y.length > DIFF_LINES_MAX * DIFF_LINES_MAX) return null;
  const middle = longest(x, y);
  return [...a.slice(0, head).map((each) => ["same", each]), ...middle, ...a.slice(a.length - tail).map((each) => ["same", each])];
}

function textOf(payload) {
  if (payload.kind === "json") return writeJson(payload.json);
  return payload.kind === "binary" ? pairs(payload.bytes).join("\n") : payload.text;
}

function longest(x, y) {
  const width = y.length + 1;
  const best = new Uint16Array((x.length + 1) * width);
  for (let i = x.length - 1; i >= 0; i--)
    for (let j = y.length - 1; j >= 0; j--)
      best[i * width + j] = x[i] === y[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const steps = [];
  let [i, j] = [0, 0];
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) steps.push(["same", x[i++], j++]);
    else if (i < x.length && (j >= y.length || best[(i + 1) * width + j] >= best[i * width + j + 1])) steps.push(["del", x[i++]]);
    else steps.push(["add", y[j++]]);
  }
  return steps;
}

const AROUND = 3;

/** The differing lines, with some around them. */
export function diffView(steps) {
  const near = steps.map((_, at) => steps.slice(Math.max(0, at - AROUND), at + AROUND + 1).some(([kind]) => kind !== "same"));
  if (!near.some(Boolean)) return h("p", {}, "Both values are the same.");
  const box = h("pre.payload.diff", { "aria-label": "Difference" });
  let hidden = 0;
  const flush = () => hidden && (add(box, h("div.muted", {}, `  ⋯ ${many(hidden, "line")} alike`)), (hidden = 0));
  steps.forEach(([kind, text], at) => {
    if (!near[at]) return void hidden++;
    flush();
    add(box, h(`div${kind === "same" ? "" : `.diff-${kind}`}`, {}, { same: "  ", add: "+ ", del: "− " }[kind], visible(text)));
  });
  flush();
  return box;
}
