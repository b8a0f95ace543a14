/**
 * Numbers that JavaScript cannot represent as they are spelled: 9007199254740993, 0.10, 1e400.
 *
 * Owns: `SpelledNumber`, the exact comparison and addition of numbers, and reading JSON without loss.
 */

/**
 * A number of a JSON text that is kept as it is spelled. As text it is exact; in arithmetic it is the nearest
 * double, so that times and offsets beyond 2^53 can be compared, subtracted and drawn like all others.
 */
export class SpelledNumber {
  constructor(text) {
    this.text = text;
    Object.freeze(this);
  }

  valueOf() {
    return Number(this.text);
  }

  toString() {
    return this.text;
  }
}

/** Whether a value of a JSON text is a number. */
export const isNumber = (value) => typeof value === "number" || value instanceof SpelledNumber;

/** Whether a value of a JSON text is an object or a list. */
export const isContainer = (value) =>
  value !== null && typeof value === "object" && !(value instanceof SpelledNumber);

/** The number of a text: a plain one if that is exact. */
export const numberOf = (text) => (String(Number(text)) === text ? Number(text) : new SpelledNumber(text));

/** The order of two numbers, for `sort`. Integers are compared exactly. */
export function compareNumbers(a, b) {
  if (!isInteger(a) || !isInteger(b)) return a - b;
  const [first, second] = [BigInt(String(a)), BigInt(String(b))];
  return first < second ? -1 : Number(first > second);
}

/** The exact sum of two integers. */
export const addIntegers = (a, b) => numberOf(String(BigInt(String(a)) + BigInt(String(b))));

const isInteger = (value) => isNumber(value) && /^-?\d+$/.test(String(value));

/** A text that is the same for numbers of the same value: 1.50, 1.5 and 15e-1. */
export function canonicalNumber(text) {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(String(text));
  if (!parts) return String(text);
  const [, sign, whole, fraction = "", exponent = "0"] = parts;
  const digits = (whole + fraction).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (!significant) return "0";
  const power = Number(exponent) - fraction.length + digits.length - significant.length;
  return `${sign}${significant}e${power}`;
}

/** The text of a number for counting: 1.50 and 1.5 are counted together, long numbers as they are spelled. */
export function countedNumber(number) {
  const shortest = String(Number(number));
  return canonicalNumber(shortest) === canonicalNumber(number) ? shortest : String(number);
}

/** A text that can only be that of a number which `Number` does not keep: long, or spelled unusually. */
const MAY_LOSE = new RegExp(
  "(?:^|[:[,\\s])(?:-0(?:$|[,\\]}\\s])|" +
    "-?(?:[\\d.]{16}|\\d+\\.\\d*0(?:$|[,\\]}\\s])|\\d+(?:\\.\\d+)?[eE]|0\\.0{6}))",
);
const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Whether this browser passes the source text of numbers to the function that revives JSON. */
const HAS_SOURCE_TEXT = JSON.parse("1", (_key, _value, context) => context?.source === "1");

/** Parse JSON. A number that would not be written as it is spelled becomes a SpelledNumber. */
export function parseJson(text) {
  if (!MAY_LOSE.test(text)) return JSON.parse(text);
  if (!HAS_SOURCE_TEXT) return parseMarked(text);
  return JSON.parse(text, (_key, value, { source }) =>
    typeof value === "number" ? numberOf(source) : value,
  );
}

/** `parseJson` for browsers without source texts: numbers are parsed as strings that begin with a mark. */
export function parseMarked(text) {
  let mark = "number:";
  while (text.includes(mark)) mark += ":";
  const isKept = (token) => token.startsWith('"') || String(Number(token)) === token;
  const marked = text.replace(STRING_OR_NUMBER, (token) => (isKept(token) ? token : `"${mark}${token}"`));
  return JSON.parse(marked, (_key, value) =>
    typeof value === "string" && value.startsWith(mark) ? new SpelledNumber(value.slice(mark.length)) : value,
  );
}

/**
 * Parse a reply of the API. Its own numbers are plain ones unless that would change their value; the payloads
 * of events keep every spelling.
 */
export function parseReply(text) {
  return MAY_LOSE.test(text) ? withPlainNumbers(parseJson(text)) : JSON.parse(text);
}

function withPlainNumbers(value) {
  if (value instanceof SpelledNumber) {
    const plain = Number(value);
    return canonicalNumber(plain) === canonicalNumber(value) ? plain : value;
  }
  if (!isContainer(value)) return value;
  const isEvent = Object.hasOwn(value, "value_encoding");
  for (const [name, item] of Object.entries(value)) {
    if (isEvent && name === "value") continue;
    const simpler = withPlainNumbers(item);
    // Not an assignment: a field may be called __proto__.
    if (simpler !== item) Object.defineProperty(value, name, { value: simpler });
  }
  return value;
}
