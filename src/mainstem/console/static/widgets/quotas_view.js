/** The tab with the client quotas: how much of the server users, client ids and addresses may use. */

import { canUse, getAll, post } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatBytes, formatCount, plural } from "../lib/format.js";
import { plainText, singleLine } from "../lib/text.js";
import { emptyState, field, loadInto, loadingState, showToast, table } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";
import { entityFields } from "./quota_entity.js";

const bytes = (n) => (n == null ? null : `${formatBytes(n)}/s`);

/** What can be limited: the word of the API, and how it is shown and asked for. */
const QUOTAS = [
  {
    key: "producer_byte_rate",
    text: "Publish",
    show: bytes,
    label: "Publish, bytes a second",
    hint: "Bytes of Produce requests, and of the bodies of HTTP requests",
  },
  {
    key: "consumer_byte_rate",
    text: "Read",
    show: bytes,
    label: "Read, bytes a second",
    hint: "Bytes of replies to Fetch and ShareFetch, and of HTTP responses with events",
  },
  {
    key: "request_percentage",
    text: "Requests",
    show: (n) => (n == null ? null : `${n} %`),
    label: "Requests, percent",
    hint: "Time that requests take, in percent of the one thread that serves them",
    step: "any",
  },
];
const CONNECTIONS = {
  key: "connection_creation_rate",
  text: "Connect",
  show: (n) => (n == null ? null : `${formatCount(n)}/s`),
  label: "New connections a second",
  hint: "New connections of an address to any door; what is beyond is closed at once",
};
const ALL = [...QUOTAS, CONNECTIONS];

export class QuotasView {
  #list = h("div", {}, loadingState("Loading quotas"));
  #count = h("span.muted", { role: "status" });
  #about;
  #quotas = [];

  constructor() {
    this.#about = h("input.filter", {
      placeholder: "A user, client id or address",
      "aria-label": "Filter quotas",
      type: "search",
      spellcheck: "false",
      oninput: () => this.#draw(),
    });
    const onclick = () => openQuota(null, () => this.#load());
    const add = h("button.primary", { type: "button", onclick }, "Add quota");
    this.element = h(
      "div.stack",
      {},
      h("div.bar", {}, this.#about, this.#count, h("span.spacer"), canUse("post", "quotas") ? add : null),
      this.#list,
      explanation(),
    );
    this.#load();
  }

  #load() {
    return loadInto(this.#list, async () => {
      this.#quotas = await getAll("quotas", { cursor: "skip" });
      this.#draw();
    });
  }

  #draw() {
    const text = this.#about.value.trim().toLowerCase();
    const shown = this.#quotas.filter((quota) => entityText(quota).toLowerCase().includes(text));
    this.#count.textContent = plural(this.#quotas.length, "quota");
    const none = this.#quotas.length
      ? emptyState("No quota is for that")
      : emptyState("No quotas yet", "Every client may use as much of the server as it wants.");
    replaceContent(this.#list, shown.length ? table(this.#columns(), shown, "Quotas") : none);
  }

  #columns() {
    const reload = () => this.#load();
    const actions = (quota) => [
      h("button.quiet", { type: "button", onclick: () => openQuota(quota, reload) }, "Change…"),
      h("button.quiet", { type: "button", onclick: () => openDelete(quota, reload) }, "Delete…"),
    ];
    return [
      { text: "For", cell: entityElement },
      ...ALL.map(({ key, text, show }) => ({
        text,
        kind: "num",
        cell: (quota) =>
          quota[key] == null
            ? h("span.muted", {}, "–")
            : h("span", { title: formatCount(quota[key]) }, show(quota[key])),
      })),
      canUse("post", "quotas:delete") && { text: "", kind: "num", cell: actions },
    ].filter(Boolean);
  }
}

// ------------------------------------------------------------------------------------------ entities

/** The parts of an entity for people: [["user", "alice"], ["client", null]]; null: every one. */
function entityParts({ user, client_id: client, ip }) {
  const parts = [
    ["user", user],
    ["client", client],
    ["address", ip],
  ];
  return parts.filter(([, name]) => name != null).map(([kind, name]) => [kind, name || null]);
}

const entityText = (quota) =>
  entityParts(quota)
    .map(([kind, name]) => (name === null ? `every ${kind}` : `${kind} ${name}`))
    .join(", ");

function entityElement(quota) {
  const parts = entityParts(quota).map(([kind, name]) =>
    name === null ? `every ${kind}` : [`${kind} `, h("strong", {}, singleLine(name, 80))],
  );
  return parts.flatMap((part, i) => (i ? [", ", part] : [part]));
}

