/** The live tail of a topic: its events as they are published, newest first. */

import { acceptsParameter, apiPath, get, subscribe } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { bindKeys } from "../lib/keys.js";
import { visibleText } from "../lib/text.js";
import { emptyState } from "./components.js";
import { eventRow } from "./event_row.js";
import { EventView } from "./event_view.js";
import { VirtualList } from "./virtual_list.js";

const EVENTS_MAX = 2000;
const EVENTS_PER_S_MAX = 200;
const DRAW_INTERVAL_MS = 150;

/** A view of a tab: the connection to the server is open while the tab is shown. */
export class LiveTail {
  #topic;
  #canFilter = acceptsParameter("get", "topics/{}/tail", "q");
  #source = null;
  #events = [];
  /** Events not yet in the list, oldest first. */
  #pending = [];
  #isPaused = false;
  #receivedCount = 0;
  #skippedCount = 0;
  #drawTimer = 0;
  #openEvent = null;
  #unbindKeys = null;

  #query = h("input.filter", {
    type: "search",
    placeholder: "Filter, for example status:paid",
    "aria-label": "Filter of the live tail",
    spellcheck: "false",
    autocomplete: "off",
    "data-search": "",
    onchange: () => this.#restart(),
  });
  #queryError = h("span.query-error", { role: "alert" });
  #state = h("span.muted", { role: "status" });
  #pauseButton = h("button", { type: "button", onclick: () => this.#togglePause() });
  #hint = h(
    "div.rows-note",
    {},
    emptyState("Waiting for events", "New events of this topic will appear here."),
  );
  #detail = h("div.detail", { hidden: true });
  #list = new VirtualList({
    label: "Events",
    kind: "of-events",
    createRow: (event) => eventRow(event, { showTopic: false }),
    open: (event) => this.#open(event),
  });

  constructor(topic) {
    this.#topic = topic;
    const clear = h("button.quiet", { type: "button", onclick: () => this.#clear() }, "Clear");
    this.element = h(
      "div.tail",
      {},
      h(
        "div.bar",
        {},
        this.#pauseButton,
        this.#canFilter ? this.#query : null,
        this.#queryError,
        h("span.spacer"),
        this.#state,
        clear,
      ),
      h("div.split", {}, h("div.split-main", {}, this.#hint, this.#list.element), this.#detail),
    );
    this.#drawPauseButton();
  }

  shown() {
    if (!this.#source) this.#connect();
    this.#unbindKeys ??= bindKeys({
      j: ["Next event", () => this.#list.move(1)],
      k: ["Previous event", () => this.#list.move(-1)],
      Enter: ["Open the event", () => this.#list.openCurrent()],
      Escape: ["Close the event", () => this.#closeEvent()],
      p: ["Pause or continue the tail", () => this.#togglePause()],
    });
  }

  hidden() {
    this.#disconnect();
    this.#unbindKeys?.();
    this.#unbindKeys = null;
  }

  close() {
    this.hidden();
    this.#openEvent?.close();
    this.#list.close();
    clearTimeout(this.#drawTimer);
  }

  // ---------------------------------------------------------------------------------------- connection

  #connect() {
    const filter = this.#canFilter ? { q: this.#query.value.trim() } : {};
    this.#source = subscribe(
      apiPath("topics/{}/tail", this.#topic),
      { rate: EVENTS_PER_S_MAX, ...filter },
      {
        open: () => this.#drawState(),
        error: () => this.#onError(),
        message: (event) => this.#onEvent(event),
        problem: ({ detail }) => this.#onProblem(detail),
        skipped: ({ skipped }) => this.#onSkipped(skipped),
        reset: () => this.#onReset(),
      },
    );
    this.#drawState("connecting …");
  }

  #disconnect() {
    this.#source?.close();
    this.#source = null;
  }

  #onError() {
    const isClosed = this.#source.readyState === this.#source.CLOSED;
    this.#drawState(isClosed ? "closed by the server" : "reconnecting …");
  }

  #onEvent(event) {
    this.#receivedCount++;
    this.#pending.push(event);
    if (this.#pending.length > EVENTS_MAX) this.#pending.shift();
    this.#drawSoon();
  }

  #onProblem(detail) {
    this.#disconnect();
    replaceContent(this.#queryError, visibleText(detail));
  }

  #onSkipped(count) {
    this.#skippedCount += count;
    this.#drawSoon();
  }

  /** The topic was created again, or cut: what is shown is not in it any more. */
  #onReset() {
    this.#clear();
    this.#drawState("the topic has begun again");
  }

  async #restart() {
    this.#queryError.textContent = "";
    const error = await this.#checkQuery().catch((failure) => failure.message);
    if (error) {
      replaceContent(this.#queryError, visibleText(error));
      return;
    }
    this.#disconnect();
    this.#clear();
    this.#connect();
  }

  /** The error of the query as text; empty if it is correct. */
  async #checkQuery() {
    const query = this.#query.value.trim();
    if (!query) return "";
    const { error } = await get("query/check", { q: query });
    return error ? `${error.message} (column ${error.column + 1})` : "";
  }

  // ---------------------------------------------------------------------------------------- drawing

  #togglePause() {
    this.#isPaused = !this.#isPaused;
    if (!this.#isPaused) this.#drawSoon();
    this.#drawPauseButton();
  }

  #clear() {
    this.#events = [];
    this.#pending = [];
    this.#receivedCount = this.#skippedCount = 0;
    this.#hint.hidden = false;
    this.#list.setItems([]);
    this.#drawState();
    this.#drawPauseButton();
  }

  #drawSoon() {
    this.#drawTimer ||= setTimeout(() => {
      this.#drawTimer = 0;
      if (!this.#isPaused && this.#pending.length) this.#drawPending();
      this.#drawPauseButton();
      this.#drawState();
    }, DRAW_INTERVAL_MS);
  }

  /** Add the pending events to the list. A current row stays in sight; otherwise the list does not scroll. */
  #drawPending() {
    const { current, element } = this.#list;
    const { scrollTop } = element;
    const added = this.#pending.length;
    this.#events = [...this.#pending.reverse(), ...this.#events].slice(0, EVENTS_MAX);
    this.#pending = [];
    this.#hint.hidden = true;
    this.#list.setItems(this.#events);
    if (current >= 0) this.#list.setCurrent(Math.min(this.#events.length - 1, current + added));
    else element.scrollTop = scrollTop;
  }

  #drawPauseButton() {
    const pending = this.#pending.length ? ` (${formatCount(this.#pending.length)} new)` : "";
    const content = this.#isPaused ? [icon("play"), `Continue${pending}`] : [icon("pause"), "Pause"];
    replaceContent(this.#pauseButton, content);
  }

  #drawState(text = this.#countText()) {
    const source = this.#source;
    const isOpen = source !== null && source.readyState === source.OPEN;
    replaceContent(this.#state, h(`span.dot${isOpen ? ".ok" : ".warn"}`), " ", text);
  }

  #countText() {
    const skipped = `, ${formatCount(this.#skippedCount)} skipped: more than ${EVENTS_PER_S_MAX} per second`;
    return plural(this.#receivedCount, "event") + (this.#skippedCount ? skipped : "");
  }

  // ---------------------------------------------------------------------------------------- one event

  /** Open an event. The tail pauses, so that the list does not move away from it. */
  #open(event) {
    this.#openEvent?.close();
    this.#openEvent = new EventView(event, { close: () => this.#closeEvent() });
    replaceContent(this.#detail, this.#openEvent.element);
    this.#detail.hidden = false;
    if (!this.#isPaused) this.#togglePause();
  }

  #closeEvent() {
    this.#openEvent?.close();
    this.#openEvent = null;
    this.#detail.hidden = true;
    this.#list.element.focus();
  }
}
