/**
 * The frame of the console: navigation, banner, keyboard shortcuts, and the page that is shown.
 *
 * A page is a class with the constructor (segments, params) and {title, element, close?(), shown?(),
 * paramsChanged?(params)}. A page is offered only if the server offers the route it `needs`, or if it says
 * so itself.
 */

import {
  canUse,
  clusterInfo,
  connection,
  currentUser,
  isOffline,
  loadApi,
  logOut,
  session,
} from "./lib/api.js";
import { h, icon, replaceContent } from "./lib/dom.js";
import { bindKeys, listenToKeys } from "./lib/keys.js";
import { currentRoute, link, navigate, watchRoute } from "./lib/router.js";
import { plainText, visibleText } from "./lib/text.js";
import { applyTheme, currentTheme, switchTheme } from "./lib/theme.js";
import { isUtc, setUtc } from "./lib/time.js";
import { AccessPage, isAccessOffered } from "./pages/access.js";
import { EventPage } from "./pages/event.js";
import { GroupPage } from "./pages/group.js";
import { GroupsPage } from "./pages/groups.js";
import { OverviewPage } from "./pages/overview.js";
import { SearchPage } from "./pages/search.js";
import { SubscriptionPage } from "./pages/subscription.js";
import { SubscriptionsPage } from "./pages/subscriptions.js";
import { TopicPage } from "./pages/topic.js";
import { TopicsPage } from "./pages/topics.js";
import { TracePage } from "./pages/trace.js";
import { emptyState, errorNotice, iconButton, loadingState } from "./widgets/components.js";
import { showKeyHelp } from "./widgets/key_help.js";
import { loginPage } from "./widgets/login_form.js";

/** What the navigation offers. `detail` is the page of a single item: #/topics/NAME. */
const SECTIONS = [
  { id: "overview", text: "Overview", key: "g o", page: OverviewPage, needs: ["get", "stats"] },
  {
    id: "topics",
    text: "Topics",
    key: "g t",
    page: TopicsPage,
    detail: TopicPage,
    needs: ["get", "topics"],
  },
  { id: "search", text: "Search", key: "g s", page: SearchPage, needs: ["post", "search"] },
  { id: "trace", text: "Trace", key: "g r", page: TracePage, needs: ["post", "search"] },
  {
    id: "groups",
    text: "Groups",
    key: "g g",
    page: GroupsPage,
    detail: GroupPage,
    needs: ["get", "groups"],
  },
  {
    id: "subscriptions",
    text: "Subscriptions",
    key: "g q",
    page: SubscriptionsPage,
    detail: SubscriptionPage,
    needs: ["get", "subscriptions"],
  },
  { id: "access", text: "Access", key: "g a", page: AccessPage, offered: isAccessOffered },
];
const EVENT = { id: "event", page: EventPage, needs: ["get", "topics/{}/partitions/{}/events"] };

const isOffered = ({ needs, offered }) => (offered ? offered() : canUse(...needs));

const banner = h("div.banner", { role: "alert", hidden: true });
const main = h("main", { id: "main", tabindex: "-1" });
const nav = h("nav.side", { "aria-label": "Pages" });

/** What is shown: {page, address, sectionId, isUtc}. */
let shown = null;

// ------------------------------------------------------------------------------------------ navigation

/** The same element as in index.html, which shows it before the modules have loaded. */
const brand = () => h("a.brand", { href: "#/" }, h("span.mark", { "aria-hidden": "true" }), "mainstem");

function drawNav() {
  const info = clusterInfo();
  const server = h(
    "div.server",
    { title: plainText(info.id ?? "") },
    h(`span.dot.${isOffline() ? "bad" : "ok"}`),
    h("span.server-name", {}, visibleText(info.at ?? location.host)),
    info.read_only ? h("span.tag", {}, "read-only") : null,
  );
  const help = iconButton("help", "Keyboard shortcuts (?)", showKeyHelp);
  replaceContent(
    nav,
    brand(),
    h("div.nav-items", {}, SECTIONS.filter(isOffered).map(navItem)),
    h("div.nav-foot", {}, server, account(), h("div.nav-tools", {}, zoneButton(), themeButton(), help)),
  );
}

/** Who is logged in, with a button that ends the session. */
function account() {
  const { principal, needs_login: needsLogin, has_session: hasSession } = currentUser();
  if (!needsLogin || !principal) return null;
  const name = principal.replace(/^User:/, "");
  return h(
    "div.account",
    { title: plainText(principal) },
    icon("user"),
    h("span.account-name", {}, visibleText(name)),
    hasSession ? iconButton("logout", "Log out", leave) : null,
  );
}

