/**
 * Which page is shown: the part of the address behind #. `#/topics/orders?tab=live`.
 *
 * The address is the state: whatever a reader sees can be copied as a link. Pages change their own parameters
 * with `update`, which does not load the page again.
 */

let current = parse(location.hash);
let listener = () => {};

/** Segments and parameters of a hash. */
function parse(hash) {
  const [where, query] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const segments = where.split("/").filter(Boolean).map(decode);
  return { segments, params: new URLSearchParams(query ?? "") };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The link to a page: link(["topics", name], {tab: "live"}). */
export function link(segments, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) {
    if (Array.isArray(value)) value.forEach((each) => query.append(name, each));
    else if (value != null && value !== "" && value !== false) query.set(name, value);
  }
  const text = query.toString();
  return `#/${segments.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const here = () => current;

/** Go to another page. */
export function go(segments, params) {
  location.hash = link(segments, params);
}

/** Write this page's parameters into the address without loading it again; `push`: as a new step of the history. */
export function update(params, { push = false } = {}) {
  const next = link(current.segments, params);
  if (next === location.hash) return;
  history[push ? "pushState" : "replaceState"](null, "", next);
  current = parse(next);
}

/** Call with (segments, params) now and at each change. */
export function start(callback) {
  listener = callback;
  addEventListener("hashchange", () => {
    current = parse(location.hash);
    listener(current);
  });
  addEventListener("popstate", () => {
    const next = parse(location.hash);
    if (next.segments.join("/") !== current.segments.join("/") || next.params.toString() !== current.params.toString()) {
      current = next;
      listener(current);
    }
  });
  listener(current);
}
