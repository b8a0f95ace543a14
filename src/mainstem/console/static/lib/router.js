/**
 * The address of the page: its fragment selects what is shown, as in `#/topics/orders?tab=tail`.
 *
 * Owns: the state in the address. Whatever a reader sees can be copied as a link. A page changes its own
 * parameters with `updateParams`, which does not load the page again.
 */

let route = parseRoute(location.hash);

function parseRoute(hash) {
  const [where, query] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const segments = where.split("/").filter(Boolean).map(decodeSegment);
  return { segments, params: new URLSearchParams(query ?? "") };
}

function decodeSegment(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a page: link(["topics", name], {tab: "tail"}). Empty parameters are left out. */
export function link(segments, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {}))
    if (value != null && value !== "" && value !== false) query.set(name, value);
  const text = query.toString();
  return `#/${segments.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** The current route: {segments, params}. */
export const currentRoute = () => route;

/** Open another page. */
export function navigate(segments, params) {
  location.hash = link(segments, params);
}

/** Write parameters of the current page into the address; `push` adds a step to the browser's history. */
export function updateParams(params, { push = false } = {}) {
  const address = link(route.segments, params);
  if (address === location.hash) return;
  history[push ? "pushState" : "replaceState"](null, "", address);
  route = parseRoute(address);
}

/** Call `listener(route)` now and whenever the route changes. */
export function watchRoute(listener) {
  addEventListener("hashchange", () => {
    route = parseRoute(location.hash);
    listener(route);
  });
  addEventListener("popstate", () => {
    const next = parseRoute(location.hash);
    const samePage = next.segments.join("/") === route.segments.join("/");
    if (samePage && next.params.toString() === route.params.toString()) return;
    route = next;
    listener(route);
  });
  route = parseRoute(location.hash); // which may have changed while the console was starting
  listener(route);
}
