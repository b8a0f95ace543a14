/** The settings of a topic: shows them, and changes one after it was previewed what the change deletes. */

import { apiPath, canUse, patch, post } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatBytes, formatDuration } from "../lib/format.js";
import { singleLine } from "../lib/text.js";
import { emptyState, errorNotice, field, openDialog, showToast, table } from "./components.js";
import { deletionNotice } from "./deletion.js";

const TYPING_PAUSE_MS = 200;
const NO_LIMIT = "9223372036854775807";
const CENTURY_MS = 3_155_760_000_000n;
const RETENTIONS = [
  ["3600000", "1 hour"],
  ["86400000", "1 day"],
  ["259200000", "3 days"],
  ["604800000", "7 days"],
  ["2592000000", "30 days"],
  ["31536000000", "1 year"],
  ["-1", "forever"],
];

/** A setting's value for people: 604800000 of retention.ms is "7 d". Empty if it needs no explanation. */
function explainValue(name, value) {
  if (value == null || value === "" || Number(value) < -1) return "";
  if (value === NO_LIMIT) return "no limit";
  if (name.endsWith(".ms")) {
    if (value === "-1") return "forever";
    return BigInt(value) > CENTURY_MS ? "no limit" : formatDuration(Number(value));
  }
  if (!name.endsWith("bytes")) return "";
  if (value === "-1") return "no limit";
  return Number(value) < 1000 ? "" : formatBytes(Number(value));
}

/** The tab with all settings; those set for this topic come first. */
export function topicSettings(topic, reload) {
  const rows = h("div");
  const filter = h("input.filter", {
    type: "search",
    placeholder: "Filter settings",
    "aria-label": "Filter settings",
    oninput: draw,
  });
  function draw() {
    const text = filter.value.trim().toLowerCase();
    const settings = topic.settings
      .filter(({ name, doc }) => name.includes(text) || (doc ?? "").toLowerCase().includes(text))
      .sort((a, b) => a.is_default - b.is_default);
    replaceContent(
      rows,
      settings.length
        ? table(settingColumns(topic, reload), settings, "Settings")
        : emptyState("No setting contains this text"),
    );
  }
  draw();
  return h("div.stack", {}, h("div.bar", {}, filter), rows);
}

function settingColumns(topic, reload) {
  const canChange = canUse("patch", "topics/{}/settings", topic) && !topic.internal;
  const valueCell = ({ name, value }) => {
    const explanation = explainValue(name, value);
    return [
      h("code", {}, singleLine(value ?? "null", 120)),
      explanation ? h("span.muted", {}, ` ${explanation}`) : null,
    ];
  };
  const changeButton = (setting) => {
    if (setting.read_only) return "";
    const onclick = () => new SettingEditor(topic, setting, reload);
    return h("button.quiet", { type: "button", onclick }, "Change…");
  };
  return [
    {
      text: "Setting",
      cell: ({ name, doc }) => [h("code", {}, singleLine(name)), doc ? h("p.hint", {}, doc) : null],
    },
    { text: "Value", kind: "value", cell: valueCell },
    {
      text: "Source",
      cell: (setting) =>
        setting.is_default ? h("span.muted", {}, "default") : h("span.tag.ok", {}, "set here"),
    },
    canChange && { text: "", kind: "num", cell: changeButton },
  ].filter(Boolean);
}

/** The dialog that changes one setting. */
class SettingEditor {
  #topic;
  #setting;
  #reload;
  #input;
  #explanation = h("span.hint");
  #preview = h("div.preview", { role: "status" });
  #timer = 0;
  #previews = 0;

  constructor(topic, setting, reload) {
    this.#topic = topic;
    this.#setting = setting;
    this.#reload = reload;
    this.#input = h("input", {
      value: setting.value ?? "",
      spellcheck: "false",
      autocomplete: "off",
      oninput: () => this.#onInput(),
    });
    const toDefault = { text: "Reset to default", run: () => this.#save(null) };
    const change = { text: "Change", kind: "primary", run: () => this.#save(this.#input.value.trim()) };
    openDialog(setting.name, this.#fields(), setting.is_default ? [change] : [toDefault, change]);
    this.#onInput();
  }

  #fields() {
    const { name, doc, valid, default: defaultValue } = this.#setting;
    const hasDefault = defaultValue != null && defaultValue !== "";
    const hint = [valid ?? "", hasDefault ? `Default: ${defaultValue}` : ""].filter(Boolean).join(". ");
    return [
      doc ? h("p.above", {}, doc) : null,
      field("Value", this.#input, hint),
      this.#explanation,
      name === "retention.ms" ? this.#retentionButtons() : null,
      this.#preview,
    ];
  }

  #retentionButtons() {
    const button = ([ms, text]) => {
      const onclick = () => {
        this.#input.value = ms;
        this.#onInput();
      };
      return h("button.quiet", { type: "button", onclick }, text);
    };
    return h("div.chips", {}, RETENTIONS.map(button));
  }

  #onInput() {
    const text = this.#input.value.trim();
    this.#explanation.textContent = explainValue(this.#setting.name, /^-?\d+$/.test(text) ? text : "");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#showPreview(text), TYPING_PAUSE_MS);
  }

  /** A request that sets the value; null resets it to the default. */
  #request(value) {
    return { settings: { [this.#setting.name]: value } };
  }

  async #showPreview(value) {
    if (!canUse("post", "topics/{}/settings/preview")) return;
    const preview = ++this.#previews;
    const show = (...content) => preview === this.#previews && replaceContent(this.#preview, content);
    const estimate =
      "An estimate by the times of the events. Only whole files are deleted, so it may be less.";
    try {
      const reply = await post(
        apiPath("topics/{}/settings/preview", this.#topic.topic),
        this.#request(value),
      );
      const isExact = reply.exact || !reply.events;
      show(deletionNotice(reply), isExact ? null : h("p.hint", {}, estimate));
    } catch (error) {
      show(errorNotice(error));
    }
  }

  #patch(value) {
    return patch(apiPath("topics/{}/settings", this.#topic.topic), this.#request(value));
  }

  /** Returns whether the dialog shall close. */
  async #save(value) {
    try {
      await this.#patch(value);
    } catch (error) {
      replaceContent(this.#preview, errorNotice(error));
      return false;
    }
    const effect = value === null ? "reset to the default" : "changed";
    showToast(`${this.#setting.name}: ${effect}`, { action: { text: "Undo", run: () => this.#undo() } });
    this.#reload();
    return true;
  }

  async #undo() {
    const { name, value, is_default: wasDefault } = this.#setting;
    try {
      await this.#patch(wasDefault ? null : value);
      showToast(`${name} has its earlier value again. Events deleted in between are lost.`);
    } catch (error) {
      openDialog("The change was not undone", errorNotice(error));
    }
    this.#reload();
  }
}
