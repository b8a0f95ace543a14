/** The tab with the masking rules: put one with a preview of what it masks, delete one. */

import { allowedValues, apiPath, canUse, get, post, remove } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { writeJson } from "../lib/payload.js";
import { plainText, singleLine } from "../lib/text.js";
import { commaValues, emptyState, field, loadInto, loadingState, showToast, table } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";

const PAYLOAD_CHARACTERS = 200;

export class MaskingView {
  #list = h("div", {}, loadingState("Loading rules"));
  #count = h("span.muted", { role: "status" });

  constructor() {
    const onclick = () => openRule(null, () => this.#load());
    const add = h("button.primary", { type: "button", onclick }, "Add rule");
    this.element = h(
      "div.stack",
      {},
      h("div.bar", {}, this.#count, h("span.spacer"), canUse("post", "masking-rules") ? add : null),
      this.#list,
    );
    this.#load();
  }

  #load() {
    return loadInto(this.#list, async () => {
      const { rules } = await get("masking-rules");
      this.#count.textContent = plural(rules.length, "rule");
      const none = emptyState("No masked fields", "A rule hides a field of events from users and roles.");
      replaceContent(this.#list, rules.length ? table(this.#columns(), rules, "Masking rules") : none);
    });
  }

  #columns() {
    const reload = () => this.#load();
    const actions = (rule) => [
      h("button.quiet", { type: "button", onclick: () => openRule(rule, reload) }, "Change…"),
      h("button.quiet", { type: "button", onclick: () => openDelete(rule.rule, reload) }, "Delete…"),
    ];
    return [
      { text: "Rule", cell: ({ rule }) => singleLine(rule, 80) },
      { text: "Topic", cell: ({ topic, prefixed }) => singleLine(prefixed ? `${topic}…` : topic, 80) },
      { text: "Field", cell: ({ path }) => h("code", {}, singleLine(path, 80)) },
      { text: "Shown", cell: ({ kind }) => h("span.tag", {}, kind) },
      { text: "For", cell: ({ principals }) => singleLine(principals.join(", "), 80) },
      { text: "But not for", cell: ({ exempt }) => singleLine(exempt.join(", "), 80) },
      canUse("delete", "masking-rules/{}") && { text: "", kind: "num", cell: actions },
    ].filter(Boolean);
  }
}

/** Ask for a rule, show what it would mask of the newest events, and put it. */
function openRule(rule, reload) {
  const input = (value, attributes) =>
    h("input", { value, spellcheck: "false", autocomplete: "off", ...attributes });
  const name = input(rule?.rule ?? "", { disabled: Boolean(rule), placeholder: "card numbers" });
  const topic = input(rule?.topic ?? "", { placeholder: "orders, or * for all" });
  const prefixed = h("input", { type: "checkbox", checked: rule?.prefixed ?? false });
  const path = input(rule?.path ?? "", { placeholder: "customer.card" });
  const kinds = allowedValues("MaskRuleJson", "kind");
  const kind = h(
    "select",
    {},
    kinds.map((word) => h("option", { value: word, selected: word === (rule?.kind ?? "hidden") }, word)),
  );
  const principals = input((rule?.principals ?? ["User:*"]).join(", "));
  const exempt = input((rule?.exempt ?? []).join(", "), { placeholder: "Role:support" });
  const example = input("", { placeholder: topic.value });
  function read() {
    const fields = [name, topic, path, principals].map(({ value }) => value.trim());
    if (fields.some((text) => !text)) return null;
    return {
      rule: fields[0],
      topic: fields[1],
      path: fields[2],
      kind: kind.value,
      prefixed: prefixed.checked,
      principals: commaValues(principals),
      exempt: commaValues(exempt),
    };
  }
  openDryRunDialog({
    title: rule ? `Change ${plainText(rule.rule)}` : "Add rule",
    kind: "primary",
    fields: [
      field("Name", name),
      field("Topic", topic),
      h("label.choice", {}, prefixed, "all topics whose names begin so"),
      field("Field", path, "customer.card, *.pin, header.authorization, key; $ is the whole payload"),
      field("Shown in its place", kind),
      field("For", principals, "Users and roles, with commas; User:* is everybody"),
      field("But not for", exempt),
      field("Preview with the events of", example, "A topic that you may read; else the topic above"),
    ],
    inputs: [name, topic, prefixed, path, kind, principals, exempt, example],
    verb: rule ? "Change" : "Add",
    buildRequest(dryRun) {
      const body = read();
      return body && { dryRun, body, topic: example.value.trim() || body.topic };
    },
    send: ({ dryRun, body, topic: shown }) => (dryRun ? preview(body, shown) : post("masking-rules", body)),
    describe: describePreview,
    onDone({ rule: put }) {
      showToast(`${plainText(put)} masks from now on`);
      reload();
    },
  });
}

/** The newest events with and without the rule. A topic that does not exist has none. */
async function preview(rule, topic) {
  try {
    return await post("masking-rules:preview", { rule, topic });
  } catch (error) {
    if (error.status === 404) return { events: [] };
    throw error;
  }
}

function describePreview({ events }) {
  if (!events.length) return h("p.notice", {}, "There is no event to preview it with.");
  const text = (parts) => h("code", {}, singleLine(writeJson(parts, true), PAYLOAD_CHARACTERS));
  const columns = [
    { text: "Offset", kind: "num", cell: ({ plain }) => `${plain.partition}:${plain.offset}` },
    { text: "Now", cell: ({ plain, masked }) => text(changedParts(plain, masked)) },
    { text: "With the rule", cell: ({ plain, masked }) => text(changedParts(masked, plain)) },
  ];
  const changed = events.filter((row) => row.is_masked);
  const note = changed.length
    ? `It masks ${plural(changed.length, "event")} of the newest ${events.length}.`
    : "It masks none of the newest events: is the path right?";
  return [
    h(`p.notice${changed.length ? "" : ".warn"}`, {}, note),
    changed.length ? table(columns, changed, "Preview") : null,
  ];
}

/** The parts of an event that are not the same in another one. */
function changedParts(event, other) {
  const parts = {};
  const differ = (a, b) => writeJson(a ?? null, true) !== writeJson(b ?? null, true);
  if (differ(event.key, other.key)) parts.key = event.key;
  if (differ(event.headers, other.headers)) parts.headers = event.headers;
  if (isObject(event.value) && isObject(other.value)) {
    for (const [name, value] of Object.entries(event.value))
      if (differ(value, other.value[name])) parts[name] = value;
  } else if (differ(event.value, other.value)) parts.value = event.value;
  return parts;
}

const isObject = (value) => value != null && Object.getPrototypeOf(value) === Object.prototype;

function openDelete(rule, reload) {
  openDryRunDialog({
    title: `Delete ${plainText(rule)}`,
    fields: [],
    inputs: [],
    verb: "Delete",
    buildRequest: (dryRun) => ({ dry_run: dryRun }),
    send: (query) => remove(apiPath("masking-rules/{}", rule), query),
    describe: () => h("p.notice.warn", {}, "What it masks is shown from then on."),
    onDone() {
      showToast(`Deleted ${plainText(rule)}`);
      reload();
    },
  });
}
