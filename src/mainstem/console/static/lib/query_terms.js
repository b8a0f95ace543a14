/** Terms of the query language, written so that they mean what they were made of. */

const quote = (text) => `"${text.replace(/(["\\])/g, "\\$1")}"`;

/** A path of names, as a query has it. */
export const dotted = (path) => path.map((each) => (/^[\p{L}\p{N}_-]+$/u.test(each) ? each : quote(each))).join(".");

/** A field of the payload: quoted where its name means something else in a query. */
export const fieldName = (path) => (/^(key|topic|partition|offset|time|_exists_|header)$/.test(path[0]) ? [quote(path[0]), dotted(path.slice(1))].filter(Boolean).join(".") : dotted(path));

/** `name:value`, the value quoted where it has to be. */
export function term(name, value) {
  const text = String(value);
  return `${name}:${/^[\p{L}\p{N}_.-]+$/u.test(text) && !/^(AND|OR|NOT|TO)$/.test(text) ? text : quote(text)}`;
}

/** Free text that finds this value wherever it stands. */
export const phrase = quote;