/** What the values mean, and which of several counts. */
function explanation() {
  const meaning = ({ text, hint }) => [h("dt", {}, text), h("dd", {}, hint)];
  return h(
    "section.card.quota-help",
    {},
    h("h2", {}, "What the values mean"),
    h("dl.facts", {}, ALL.map(meaning)),
    h(
      "p",
      {},
      "Ten seconds of a quota may be used at once; who uses more is slowed down, and HTTP clients get ",
      "status 429. Of several quotas the most specific counts: that of the user and the client id, of ",
      "the user, of every user, of the client id, of every client. All clients that it is for share it; ",
      "a quota of every user is one for each.",
    ),
  );
}

// ------------------------------------------------------------------------------------------ changes

const valuesText = (quota) =>
  ALL.filter(({ key }) => quota?.[key] != null)
    .map(({ key, text, show }) => `${text.toLowerCase()} ${show(quota[key])}`)
    .join(", ");

/** Ask for the quotas of an entity, which is asked for, too, if there is none yet. */
function openQuota(quota, reload) {
  const controls = ALL.map(({ key, step }) =>
    h("input", { type: "number", min: "0", step: step ?? "1", value: quota?.[key] ?? "" }),
  );
  const entity = entityFields();
  const fields = ALL.map(({ label, hint }, i) => field(label, controls[i], hint));
  const known = quota ? quota.ip != null : null;
  const showFitting = () => {
    const isAddress = known ?? entity.isAddress();
    fields.forEach((element, i) => {
      element.hidden = isAddress !== (ALL[i] === CONNECTIONS);
    });
  };
  for (const control of entity.inputs) control.addEventListener("input", showFitting);
  showFitting();
  const names = ({ user, client_id, ip }) => ({ user, client_id, ip });
  function buildRequest(dryRun) {
    const of = quota ? names(quota) : entity.read();
    if (!of || controls.some((control) => !control.validity.valid)) return null;
    const fitting = ALL.map((kind, i) => [kind.key, controls[i].value, fields[i].hidden]);
    const given = fitting.filter(([, text, hidden]) => text !== "" && !hidden);
    const values = Object.fromEntries(given.map(([key, text]) => [key, Number(text)]));
    const removed = fitting.filter(([key, text]) => quota?.[key] != null && text === "");
    if (!given.length && !removed.length) return null;
    return { of, values, removed: removed.map(([key]) => key), dryRun };
  }
  openDryRunDialog({
    title: quota ? `Quotas: ${plainText(entityText(quota))}` : "Add quota",
    kind: "primary",
    fields: [
      quota ? null : entity.element,
      fields,
      quota ? h("p.hint", {}, "An empty field removes that quota.") : null,
    ],
    inputs: [...entity.inputs, ...controls],
    verb: quota ? "Change" : "Add",
    buildRequest,
    send: sendChange,
    describe: describeChange,
    onDone() {
      showToast("The quotas hold from now on");
      reload();
    },
  });
}

/** Set the values, then remove what is empty; returns what the entity had and has. */
async function sendChange({ of, values, removed, dryRun }) {
  let reply = null;
  if (Object.keys(values).length) reply = await post("quotas", { ...of, ...values, dry_run: dryRun });
  if (!removed.length) return reply;
  const deleted = await post("quotas:delete", { ...of, quotas: removed, dry_run: dryRun });
  const after = { ...deleted.after, ...values };
  for (const key of removed) after[key] = null;
  return { before: reply?.before ?? deleted.before, after };
}

function describeChange({ before, after }) {
  const [had, has] = [valuesText(before), valuesText(after)];
  if (had === has) return h("p.notice", {}, `Nothing changes: ${has || "no quota"}.`);
  return h(
    "p.notice",
    {},
    h("span", {}, "Now: ", had || "no quota", ". Then: ", h("strong", {}, has || "no quota"), "."),
  );
}

function openDelete(quota, reload) {
  const { user, client_id, ip } = quota;
  openDryRunDialog({
    title: `Delete quotas: ${plainText(entityText(quota))}`,
    fields: [],
    inputs: [],
    verb: "Delete",
    buildRequest: (dryRun) => ({ user, client_id, ip, dry_run: dryRun }),
    send: (request) => post("quotas:delete", request),
    describe: ({ before }) =>
      h("p.notice.warn", {}, `It holds no longer: ${valuesText(before) || "there is none any more"}.`),
    onDone() {
      showToast("Deleted the quotas");
      reload();
    },
  });
}
