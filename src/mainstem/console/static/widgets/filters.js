/** Which topics and which times: the two menus beside a query. */

import { get } from "../lib/api.js";
import { h, icon, put } from "../lib/dom.js";
import { popover } from "./components.js";
import { iso, line, moment, parseMoment, plain } from "../lib/text.js";

const RANGES = [["15m", "Last 15 minutes"], ["1h", "Last hour"], ["6h", "Last 6 hours"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"], ["30d", "Last 30 days"], ["", "All time"]];
const LISTED = 200;

/** Topics by name or glob. `chosen(globs)`. */
export function topicMenu(first, chosen) {
  let globs = first;
  const menu = popover(label(), make, { "aria-label": "Topics" });

  function label() {
    return [icon("topics"), h("span.menu-text", {}, globs.length === 0 ? "All topics" : globs.length === 1 ? line(globs[0], 40) : `${globs.length} topics`)];
  }

  function use(next) {
    globs = next;
    menu.label(label());
    chosen(globs);
  }

  function make(close) {
    const filter = h("input", { type: "search", placeholder: "Name, or a glob like orders.*", "aria-label": "Topic name or glob", spellcheck: "false", autocomplete: "off" });
    const rows = h("div.choices", { role: "group", "aria-label": "Topics" });
    let known = [];
    let timer = 0;
    async function ask() {
      try {
        known = (await get("topics", { q: filter.value.replace(/\*/g, "").trim(), limit: LISTED })).topics.map((each) => each.topic);
      } catch {
        known = [];
      }
      draw();
    }
    function draw() {
      const names = [...globs.filter((glob) => !known.includes(glob)), ...known];
      put(rows, names.map((name) => h("label.choice", {},
        h("input", { type: "checkbox", checked: globs.includes(name), onchange: (event) => use(event.target.checked ? [...globs, name] : globs.filter((each) => each !== name)) }),
        line(name, 80))), known.length >= LISTED ? h("p.hint", {}, "More: type a part of the name.") : null);
    }
    filter.addEventListener("input", () => (clearTimeout(timer), (timer = setTimeout(ask, 150))));
    filter.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && filter.value.trim()) {
        use([...new Set([...globs, filter.value.trim()])]);
        close();
      }
    });
    ask();
    return [filter, rows, h("div.bar", {}, h("button.quiet", { type: "button", onclick: () => (use([]), close()) }, "All topics"))];
  }

  return { element: menu.element, value: () => globs, set(next) {
    globs = next;
    menu.label(label());
  } };
}

/** Times: {since, until} as text, relative ("24h"), ISO, or empty. `chosen({since, until})`. */
export function timeMenu(first, chosen) {
  let range = first;
  const menu = popover(label(), make, { "aria-label": "Time range" });

  function label() {
    const quick = RANGES.find(([value]) => value === range.since && !range.until);
    const show = (text, otherwise) => (text ? (parseMoment(text) == null ? plain(text) : moment(parseMoment(text), { seconds: true, millis: false })) : otherwise);
    return [icon("clock"), h("span.menu-text", {}, quick ? quick[1] : `${show(range.since, "first")} → ${show(range.until, "now")}`)];
  }

  function use(next) {
    range = next;
    menu.label(label());
    chosen(range);
  }

  function make(close) {
    const written = (text) => (text ? (/^\d+[a-z]+$/.test(text) ? text : moment(parseMoment(text))) : "");
    const since = h("input", { value: written(range.since), placeholder: "2013-06-01 12:00, or 3h", "aria-label": "From", spellcheck: "false" });
    const until = h("input", { value: written(range.until), placeholder: "now", "aria-label": "To (exclusive)", spellcheck: "false" });
    const said = h("p.query-error", { role: "alert" });
    function apply(event) {
      event.preventDefault();
      const texts = [since.value.trim(), until.value.trim()].map((text) => (text === "now" ? "" : text));
      const bad = texts.find((text) => text && parseMoment(text) == null);
      if (bad) return put(said, `“${plain(bad)}” is no time. Write 2013-06-01 12:00 or 3h.`);
      const [from, to] = texts.map((text) => (text && !/^\d+\s*[a-z]+$/.test(text) ? iso(parseMoment(text)) : text));
      use({ since: from, until: to });
      return close();
    }
    return [
      h("div.quick", {}, RANGES.map(([value, text]) => h("button.quiet", { type: "button", "aria-pressed": String(range.since === value && !range.until), onclick: () => (use({ since: value, until: "" }), close()) }, text))),
      h("form.absolute", { onsubmit: apply },
        h("label", {}, "From", since), h("label", {}, "To", until), said,
        h("button.primary", { type: "submit" }, "Apply")),
    ];
  }

  return { element: menu.element, value: () => range, set(next) {
    range = next;
    menu.label(label());
  } };
}

/** {since_ms, until_ms} of a range, now. */
export function bounds({ since, until }) {
  const now = Date.now();
  return { since_ms: since ? parseMoment(since, now) : null, until_ms: until ? parseMoment(until, now) : null };
}
