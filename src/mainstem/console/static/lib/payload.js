/** Reads keys and values of events as the API sends them, and writes JSON without loss of digits. */

import { SpelledNumber } from "./numbers.js";

const ENCODER = new TextEncoder();
const PREVIEW_BYTES = 48;

/** JSON text of a value, indented by two spaces unless `compact`. */
export function writeJson(value, compact = false, depth = 0) {
  if (value instanceof SpelledNumber) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const isList = Array.isArray(value);
  const colon = compact ? ":" : ": ";
  const items = isList
    ? value.map((item) => writeJson(item, compact, depth + 1))
    : Object.entries(value).map(
        ([name, item]) => JSON.stringify(name) + colon + writeJson(item, compact, depth + 1),
      );
  const [open, close] = isList ? "[]" : "{}";
  if (!items.length) return open + close;
  const indent = compact ? "" : `\n${"  ".repeat(depth + 1)}`;
  return open + indent + items.join(`,${indent}`) + (compact ? "" : `\n${"  ".repeat(depth)}`) + close;
}

/** The "key" or the "value" of an event: {kind: "null" | "json" | "text" | "binary", json?, text, bytes}. */
export function readPayload(event, part) {
  const value = event[part];
  const encoding = event[`${part}_encoding`];
  if (value === null || value === undefined) return { kind: "null", text: "", bytes: new Uint8Array() };
  if (encoding === "base64") {
    const bytes = Uint8Array.from(atob(value), (character) => character.charCodeAt(0));
    return { kind: "binary", text: new TextDecoder().decode(bytes), bytes };
  }
  if (typeof value === "string" && encoding !== "json")
    return { kind: "text", text: value, bytes: ENCODER.encode(value) };
  const text = writeJson(value, true);
  return { kind: "json", json: value, text, bytes: ENCODER.encode(text) };
}

/** The key or the value as one string of at most `limit` characters; null if the event has none. */
export function previewText(event, part = "value", limit = 600) {
  const { kind, text, bytes } = readPayload(event, part);
  if (kind === "null") return null;
  if (kind !== "binary") return text.slice(0, limit);
  return hexPairs(bytes.slice(0, PREVIEW_BYTES)).join(" ") + (bytes.length > PREVIEW_BYTES ? " …" : "");
}

/** Each byte as two hexadecimal digits. */
export const hexPairs = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));

/** The bytes as text; null if they are not UTF-8. */
export function decodeUtf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Text as it appears inside the quotes of a JSON string. */
export const escapeJsonText = (text) => JSON.stringify(text).slice(1, -1);
