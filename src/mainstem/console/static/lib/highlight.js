/**
 * Finds the parts of an event that match a query, and highlights them.
 *
 * Owns: the comparison of words and values as the search makes it (docs/SEARCH.md). The server parses the
 * query and returns its terms (`query/check`); this module only compares them, each in time proportional to
 * the text.
 */

import { h } from "./dom.js";
import { canonicalNumber, isNumber } from "./numbers.js";
import { visibleText } from "./text.js";

const TEXT_MAX = 1_000_000;
const ANY_TEXT = Symbol("*");
const ANY_CHARACTER = Symbol("?");

/** Case-folded text. Upper-casing first turns ß into ss, as Unicode case folding does. */
const foldCase = (text) =>
  /^[\0-\x7f]*$/.test(text) ? text.toLowerCase() : text.toUpperCase().toLowerCase();

/** The elements of a glob: characters, ANY_TEXT for `*` and ANY_CHARACTER for `?`; a backslash escapes. */
function parseGlob(glob) {
  const elements = [];
  for (let i = 0; i < glob.length; i++) {
    if (glob[i] === "\\") elements.push(glob[++i] ?? "\\");
    else elements.push({ "*": ANY_TEXT, "?": ANY_CHARACTER }[glob[i]] ?? glob[i]);
  }
  return elements;
}

/** A function that tests whether a case-folded text matches a glob. It backtracks to the last `*` at most. */
function globMatcher(glob) {
  const elements = parseGlob(glob);
  return (text) => {
    let [i, element, star, resumeAt] = [0, 0, -1, 0];
    while (i < text.length) {
      if (elements[element] === ANY_TEXT) [star, resumeAt] = [element++, i];
      else if (elements[element] === ANY_CHARACTER || elements[element] === text[i])
        [i, element] = [i + 1, element + 1];
      else if (star >= 0) [element, i] = [star + 1, ++resumeAt];
      else return false;
    }
    while (elements[element] === ANY_TEXT) element++;
    return element === elements.length;
  };
}

const isNumeric = (text) => text.trim() !== "" && !Number.isNaN(Number(text));

/**
 * Whether a value lies in a range. Unquoted numeric bounds compare numbers, all others compare folded text.
 */
function isInRange({ low, high }, value) {
  const numeric = [low, high].every((bound) => !bound || (!bound.quoted && isNumeric(bound.text)));
  if (!numeric && typeof value !== "string") return false;
  const isNumericText = typeof value === "string" && /^-?\d/.test(value) && isNumeric(value);
  if (numeric && !isNumber(value) && !isNumericText) return false;
  const comparable = numeric ? Number : foldCase;
  const subject = comparable(value);
  const isAbove = (bound) => subject > bound || (low.inclusive && subject === bound);
  const isBelow = (bound) => subject < bound || (high.inclusive && subject === bound);
  return (!low || isAbove(comparable(low.text))) && (!high || isBelow(comparable(high.text)));
}

function valueMatcher({ glob, number, literal, low, high }) {
  if (low || high) return (value) => value != null && isInRange({ low, high }, value);
  const matchesGlob = globMatcher(glob ?? "");
  return (value) => {
    if (value === null) return !literal && glob === "null";
    if (number != null && isNumber(value) && canonicalNumber(value) === canonicalNumber(number)) return true;
    return matchesGlob(foldCase(String(value)));
  };
}

/**
 * The terms of a query, ready to be compared. `terms` are the highlights that the server returns.
 *
 * `textRanges(text)` returns where words of the query occur: [[from, to]].
 * `matchesWhole(place, path, value)` says whether a whole value is what a field was searched for.
 */
export function queryHighlights(terms = []) {
  const phrases = terms.filter((term) => term.words?.length).map((term) => term.words.map(globMatcher));
  const values = terms
    .filter((term) => term.place !== "text")
    .map((term) => ({ place: term.place, path: (term.path ?? []).join("\0"), matches: valueMatcher(term) }));

  function matchesWhole(place, path, value) {
    if (!values.length) return false;
    const joined = path.join("\0");
    return values.some((term) => term.place === place && term.path === joined && term.matches(value));
  }

  return {
    isEmpty: !phrases.length && !values.length,
    textRanges: (text) => phraseRanges(phrases, text),
    matchesWhole,
  };
}

/** No highlights. */
export const NO_HIGHLIGHTS = queryHighlights();

/** Where phrases occur in a text, in order, without overlaps. A phrase is a list of word matchers. */
function phraseRanges(phrases, text) {
  if (!phrases.length || text.length > TEXT_MAX) return [];
  const words = [...text.matchAll(/[\p{L}\p{N}]+/gu)].map((match) => ({
    from: match.index,
    to: match.index + match[0].length,
    folded: foldCase(match[0]),
  }));
  const ranges = [];
  for (const phrase of phrases)
    for (let i = 0; i + phrase.length <= words.length; i++)
      if (phrase.every((matches, k) => matches(words[i + k].folded)))
        ranges.push([words[i].from, words[i + phrase.length - 1].to]);
  return mergeRanges(ranges);
}

function mergeRanges(ranges) {
  const merged = [];
  for (const [from, to] of ranges.sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}

/** The ranges to highlight in the text of a key, a header or a scalar of the payload. */
export function highlightRanges(highlights, place, path, value) {
  const text = String(value);
  return highlights.matchesWhole(place, path, value) ? [[0, text.length]] : highlights.textRanges(text);
}

/**
 * Nodes of text[from, to) with its ranges highlighted. `format` is applied to each part before it is shown.
 */
export function highlightText(text, ranges, { from = 0, to = text.length, format = (part) => part } = {}) {
  const nodes = [];
  const visiblePart = (start, end) => visibleText(format(text.slice(start, end)));
  let shown = from;
  for (const [start, end] of ranges) {
    if (end <= shown || start >= to) continue;
    if (start > shown) nodes.push(visiblePart(shown, start));
    const stop = Math.min(end, to);
    nodes.push(h("mark", {}, visiblePart(Math.max(shown, start), stop)));
    shown = stop;
  }
  if (shown < to) nodes.push(visiblePart(shown, to));
  return nodes;
}
