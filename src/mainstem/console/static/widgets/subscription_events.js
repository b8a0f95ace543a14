/** The outstanding events of a subscription by state or consumer: why each is not delivered, wake, cancel. */

import { apiPath, canUse, get, post } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { previewText } from "../lib/payload.js";
import { updateParams } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { formatTime } from "../lib/time.js";
import { emptyState, errorNotice, loadingState, showToast, table } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";
import { untilText } from "./subscription_consumers.js";
import { BROWSED_STATES, placeOf, positionLink, positionOf, stateWord } from "./subscription_parts.js";

const PAGE_SIZE = 50;
const CHOSEN_MAX = 1000;

export class OutstandingEvents {
  #info;
  #name;
  #params;
  #reload;
  #rows = [];
  #next = null;
  #chosen = new Set();
  #abort = new AbortController();
  #bar = h("div.bar.queue-bar");
  #list = h("div", {}, loadingState("Loading events"));
  element = h("div.stack", {}, this.#bar, this.#list);
  #depth;

  constructor(info, { params, reload }) {
    this.#info = info;
    this.#name = info.subscription;
    this.#depth = info.depth;
    this.#params = params;
    this.#reload = reload;
    this.#load();
  }

  close() {
    this.#abort.abort();
  }

  /** The numbers beside the states; the events stay until they are loaded again. */
  update({ depth }) {
    this.#depth = depth;
    this.#drawBar();
  }

  get #state() {
    const state = this.#params.get("state");
    return BROWSED_STATES.includes(state) ? state : "";
  }

