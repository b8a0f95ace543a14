/** The settings of a subscription, and the form that changes or creates one. */

import { apiPath, canUse, patch } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatDuration } from "../lib/format.js";
import { singleLine } from "../lib/text.js";
import { errorNotice, field, showToast } from "./components.js";

/** The settings that the form has: [name, label, kind, hint]. Times are shown as durations beside it. */
const FIELDS = [
  ["lock_ms", "Lock, ms", "number", "how long a delivered event belongs to its consumer"],
  ["failures_max", "Failures until it is given up", "number", "0: it is tried for ever"],
  ["dead_letter_topic", "Dead-letter topic", "text", "empty: what is given up is dropped, and counted"],
  ["backoff_min_ms", "First wait after a failure, ms", "number", "0: none"],
  ["backoff_max_ms", "Longest wait, ms", "number", ""],
  ["backoff_factor", "Factor of each further wait", "number", ""],
];

/** Form fields with the values of `settings`: {elements, inputs, read()}, which returns what was changed. */
export function settingFields(settings) {
  const controls = FIELDS.map(([name, label, type, hint]) => {
    const attributes = { type, value: String(settings[name] ?? ""), step: "any", spellcheck: "false" };
    return { name, type, input: h("input", attributes), label, hint };
  });
  function read() {
    const changed = {};
    for (const { name, type, input } of controls) {
      const value = input.value.trim();
      const parsed = type === "number" ? Number(value) : value || null;
      if ((settings[name] ?? null) !== parsed && !(type === "number" && value === "")) changed[name] = parsed;
    }
    return changed;
  }
  return {
    elements: controls.map(({ label, input, hint }) => field(label, input, hint || null)),
    inputs: controls.map(({ input }) => input),
    read,
  };
}

export class SubscriptionSettings {
  #name;
  #reload;
  #message = h("div");
  element = h("div.stack.queue-settings");

  constructor(info, { reload }) {
    this.#name = info.subscription;
    this.#reload = reload;
    this.#draw(info);
  }

  #draw(info) {
    const { settings, created } = info;
    const form = settingFields(settings);
    const save = h("button.primary", { type: "submit" }, "Save");
    const onsubmit = (event) => {
      event.preventDefault();
      this.#save(form.read());
    };
    const canChange = canUse("patch", "subscriptions/{}", info);
    const names = Object.keys(settings).sort();
    const entry = (name) => [h("dt", {}, h("code", {}, name)), h("dd", {}, valueText(name, settings[name]))];
    replaceContent(
      this.element,
      canChange
        ? h("form.queue-form", { onsubmit }, form.elements, this.#message, h("div.bar", {}, save))
        : null,
      h("section", {}, h("h2.section", {}, "All settings"), h("dl.facts", {}, names.map(entry))),
      h("p.muted", {}, `Created ${created}.`),
    );
  }

  async #save(changed) {
    if (!Object.keys(changed).length) {
      showToast("Nothing was changed");
      return;
    }
    try {
      const info = await patch(apiPath("subscriptions/{}", this.#name), { settings: changed });
      replaceContent(this.#message);
      showToast("Saved");
      this.#draw(info);
      this.#reload();
    } catch (error) {
      replaceContent(this.#message, errorNotice(error));
    }
  }
}

function valueText(name, value) {
  if (value == null || value === "") return h("span.muted", {}, "none");
  if (typeof value === "object") return singleLine(JSON.stringify(value), 300);
  if (name.endsWith("_ms") && value > 0) return `${value} (${formatDuration(value)})`;
  return singleLine(String(value), 300);
}
