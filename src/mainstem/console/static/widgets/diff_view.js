/** Shows the edits between two payloads, with some unchanged lines around each. */

import { append, h } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { visibleText } from "../lib/text.js";

const CONTEXT_LINES = 3;
const SIGNS = { same: "  ", add: "+ ", del: "− " };

/** `edits` are those of `diffLines`. */
export function diffView(edits) {
  const isNearChange = (_, index) =>
    edits
      .slice(Math.max(0, index - CONTEXT_LINES), index + CONTEXT_LINES + 1)
      .some(([kind]) => kind !== "same");
  const isShown = edits.map(isNearChange);
  if (!isShown.some(Boolean)) return h("p", {}, "Both values are the same.");
  const view = h("pre.payload.diff", { "aria-label": "Difference" });
  let omitted = 0;
  function addOmission() {
    if (omitted) append(view, h("div.muted", {}, `  ⋯ ${plural(omitted, "unchanged line")}`));
    omitted = 0;
  }
  for (const [index, [kind, text]] of edits.entries()) {
    if (!isShown[index]) {
      omitted++;
      continue;
    }
    addOmission();
    append(view, h(`div${kind === "same" ? "" : `.diff-${kind}`}`, {}, SIGNS[kind], visibleText(text)));
  }
  addOmission();
  return view;
}
