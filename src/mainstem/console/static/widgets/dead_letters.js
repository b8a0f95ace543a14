/** The dead letters of a subscription: reason, attempts, origin; redrive of chosen, filtered or all. */

import { apiPath, canUse, get, post } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { previewText } from "../lib/payload.js";
import { singleLine } from "../lib/text.js";
import { formatAge, timeElement } from "../lib/time.js";
import { emptyState, errorNotice, field, loadingState, showToast, table } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";
import { amountNotice } from "./subscription_events.js";
import { placeOf, positionLink, positionOf } from "./subscription_parts.js";

const PAGE_SIZE = 50;
const TYPING_PAUSE_MS = 400;
const CHOSEN_MAX = 1000;
const REASONS = [
  ["", "any reason"],
  ["rejected", "rejected"],
  ["failed", "failed too often"],
  ["expired", "expired"],
];

export class DeadLetters {
  #info;
  #name;
  #reload;
  #topic;
  #letters = [];
  #next = null;
  #chosen = new Set();
  #timer = 0;
  #abort = new AbortController();
  #reason = h(
    "select",
    { "aria-label": "Reason", onchange: () => this.#load() },
    REASONS.map(([value, text]) => h("option", { value }, text)),
  );
  #query = h("input.filter", {
    type: "search",
    placeholder: "Filter: tailnum:N730MQ",
    "aria-label": "Filter dead letters by a query",
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => this.#onType(),
  });
  #buttons = h("span.pair");
  #list = h("div", {}, loadingState("Loading dead letters"));
  element = h(
    "div.stack",
    {},
    h("div.bar.queue-bar", {}, this.#reason, this.#query, h("span.spacer"), this.#buttons),
    this.#list,
  );

  constructor(info, { reload }) {
    this.#info = info;
    this.#name = info.subscription;
    this.#topic = info.settings.dead_letter_topic;
    this.#reload = reload;
    if (this.#topic) this.#load();
    else replaceContent(this.#list, noTopic());
  }

  close() {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  #onType() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), TYPING_PAUSE_MS);
  }

  async #load(more = false) {
    const query = {
      limit: PAGE_SIZE,
      reason: this.#reason.value,
      q: this.#query.value.trim(),
      after: more ? this.#next : "",
    };
    try {
      const path = apiPath("subscriptions/{}:dead-letters", this.#name);
      const page = await get(path, query, this.#abort.signal);
      this.#letters = more ? [...this.#letters, ...page.letters] : page.letters;
      this.#next = page.next;
      if (!more) this.#chosen.clear();
      this.#draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      replaceContent(
        this.#list,
        errorNotice(error, () => this.#load()),
      );
    }
  }

  #draw() {
    this.#drawButtons();
    const more = h("button", { type: "button", onclick: () => this.#load(true) }, "Show more");
    const rest = this.#next ? h("div.bar", {}, more) : null;
    if (this.#letters.length)
      replaceContent(this.#list, table(this.#columns(), this.#letters, "Dead letters"), rest);
    else replaceContent(this.#list, this.#empty(), rest);
  }

  get #isFiltered() {
    return Boolean(this.#reason.value || this.#query.value.trim());
  }

  #empty() {
    if (this.#isFiltered) return emptyState("No dead letter matches");
    const hint = ["They are written to ", singleLine(this.#topic, 100), " when events are given up."];
    return emptyState("No dead letters", h("span", {}, hint));
  }

  #drawButtons() {
    const count = this.#chosen.size;
    const what = count ? formatCount(count) : this.#isFiltered ? "filtered" : "all";
    const button = h(
      `button${this.#letters.length ? ".primary" : ""}`,
      { type: "button", onclick: () => this.#openRedrive(), disabled: !this.#letters.length },
      `Redrive ${what}…`,
    );
    replaceContent(this.#buttons, canUse("post", "subscriptions/{}:redrive", this.#info) ? button : null);
  }

  #columns() {
    const canRedrive = canUse("post", "subscriptions/{}:redrive", this.#info);
    const why = ({ reason, detail, redriven }) =>
      h(
        "span.stacked",
        {},
        h("span.state-word", {}, h("i.state-dying"), singleLine(reason, 40)),
        detail ? h("span.muted", {}, "“", singleLine(detail, 300), "”") : null,
        redriven ? h("span.muted", {}, "redriven since") : null,
      );
    const time = (letter) => {
      const timeMs = Date.parse(letter.time);
      return h("span.stacked", {}, timeElement(timeMs), h("span.muted", {}, formatAge(timeMs)));
    };
    return [
      canRedrive && { text: "Choose", kind: "choose", cell: (letter) => this.#checkbox(letter) },
      { text: "Given up", cell: time },
      { text: "Reason", cell: why },
      { text: "Attempts", kind: "num", cell: ({ attempts }) => formatCount(attempts) },
      { text: "Event", cell: ({ origin }) => positionLink(origin) },
      { text: "Letter", cell: ({ event }) => positionLink(positionOf(event)) },
      { text: "Value", cell: ({ event }) => h("code.clip.wide", {}, previewText(event, "value")) },
    ].filter(Boolean);
  }

  #checkbox({ origin }) {
    const onchange = (change) => {
      if (!change.target.checked) this.#chosen.delete(origin);
      else if (this.#chosen.size < CHOSEN_MAX) this.#chosen.add(origin);
      this.#drawButtons();
    };
    const checked = this.#chosen.has(origin);
    return h("input", { type: "checkbox", checked, "aria-label": `Choose ${origin}`, onchange });
  }

  #openRedrive() {
    const positions = this.#chosen.size ? [...this.#chosen].map(placeOf) : null;
    const filter = positions ? {} : { reason: this.#reason.value, q: this.#query.value.trim() };
    const rate = h("input", {
      type: "number",
      min: "0.01",
      max: "100000",
      step: "any",
      placeholder: "all at once",
    });
    const which = positions
      ? plural(positions.length, "chosen event")
      : this.#isFiltered
        ? "the events of all dead letters that match the filter, but for those redriven since,"
        : "the events of all dead letters, but for those redriven since,";
    openDryRunDialog({
      title: "Redrive",
      fields: [
        h("p.above", {}, `Deliver ${which} again, to this subscription only. No event is copied.`),
        field("Events per second", rate, "With a rate, the later ones wait in the subscription."),
      ],
      inputs: [rate],
      verb: "Redrive",
      kind: "primary",
      buildRequest: (dryRun) => ({
        positions,
        ...filter,
        ...(rate.value ? { per_s: Number(rate.value) } : {}),
        dry_run: dryRun,
      }),
      send: (request) => post(apiPath("subscriptions/{}:redrive", this.#name), request),
      describe: ({ events }) => amountNotice("will be delivered again", events),
      onDone: ({ events }) => {
        showToast(`Redrove ${plural(events, "event")}`);
        this.#load();
        this.#reload();
      },
    });
  }
}

const noTopic = () =>
  emptyState(
    "This subscription has no dead-letter topic",
    "Events that are given up are dropped, and counted. The settings can name a topic.",
  );
