/** The tab with API tokens: one's own, or for who administers the server those of all users. */

import { apiPath, canUse, currentUser, get, managesCluster, post, remove } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatDuration, plural } from "../lib/format.js";
import { plainText, singleLine } from "../lib/text.js";
import { formatAge, timeElement } from "../lib/time.js";
import {
  commaValues,
  copyText,
  emptyState,
  errorNotice,
  field,
  loadInto,
  loadingState,
  openDialog,
  showToast,
  table,
} from "./components.js";

const DAY_MS = 86_400_000;
const SOON_MS = 7 * DAY_MS;
const LIFETIMES = [
  [1, "a day"],
  [7, "a week"],
  [30, "30 days"],
  [90, "90 days"],
  [365, "a year"],
];
const LIFETIME_DAYS = 30;
/** Scopes with the beginning of names. */
const PREFIXED = [
  ["topics", "Only topics that begin with"],
  ["groups", "Only groups that begin with"],
  ["subscriptions", "Only subscriptions that begin with"],
];

export class TokensView {
  #list = h("div", {}, loadingState("Loading tokens"));
  #count = h("span.muted", { role: "status" });

  constructor() {
    const onclick = () => openNew(() => this.#load());
    const add = h("button.primary", { type: "button", onclick }, "New token");
    const note =
      "A program sends a token with its HTTP requests (Authorization: Bearer mst_…). It has the rights of " +
      "its user, as far as its scopes go, until it expires or is revoked.";
    this.element = h(
      "div.stack",
      {},
      h("div.bar", {}, this.#count, h("span.spacer"), canUse("post", "tokens") ? add : null),
      this.#list,
      h("p.hint", {}, note),
    );
    this.#load();
  }

  #load() {
    return loadInto(this.#list, async () => {
      const { tokens } = await get("tokens");
      this.#count.textContent = plural(tokens.length, "token");
      const none = emptyState("No API tokens yet", "Make one here, or with mainstem tokens add.");
      replaceContent(this.#list, tokens.length ? table(this.#columns(), tokens, "API tokens") : none);
    });
  }

  #columns() {
    const reload = () => this.#load();
    const revoke = (token) =>
      h("button.quiet", { type: "button", onclick: () => openRevoke(token, reload) }, "Revoke…");
    return [
      {
        text: "Token",
        cell: ({ name, id }) => [h("strong", {}, singleLine(name, 60)), h("p.hint", {}, singleLine(id, 60))],
      },
      managesCluster() && { text: "User", kind: "who", cell: ({ user }) => singleLine(user, 60) },
      { text: "May", cell: ({ scopes }) => scopeTags(scopes) },
      { text: "Expires", cell: expiry },
      { text: "Last used", kind: "when", cell: ({ last_used: used }) => lastUse(used) },
      canUse("delete", "tokens/{}") && { text: "", kind: "num", cell: revoke },
    ].filter(Boolean);
  }
}

function scopeTags(scopes) {
  if (!scopes.length) return h("span.tag.warn", {}, "all that the user may");
  return h(
    "span.tags",
    {},
    scopes.map((scope) => h("span.tag", {}, singleLine(scope, 60))),
  );
}

function expiry({ expires, expired }) {
  const ms = Date.parse(expires);
  const left = ms - Date.now();
  const state = expired
    ? h("span.tag.bad", {}, "expired")
    : h(`span.${left < SOON_MS ? "tag.warn" : "muted"}`, {}, `in ${formatDuration(Math.max(left, 0))}`);
  return h("span.stacked.start", {}, timeElement(ms, { seconds: false }), state);
}

const lastUse = (used) =>
  used === null
    ? h("span.muted", { title: "The server remembers uses until it stops." }, "not since the start")
    : h("span", { title: used }, formatAge(Date.parse(used)));

/** Ask what the token is for, whose it is, and what it may; then show it, this once. */
function openNew(reload) {
  const text = (attributes) => h("input", { spellcheck: "false", autocomplete: "off", ...attributes });
  const own = (currentUser().principal ?? "").replace(/^User:/, "");
  const user = text({ value: currentUser().needs_login ? own : "" });
  const name = text({ placeholder: "nightly import", maxlength: "100" });
  const days = h(
    "select",
    {},
    LIFETIMES.map(([count, word]) => h("option", { value: count, selected: count === LIFETIME_DAYS }, word)),
  );
  const readOnly = h("input", { type: "checkbox" });
  const prefixes = PREFIXED.map(() => text({ placeholder: "any" }));
  const note = h("div", { role: "alert" });
  async function run() {
    const isMissing = !name.value.trim() || !user.value.trim();
    if (isMissing) {
      replaceContent(note, h("p.notice.warn", {}, "Say what it is for, and whose it is."));
      return false;
    }
    const scopes = prefixes.flatMap((control, i) =>
      commaValues(control).map((prefix) => `${PREFIXED[i][0]}:${prefix}`),
    );
    if (readOnly.checked) scopes.unshift("read-only");
    const body = { name: name.value.trim(), user: user.value.trim(), scopes };
    try {
      const made = await post("tokens", { ...body, expires_in_ms: Number(days.value) * DAY_MS });
      reload();
      showToken(made);
      return true;
    } catch (error) {
      replaceContent(note, errorNotice(error));
      return false;
    }
  }
  openDialog(
    "New API token",
    [
      field("What it is for", name),
      managesCluster() ? field("User", user, "It has the rights of this user") : null,
      field("Expires in", days),
      h("label.choice", {}, readOnly, "Only to read"),
      PREFIXED.map(([, label], i) => field(label, prefixes[i])),
      h("p.hint", {}, "Several with commas. With any of these it may use nothing of another kind."),
      note,
    ],
    [{ text: "Make token", kind: "primary", run }],
  );
}

/** The token itself, which no server can show again; a click beside the dialog does not close it. */
function showToken({ token, about }) {
  const shown = h("input.mono", { value: token, readonly: true, spellcheck: "false" });
  shown.addEventListener("focus", () => shown.select());
  const copy = h("button.primary", { type: "button", onclick: copyIt }, "Copy");
  async function copyIt() {
    try {
      await copyText(token);
      copy.textContent = "Copied";
    } catch {
      shown.select();
      copy.textContent = "Select it, and copy it yourself";
    }
  }
  openDialog(
    `Token ${plainText(about.name)}`,
    [
      h("p.notice.warn", {}, "Copy it now: it is not shown again, and the server keeps its hash only."),
      field("Token", shown),
      h("div.bar", {}, copy),
      h(
        "p.hint",
        {},
        `It is ${plainText(about.user)}'s, until `,
        timeElement(Date.parse(about.expires), { seconds: false }),
        ".",
      ),
    ],
    [],
    { closesOutside: false },
  );
}

function openRevoke(token, reload) {
  const note = h("div", { role: "alert" });
  async function run() {
    try {
      await remove(apiPath("tokens/{}", token.id));
    } catch (error) {
      replaceContent(note, errorNotice(error));
      return false;
    }
    showToast(`Revoked ${plainText(token.name)}`);
    reload();
    return true;
  }
  openDialog(
    `Revoke ${plainText(token.name)}`,
    [
      h(
        "p.notice.warn",
        {},
        "Requests that come with it are refused, and those that run end. This cannot be undone.",
      ),
      note,
    ],
    [{ text: "Revoke", kind: "danger", run }],
  );
}
