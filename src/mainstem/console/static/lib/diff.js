/** Compares two payloads line by line. */

import { hexPairs, writeJson } from "./payload.js";

const COMPARED_LINES_MAX = 3000;

/**
 * The lines of two payloads as edits: [["same" | "del" | "add", text]].
 * Null if they differ in too many lines: the comparison takes memory for each pair of differing lines.
 */
export function diffLines(before, after) {
  const oldLines = payloadText(before).split("\n");
  const newLines = payloadText(after).split("\n");
  const shorter = Math.min(oldLines.length, newLines.length);
  let head = 0;
  while (head < shorter && oldLines[head] === newLines[head]) head++;
  let tail = 0;
  while (tail < shorter - head && oldLines.at(-1 - tail) === newLines.at(-1 - tail)) tail++;
  const oldMiddle = oldLines.slice(head, oldLines.length - tail);
  const newMiddle = newLines.slice(head, newLines.length - tail);
  if (oldMiddle.length * newMiddle.length > COMPARED_LINES_MAX ** 2) return null;
  const unchanged = (lines) => lines.map((line) => ["same", line]);
  return [
    ...unchanged(oldLines.slice(0, head)),
    ...shortestEdits(oldMiddle, newMiddle),
    ...unchanged(oldLines.slice(oldLines.length - tail)),
  ];
}

function payloadText(payload) {
  if (payload.kind === "json") return writeJson(payload.json);
  return payload.kind === "binary" ? hexPairs(payload.bytes).join("\n") : payload.text;
}

/** The edits that keep a longest common subsequence of the lines. */
function shortestEdits(oldLines, newLines) {
  const common = commonLengths(oldLines, newLines);
  const edits = [];
  let [i, j] = [0, 0];
  while (i < oldLines.length || j < newLines.length) {
    const hasOld = i < oldLines.length;
    const hasNew = j < newLines.length;
    if (hasOld && hasNew && oldLines[i] === newLines[j]) {
      edits.push(["same", oldLines[i++]]);
      j++;
    } else if (hasOld && (!hasNew || common(i + 1, j) >= common(i, j + 1)))
      edits.push(["del", oldLines[i++]]);
    else edits.push(["add", newLines[j++]]);
  }
  return edits;
}

/**
 * A function (i, j) that returns the length of the longest common subsequence from these lines to the ends.
 */
function commonLengths(oldLines, newLines) {
  const width = newLines.length + 1;
  const lengths = new Uint16Array((oldLines.length + 1) * width);
  for (let i = oldLines.length - 1; i >= 0; i--)
    for (let j = newLines.length - 1; j >= 0; j--) {
      const [below, right] = [(i + 1) * width + j, i * width + j + 1];
      lengths[i * width + j] =
        oldLines[i] === newLines[j] ? lengths[below + 1] + 1 : Math.max(lengths[below], lengths[right]);
    }
  return (i, j) => lengths[i * width + j];
}