  get #consumer() {
    return this.#params.get("consumer") ?? "";
  }

  #select(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (value) this.#params.set(name, value);
      else this.#params.delete(name);
    }
    updateParams(Object.fromEntries(this.#params));
    this.#load();
  }

  async #load(more = false) {
    try {
      const query = {
        limit: PAGE_SIZE,
        state: this.#consumer ? "" : this.#state,
        consumer: this.#consumer,
        after: more ? this.#next : "",
      };
      const path = apiPath("subscriptions/{}:browse", this.#name);
      const page = await get(path, query, this.#abort.signal);
      this.#rows = more ? [...this.#rows, ...page.events] : page.events;
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

  // ---------------------------------------------------------------------------------------- drawing

  #draw() {
    this.#drawBar();
    if (!this.#rows.length) {
      const what = this.#state && !this.#consumer ? `No event is ${this.#state}` : "No outstanding events";
      replaceContent(this.#list, emptyState(what));
      return;
    }
    const more = h("button", { type: "button", onclick: () => this.#load(true) }, "Show more");
    replaceContent(
      this.#list,
      table(this.#columns(), this.#rows, "Outstanding events"),
      this.#next ? h("div.bar", {}, more) : null,
    );
  }

  #drawBar() {
    const stateButton = (state) => {
      const count = state ? formatCount(this.#depth[state]) : "";
      const isSelected = !this.#consumer && state === this.#state;
      const onclick = () => this.#select({ state, consumer: "" });
      const content = state ? [stateWord(state), h("span.muted", {}, count)] : "all";
      return h("button.chip", { type: "button", "aria-pressed": String(isSelected), onclick }, content);
    };
    const shown = BROWSED_STATES.filter((state) => this.#depth[state] || state === this.#state);
    const clear = () => this.#select({ consumer: "" });
    const consumer = this.#consumer
      ? h(
          "button.chip",
          { type: "button", "aria-pressed": "true", onclick: clear, title: "Show all" },
          "of ",
          singleLine(this.#consumer, 60),
          " ×",
        )
      : null;
    const refresh = h("button.quiet", { type: "button", onclick: () => this.#load() }, "Refresh");
    replaceContent(
      this.#bar,
      h("div.chips", { role: "group", "aria-label": "State" }, ["", ...shown].map(stateButton), consumer),
      h("span.spacer"),
      this.#changeButtons(),
      refresh,
    );
  }

  /** Wake and cancel what is chosen, or all that wait. */
  #changeButtons() {
    const count = this.#chosen.size;
    const button = (verb, open) => {
      const what = count ? formatCount(count) : "all waiting";
      return h("button", { type: "button", onclick: open }, `${verb} ${what}…`);
    };
    const isPossible = count || this.#depth.waiting;
    if (!isPossible) return null;
    return [
      canUse("post", "subscriptions/{}:wake", this.#info) ? button("Wake", () => this.#open("wake")) : null,
      canUse("post", "subscriptions/{}:cancel", this.#info)
        ? button("Cancel", () => this.#open("cancel"))
        : null,
    ];
  }

  #columns() {
    const canChange = canUse("post", "subscriptions/{}:cancel", this.#info);
    return [
      canChange && { text: "Choose", kind: "choose", cell: (row) => this.#checkbox(row) },
      { text: "Event", cell: ({ event }) => positionLink(positionOf(event)) },
      { text: "State", cell: ({ state }) => stateWord(state) },
      { text: "Why not now", cell: whyCell },
      { text: "Tries", kind: "num", cell: triesCell },
      { text: "Key", cell: ({ event }) => h("code.clip", {}, previewText(event, "key")) },
      { text: "Value", cell: ({ event }) => h("code.clip.wide", {}, previewText(event, "value")) },
    ].filter(Boolean);
  }

  #checkbox({ event, state }) {
    if (state === "leased") return "";
    const position = positionOf(event);
    const onchange = (change) => {
      if (!change.target.checked) this.#chosen.delete(position);
      else if (this.#chosen.size < CHOSEN_MAX) this.#chosen.add(position);
      this.#drawBar();
    };
    return h("input", {
      type: "checkbox",
      checked: this.#chosen.has(position),
      "aria-label": `Choose ${position}`,
      onchange,
    });
  }

  #open(verb) {
    const positions = this.#chosen.size ? [...this.#chosen].map(placeOf) : null;
    const isWake = verb === "wake";
    const which = positions ? plural(positions.length, "chosen event") : "all events that wait";
    const effect = isWake
      ? "They can be delivered at once. This counts as no failure."
      : "They are done without being delivered. No event is deleted, and redrive brings them back.";
    openDryRunDialog({
      title: isWake ? "Wake events: send them now" : "Cancel events",
      fields: h("p.above", {}, `This is about ${which}. `, effect),
      inputs: [],
      verb: isWake ? "Send now" : "Cancel events",
      kind: isWake ? "primary" : "danger",
      buildRequest: (dryRun) => ({ positions, dry_run: dryRun }),
      send: (request) => post(apiPath(`subscriptions/{}:${verb}`, this.#name), request),
      describe: ({ events }) => amountNotice(isWake ? "will be ready" : "will be done", events),
      onDone: ({ events }) => {
        showToast(`${isWake ? "Sent" : "Cancelled"} ${plural(events, "event")}`);
        this.#load();
        this.#reload();
      },
    });
  }
}

/** "12 events will be ready." */
export const amountNotice = (effect, events) =>
  h("p.notice.warn", {}, h("span", {}, h("strong", {}, plural(events, "event")), ` ${effect}.`));

function whyCell({ state, why, consumer, until, reason }) {
  const quote = reason ? h("span.muted", {}, "“", singleLine(reason, 200), "”") : null;
  if (state === "leased" && consumer != null)
    return h("span.stacked", {}, h("span", {}, "leased by ", singleLine(consumer, 80)), lock(until), quote);
  if (state === "waiting" && until)
    return h(
      "span.stacked",
      { title: formatTime(Date.parse(until)) },
      h("span", {}, `delayed, due ${untilText(until)}`),
      quote,
    );
  return h("span.stacked", {}, h("span", {}, singleLine(why, 200)), quote);
}

const lock = (until) =>
  h("span.muted", { title: until ? formatTime(Date.parse(until)) : "" }, `lock ends ${untilText(until)}`);

function triesCell({ attempts, failures }) {
  const failed = failures ? h("span.warn-text", {}, `${formatCount(failures)} failed`) : null;
  return h("span.stacked", {}, h("span", {}, formatCount(attempts)), failed);
}
