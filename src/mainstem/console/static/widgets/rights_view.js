/** The tab with the access control entries: may somebody do something, and which entry decides. */

import { allowedValues, canUse, getAll, post } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { singleLine } from "../lib/text.js";
import { emptyState, errorNotice, field, loadInto, loadingState, showToast, table } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";

export class RightsView {
  #list = h("div", {}, loadingState("Loading entries"));
  #count = h("span.muted", { role: "status" });
  #about = input({
    class: "filter",
    placeholder: "User:alice or a topic",
    "aria-label": "Filter entries",
    type: "search",
  });
  #acls = [];

  constructor() {
    this.#about.addEventListener("input", () => this.#draw());
    const onclick = () => openAdd(() => this.#load());
    const add = h("button.primary", { type: "button", onclick }, "Add entry");
    this.element = h(
      "div.stack",
      {},
      canUse("post", "acls:test") ? question() : null,
      h("div.bar", {}, this.#about, this.#count, h("span.spacer"), canUse("post", "acls") ? add : null),
      this.#list,
    );
    this.#load();
  }

  #load() {
    return loadInto(this.#list, async () => {
      this.#acls = await getAll("acls", { cursor: "skip" });
      this.#draw();
    });
  }

  #draw() {
    const text = this.#about.value.trim().toLowerCase();
    const shown = this.#acls.filter((acl) => sentence(acl).toLowerCase().includes(text));
    this.#count.textContent = plural(this.#acls.length, "entry").replace("entrys", "entries");
    const columns = [
      { text: "Entry", cell: entry },
      canUse("post", "acls:delete") && {
        text: "",
        kind: "num",
        cell: (acl) =>
          h(
            "button.quiet",
            { type: "button", onclick: () => openDelete(acl, () => this.#load()) },
            "Delete…",
          ),
      },
    ].filter(Boolean);
    const none = this.#acls.length
      ? emptyState("No entry contains this text")
      : emptyState(
          "No entries yet",
          "With access control on, only super users may do anything until an entry allows it.",
        );
    replaceContent(this.#list, shown.length ? table(columns, shown, "Access control entries") : none);
  }
}

const input = (attributes) => h("input", { spellcheck: "false", autocomplete: "off", ...attributes });

const choice = (schema, property, value) =>
  h(
    "select",
    {},
    allowedValues(schema, property).map((word) =>
      h("option", { value: word, selected: word === value }, word),
    ),
  );

function name({ name: text, pattern }) {
  return pattern === "PREFIXED" ? `${text}…` : text;
}

/** The entry as text: what the filter searches. */
const sentence = (acl) =>
  `${acl.permission} ${acl.principal} ${acl.operation} ${acl.resource_type} ${name(acl)} ${acl.host}`;

/** The entry as a line: ALLOW User:alice to READ topic orders. */
function entry(acl) {
  const kind = acl.resource_type.toLowerCase().replaceAll("_", " ");
  return h(
    "span.acl",
    {},
    h(`span.tag.${acl.permission === "ALLOW" ? "ok" : "bad"}`, {}, acl.permission),
    " ",
    h("strong", {}, singleLine(acl.principal, 80)),
    ` to ${acl.operation} ${kind} `,
    h("code", {}, singleLine(name(acl), 120)),
    acl.host === "*" ? null : ` from ${acl.host}`,
  );
}

/** "May User:alice READ TOPIC orders?", with the answer and what decided it. */
function question() {
  const principal = input({ value: "User:" });
  const operation = choice("AccessQuestionJson", "operation", "READ");
  const kind = choice("AccessQuestionJson", "resource_type", "TOPIC");
  const resource = input({ placeholder: "orders" });
  const answer = h("div.answer", { role: "status" });
  async function onsubmit(event) {
    event.preventDefault();
    const asked = {
      principal: principal.value.trim(),
      operation: operation.value,
      resource_type: kind.value,
      name: resource.value.trim(),
    };
    try {
      replaceContent(answer, showAnswer(await post("acls:test", asked)));
    } catch (error) {
      replaceContent(answer, errorNotice(error));
    }
  }
  return h(
    "form.question.card",
    { onsubmit },
    h("h2", {}, "May somebody do something?"),
    h(
      "div.bar.question-fields",
      {},
      field("User or role", principal),
      field("Operation", operation),
      field("On", kind),
      field("Name", resource),
      h("button", { type: "submit" }, "Ask"),
    ),
    answer,
  );
}

function showAnswer({ allowed, acl, reason }) {
  return h(
    `p.notice.${allowed ? "good" : "bad"}`,
    {},
    h("span", {}, h("strong", {}, allowed ? "Yes. " : "No. "), acl ? entry(acl) : `${reason}.`),
  );
}

function openAdd(reload) {
  const principal = input({ value: "User:" });
  const permission = choice("AclJson", "permission", "ALLOW");
  const operation = choice("AclJson", "operation", "READ");
  const kind = choice("AclJson", "resource_type", "TOPIC");
  const resource = input({ placeholder: "orders, or * for all" });
  const pattern = h("input", { type: "checkbox" });
  const host = input({ value: "*" });
  openDryRunDialog({
    title: "Add entry",
    kind: "primary",
    fields: [
      field("Permission", permission),
      field("User or role", principal, "User:NAME, Role:NAME, or User:* for everybody"),
      field("Operation", operation),
      field("On", kind),
      field("Name", resource),
      h("label.choice", {}, pattern, "all names that begin so"),
      field("From host", host),
    ],
    inputs: [permission, principal, operation, kind, resource, pattern, host],
    verb: "Add",
    buildRequest(dryRun) {
      if (!resource.value.trim() || !/^[^:]+:.+/.test(principal.value.trim())) return null;
      const acl = {
        principal: principal.value.trim(),
        permission: permission.value,
        operation: operation.value,
        resource_type: kind.value,
        name: resource.value.trim(),
        pattern: pattern.checked ? "PREFIXED" : "LITERAL",
        host: host.value.trim(),
      };
      return { acls: [acl], dry_run: dryRun };
    },
    send: (request) => post("acls", request),
    describe: ({ acls }) =>
      h(
        "p.notice",
        {},
        acls.length ? h("span", {}, "New: ", entry(acls[0])) : "There is this entry already.",
      ),
    onDone() {
      showToast("Added the entry");
      reload();
    },
  });
}

function openDelete(acl, reload) {
  openDryRunDialog({
    title: "Delete entry",
    fields: [h("p", {}, entry(acl))],
    inputs: [],
    verb: "Delete",
    buildRequest: (dryRun) => ({ acls: [acl], dry_run: dryRun }),
    send: (request) => post("acls:delete", request),
    describe: () => h("p.notice.warn", {}, "It holds no longer, also for those who are connected."),
    onDone() {
      showToast("Deleted the entry");
      reload();
    },
  });
}
