/**
 * What matched: the places of a text that a query's terms are about.
 *
 * Owns: the same meaning of words and values as the search has (docs/SEARCH.md). The server reads the query and
 * sends its terms (`query/check`); here they are only compared, each in time proportional to the text.
 */

import { h } from "./dom.js";
import { visible } from "./text.js";

const TEXT_MAX = 1_000_000;

/** Case-folded. Lower-casing what was upper-cased takes ß to ss, as folding does. */
const fold = (text) => (/^[\0-\x7f]*$/.test(text) ? text.toLowerCase() : text.toUpperCase().toLowerCase());

/** A pattern with `*`, `?` and backslashes as a test of a whole folded text: two fingers, no backtracking further back than the last `*`. */
function globTest(pattern) {
  const parts = [];
  for (let at = 0; at < pattern.length; at++) {
    const letter = pattern[at];
    if (letter === "\\") parts.push(pattern[++at] ?? "\\");
    else parts.push(letter === "*" || letter === "?" ? { [letter]: true } : letter);
  }
  return (text) => {
    let [at, part, star, from] = [0, 0, -1, 0];
    while (at < text.length) {
      if (parts[part]?.["*"]) [star, from] = [part++, at];
      else if (parts[part]?.["?"] || parts[part] === text[at]) [at, part] = [at + 1, part + 1];
      else if (star >= 0) [part, at] = [star + 1, ++from];
      else return false;
    }
    while (parts[part]?.["*"]) part++;
    return part === parts.length;
  };
}

const scalarText = (value) => (typeof value === "string" ? value : String(value));
const isNumber = (value) => typeof value === "number" || typeof value === "bigint";

function within({ low, high }, value) {
  const numbers = [low, high].every((bound) => !bound || (!bound.quoted && bound.text.trim() !== "" && !Number.isNaN(Number(bound.text))));
  if (!numbers && typeof value !== "string") return false;
  if (numbers && !(isNumber(value) || (typeof value === "string" && /^-?\d/.test(value) && !Number.isNaN(Number(value))))) return false;
  const own = (text) => (numbers ? Number(text) : fold(text));
  const it = numbers ? Number(value) : fold(value);
  if (low && !(it > own(low.text) || (low.inclusive && it === own(low.text)))) return false;
  return !high || it < own(high.text) || (high.inclusive && it === own(high.text));
}

function valueTest({ glob, number, literal, low, high }) {
  if (low || high) return (value) => value != null && within({ low, high }, value);
  const test = globTest(glob ?? "");
  return (value) => {
    if (value === null) return !literal && glob === "null";
    return (number != null && isNumber(value) && Number(value) === Number(number)) || test(fold(scalarText(value)));
  };
}

/**
 * marker(highlights of the server): `ranges(text)` of a text that words are looked for in, as [[from, to]];
 * `whole(place, path, value)`: whether a value as a whole is what was asked for.
 */
export function marker(highlights = []) {
  const phrases = highlights.filter((each) => each.words?.length).map((each) => each.words.map(globTest));
  const values = highlights.filter((each) => each.place !== "text").map((each) => ({ place: each.place, path: (each.path ?? []).join("\0"), test: valueTest(each) }));

  function ranges(text) {
    if (!phrases.length || text.length > TEXT_MAX) return [];
    const tokens = [...text.matchAll(/[\p{L}\p{N}]+/gu)].map((found) => ({ from: found.index, to: found.index + found[0].length, word: fold(found[0]) }));
    const found = [];
    for (const phrase of phrases)
      for (let at = 0; at + phrase.length <= tokens.length; at++)
        if (phrase.every((test, i) => test(tokens[at + i].word))) found.push([tokens[at].from, tokens[at + phrase.length - 1].to]);
    return joined(found);
  }

  function whole(place, path, value) {
    if (!values.length) return false;
    const where = path.join("\0");
    return values.some((each) => each.place === place && each.path === where && each.test(value));
  }

  return { any: Boolean(phrases.length || values.length), ranges, whole };
}

/** Nothing is marked. */
export const UNMARKED = marker();

/** In order, without overlaps. */
function joined(ranges) {
  const result = [];
  for (const [from, to] of ranges.sort((a, b) => a[0] - b[0])) {
    const last = result.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else result.push([from, to]);
  }
  return result;
}

/**
 * What to mark of a key, a header or a scalar of the payload: ranges of its text.
 * A value that is what a field was asked for is marked as a whole.
 */
export function rangesOf(marks, place, path, value) {
  const text = scalarText(value);
  return marks.whole(place, path, value) ? [[0, text.length]] : marks.ranges(text);
}

/** Nodes of text[from, to) with its ranges marked; `write` turns a piece into what is shown of it. */
export function marked(text, ranges, from = 0, to = text.length, write = (piece) => piece) {
  const nodes = [];
  let at = from;
  for (const [start, end] of ranges) {
    if (end <= at || start >= to) continue;
    if (start > at) nodes.push(visible(write(text.slice(at, start))));
    nodes.push(h("mark", {}, visible(write(text.slice(Math.max(at, start), Math.min(end, to))))));
    at = Math.min(end, to);
  }
  if (at < to) nodes.push(visible(write(text.slice(at, to))));
  return nodes;
}
