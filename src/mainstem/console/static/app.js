/**
 * The frame: navigation, theme, keys, and which page is shown.
 *
 * A page is a function of (segments, params) that returns {title, element, close?, shown?, changed?}. A page whose
 * routes are not served is not in the navigation: `needs` names what the server must offer.
 */

import { can, connection, isGone, learn, who } from "./lib/api.js";
import { h, icon, put } from "./lib/dom.js";
import * as keys from "./lib/keys.js";
import { empty, iconButton, loading, problem } from "./widgets/components.js";
import * as router from "./lib/router.js";
import { inUtc, plain, setUtc, visible } from "./lib/text.js";
import * as themes from "./lib/theme.js";
import { eventPage } from "./pages/event.js";
import { groupPage, groupsPage } from "./pages/groups.js";
import { overviewPage } from "./pages/overview.js";
import { searchPage } from "./pages/search.js";
import { topicPage } from "./pages/topic.js";
import { topicsPage } from "./pages/topics.js";
import { tracePage } from "./pages/trace.js";

const PAGES = [
  { id: "overview", text: "Overview", key: "g o", make: overviewPage, needs: ["get", "stats"] },
  { id: "topics", text: "Topics", key: "g t", make: (segments, params) => (segments[1] ? topicPage : topicsPage)(segments, params), needs: ["get", "topics"] },
  { id: "search", text: "Search", key: "g s", make: searchPage, needs: ["post", "search"] },
  { id: "trace", text: "Trace", key: "g r", make: tracePage, needs: ["post", "search"] },
  { id: "groups", text: "Groups", key: "g g", make: (segments, params) => (segments[1] ? groupPage : groupsPage)(segments, params), needs: ["get", "groups"] },
];
const HIDDEN = [{ id: "event", make: eventPage, needs: ["get", "topics/{}/partitions/{}/events"] }];

const banner = h("div.banner", { role: "alert", hidden: true });
const main = h("main", { id: "main", tabindex: "-1" });
const nav = h("nav.side", { "aria-label": "Pages" });
let page = null;

const served = (each) => can(...each.needs);

/** As it stands in index.html, which shows it before any module is there. */
const brand = () => h("a.brand", { href: "#/" }, h("span.mark", { "aria-hidden": "true" }), "mainstem");

function drawNav(current) {
  const info = who();
  put(nav,
    brand(),
    h("div.nav-items", {}, PAGES.filter(served).map(({ id, text, key }) =>
      h("a.nav-item", { href: router.link([id]), "aria-current": id === current ? "page" : null, title: `${text} (${key})` }, icon(id), h("span", {}, text)))),
    h("div.nav-foot", {},
      h("div.server", { title: plain(info.id ?? "") },
        h(`span.dot.${isGone() ? "bad" : "ok"}`), h("span.server-name", {}, visible(info.at ?? location.host)),
        info.read_only ? h("span.tag", {}, "read-only") : null),
      h("div.nav-tools", {}, zoneButton(), themeButton(), iconButton("help", "Keyboard (?)", keys.help))));
}

function zoneButton() {
  return h("button.quiet.zone", {
    type: "button", title: "Time zone of this page",
    onclick() {
      setUtc(!inUtc());
      show(router.here());
    },
  }, inUtc() ? "UTC" : "Local");
}

function themeButton() {
  const icons = { auto: "auto", light: "sun", dark: "moon" };
  const button = iconButton(icons[themes.theme()], `Theme: ${themes.theme()}`, () => {
    themes.turn();
    button.replaceWith(themeButton());
  });
  return button;
}

function show({ segments, params }) {
  const id = segments[0] || (served(PAGES[0]) ? "overview" : "topics");
  const found = [...PAGES, ...HIDDEN].find((each) => each.id === id && served(each));
  if (page?.segments?.join("/") === segments.join("/") && page.changed && !page.zone === !inUtc()) {
    page.changed(params);
    return;
  }
  page?.close?.();
  const shown = id === "event" ? "search" : id;
  drawNav(shown);
  try {
    page = found ? found.make(segments, params) : { title: "Not here", element: h("div", {}, h("h1.unseen", {}, "Not here"), empty("There is no such page here", "The address may be of a newer server, or of one that offers more.")) };
  } catch (error) {
    page = { title: "Error", element: problem(error) };
  }
  page.segments = segments;
  page.id = shown;
  page.zone = inUtc();
  document.title = `${plain(page.title)} · mainstem`;
  put(main, page.element);
  page.shown?.();
}

/** That the server is gone, on every page; what is shown stays, and goes on when it is back. */
function tellConnection() {
  banner.hidden = !isGone();
  put(banner, isGone() ? [icon("warn"), h("strong", {}, "The server does not answer."), " What is shown may be old. Trying again …"] : null);
  drawNav(page?.id);
}

async function begin() {
  themes.apply();
  const root = document.getElementById("app");
  put(main, loading());
  put(nav, brand());
  put(root, nav, h("div.page", {}, banner, main));
  connection.addEventListener("gone", tellConnection);
  connection.addEventListener("back", tellConnection);
  document.querySelector(".skip").addEventListener("click", (event) => (event.preventDefault(), main.focus()));
  try {
    await learn();
  } catch (error) {
    put(main, problem(error, () => location.reload()));
    return;
  }
  for (const { id, text, key } of PAGES.filter((each) => served(each) && each.key)) keys.bind({ [key]: [`Go to ${text}`, () => router.go([id])] });
  keys.bind({
    "?": ["This list", keys.help],
    "/": ["Search", focusSearch],
  });
  keys.start();
  router.start(show);
}

function focusSearch() {
  const box = document.querySelector("[data-search]");
  if (box) {
    box.focus();
    box.select?.();
  } else if (served(PAGES[2])) {
    router.go(["search"]);
  }
}

begin();
