/** The tab with the users of the server: add one, change a password, delete one. */

import { apiPath, canUse, getAll, patch, post, remove } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { canHash, passwordVerifiers } from "../lib/scram.js";
import { plainText, singleLine } from "../lib/text.js";
import {
  emptyState,
  errorNotice,
  field,
  loadInto,
  loadingState,
  openDialog,
  showToast,
  table,
} from "./components.js";
import { openDryRunDialog } from "./dry_run.js";

export class UsersView {
  #list = h("div", {}, loadingState("Loading users"));
  #count = h("span.muted", { role: "status" });

  constructor() {
    const onclick = () => openPassword(null, () => this.#load());
    const add = h("button.primary", { type: "button", onclick }, "Add user");
    const bar = h(
      "div.bar",
      {},
      this.#count,
      h("span.spacer"),
      canUse("post", "users") && canHash() ? add : null,
    );
    this.element = h("div.stack", {}, bar, this.#list);
    this.#load();
  }

  #load() {
    return loadInto(this.#list, async () => {
      this.#draw(await getAll("users"));
    });
  }

  #draw(users) {
    this.#count.textContent = plural(users.length, "user");
    const content = users.length
      ? table(this.#columns(), users, "Users")
      : emptyState("No users yet", "Add one here, or with mainstem users add.");
    replaceContent(this.#list, content);
  }

  #columns() {
    const reload = () => this.#load();
    const mechanism = ({ mechanism: name, iterations }) =>
      h("span.tag", { title: `${formatCount(iterations)} iterations` }, name);
    return [
      {
        text: "User",
        cell: (user) => [singleLine(user.user, 100), user.super ? h("span.tag.ok", {}, "super user") : null],
      },
      { text: "Logs in by", cell: ({ mechanisms }) => mechanisms.map(mechanism) },
      {
        text: "",
        kind: "num",
        cell: ({ user }) => [
          canUse("patch", "users/{}") && canHash()
            ? h("button.quiet", { type: "button", onclick: () => openPassword(user, reload) }, "Password…")
            : null,
          canUse("delete", "users/{}")
            ? h("button.quiet", { type: "button", onclick: () => openDelete(user, reload) }, "Delete…")
            : null,
        ],
      },
    ];
  }
}

/** Ask for a password, and set it; without `user`, of a new user whose name is asked, too. */
function openPassword(user, reload) {
  const text = (type, autocomplete) => h("input", { type, autocomplete, spellcheck: "false" });
  const name = text("text", "off");
  const password = text("password", "new-password");
  const again = text("password", "new-password");
  const note = h("div", { role: "alert" });
  async function run() {
    const fault = passwordFault(user ?? name.value, password.value, again.value);
    if (fault) {
      replaceContent(note, h("p.notice.warn", {}, fault));
      return false;
    }
    try {
      const verifiers = await passwordVerifiers(password.value);
      if (user) await patch(apiPath("users/{}", user), { verifiers });
      else await post("users", { user: name.value, verifiers });
    } catch (error) {
      replaceContent(note, errorNotice(error));
      return false;
    }
    showToast(user ? `The password of ${plainText(user)} is changed` : `Added ${plainText(name.value)}`);
    reload();
    return true;
  }
  const hint = "It stays in this browser: the server gets a verifier, from which it cannot be read.";
  const fields = [
    user ? null : field("Name", name),
    field("Password", password, hint),
    field("Once more", again),
    note,
  ];
  const title = user ? `Password of ${plainText(user)}` : "Add user";
  openDialog(title, fields, [{ text: user ? "Change" : "Add", kind: "primary", run }]);
}

function passwordFault(user, password, again) {
  if (!user) return "The user needs a name.";
  if (!password) return "The password is empty.";
  return password === again ? "" : "The two passwords differ.";
}

function openDelete(user, reload) {
  openDryRunDialog({
    title: `Delete ${plainText(user)}`,
    fields: [],
    inputs: [],
    verb: "Delete",
    buildRequest: (dryRun) => ({ dry_run: dryRun }),
    send: (query) => remove(apiPath("users/{}", user), query),
    describe: () =>
      h(
        "p.notice.warn",
        {},
        "Their connections are closed. Entries about them stay, for a user of this name.",
      ),
    onDone() {
      showToast(`Deleted ${plainText(user)}`);
      reload();
    },
  });
}