/** End the session; nothing of what was shown stays in the page. */
async function leave() {
  await logOut().catch(() => {}); // without a server there is no session either
  location.reload();
}

function navItem({ id, text, key }) {
  const current = id === shown?.sectionId ? "page" : null;
  const attributes = { href: link([id]), "aria-current": current, title: `${text} (${key})` };
  return h("a.nav-item", attributes, icon(id), h("span", {}, text));
}

function zoneButton() {
  const onclick = () => {
    setUtc(!isUtc());
    showPage(currentRoute());
  };
  return h("button.quiet.zone", { type: "button", title: "Time zone", onclick }, isUtc() ? "UTC" : "Local");
}

function themeButton() {
  const icons = { auto: "auto", light: "sun", dark: "moon" };
  const button = iconButton(icons[currentTheme()], `Theme: ${currentTheme()}`, () => {
    switchTheme();
    button.replaceWith(themeButton());
  });
  return button;
}

/** Report on every page that the server cannot be reached. Pages stay, and continue when it can. */
function showConnection() {
  banner.hidden = !isOffline();
  const text = [
    icon("warn"),
    h("strong", {}, "The server does not respond."),
    " What is shown may be outdated. Trying again …",
  ];
  replaceContent(banner, isOffline() ? text : null);
  drawNav();
}

// ------------------------------------------------------------------------------------------ pages

function showPage({ segments, params }) {
  const address = segments.join("/");
  if (shown?.address === address && shown.page.paramsChanged && shown.isUtc === isUtc()) {
    shown.page.paramsChanged(params);
    return;
  }
  shown?.page.close?.();
  const id = segments[0] || (isOffered(SECTIONS[0]) ? "overview" : "topics");
  shown = { address, sectionId: id === "event" ? "search" : id, isUtc: isUtc() };
  drawNav();
  shown.page = createPage(id, segments, params);
  document.title = `${plainText(shown.page.title)} · mainstem`;
  replaceContent(main, shown.page.element);
  shown.page.shown?.();
}

function createPage(id, segments, params) {
  const section = [...SECTIONS, EVENT].find((candidate) => candidate.id === id && isOffered(candidate));
  if (!section) return notFoundPage();
  const Page = segments[1] && section.detail ? section.detail : section.page;
  try {
    return new Page(segments, params);
  } catch (error) {
    return { title: "Error", element: errorNotice(error) };
  }
}

function notFoundPage() {
  const title = "Page not found";
  const hint = "The address may belong to another version of the server.";
  return { title, element: h("div", {}, h("h1.visually-hidden", {}, title), emptyState(title, hint)) };
}

// ------------------------------------------------------------------------------------------ start

function focusSearch() {
  const input = document.querySelector("[data-search]");
  if (input) {
    input.focus();
    input.select();
  } else if (canUse("post", "search")) navigate(["search"]);
}

function focusMain(event) {
  event.preventDefault();
  main.focus();
}

/** Ask for a login in place of the page; the address stays, so that the same page is shown afterwards. */
function showLogin() {
  if (shown?.sectionId === "login") return;
  shown?.page.close?.();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  document.body.classList.add("logged-out");
  const before = currentUser().principal;
  const page = loginPage(async () => {
    if (before && before !== currentUser().principal) location.reload();
    else if (await loadApi()) begin();
  });
  shown = { address: null, sectionId: "login", isUtc: isUtc(), page };
  document.title = `${page.title} · mainstem`;
  replaceContent(main, page.element);
  page.shown();
}

let hasBegun = false;

/** Show the page of the address, and from now on that of each new address. */
function begin() {
  document.body.classList.remove("logged-out");
  shown = null;
  if (hasBegun) return showPage(currentRoute());
  hasBegun = true;
  for (const { id, text, key } of SECTIONS.filter(isOffered))
    bindKeys({ [key]: [`Go to ${text}`, () => navigate([id])] });
  bindKeys({ "?": ["Show this list", showKeyHelp], "/": ["Search or filter", focusSearch] });
  listenToKeys();
  watchRoute((route) => shown?.sectionId !== "login" && showPage(route));
}

async function start() {
  applyTheme();
  replaceContent(main, loadingState());
  replaceContent(nav, brand());
  replaceContent(document.getElementById("app"), nav, h("div.page", {}, banner, main));
  connection.addEventListener("offline", showConnection);
  connection.addEventListener("online", showConnection);
  document.querySelector(".skip").addEventListener("click", focusMain);
  session.addEventListener("ended", showLogin);
  try {
    if (await loadApi()) begin();
    else showLogin();
  } catch (error) {
    replaceContent(
      main,
      errorNotice(error, () => location.reload()),
    );
  }
}

start();
