/** Writes terms of the query language (docs/SEARCH.md) that match exactly the values they are made from. */

const OPERATORS = /^(AND|OR|NOT|TO)$/;
const RESERVED_FIELDS = /^(key|topic|partition|offset|time|_exists_|header)$/;

/** A phrase in quotes: matches this text in any field. */
export const quoteTerm = (text) => `"${text.replace(/(["\\])/g, "\\$1")}"`;

/** A path of field names, joined by dots. */
export const dottedPath = (path) =>
  path.map((name) => (/^[\p{L}\p{N}_-]+$/u.test(name) ? name : quoteTerm(name))).join(".");

/** The name of a field of the payload; in quotes if the language gives the name another meaning. */
export function fieldName(path) {
  if (!RESERVED_FIELDS.test(path[0])) return dottedPath(path);
  return [quoteTerm(path[0]), dottedPath(path.slice(1))].filter(Boolean).join(".");
}

/** `name:value`, with the value in quotes if it needs them. */
export function fieldTerm(name, value) {
  const text = String(value);
  const isBare = /^[\p{L}\p{N}_.-]+$/u.test(text) && !OPERATORS.test(text);
  return `${name}:${isBare ? text : quoteTerm(text)}`;
}
