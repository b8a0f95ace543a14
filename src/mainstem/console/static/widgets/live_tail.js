/** Live tail: events of a topic as they come, newest first. */

import { follow, get, path, takes } from "../lib/api.js";
import { eventRow, eventView } from "./event_view.js";
import { h, icon, put } from "../lib/dom.js";
import * as keys from "../lib/keys.js";
import { empty } from "./components.js";
import { visible, count, many } from "../lib/text.js";
import { list } from "./virtual_list.js";

const KEPT = 2000;
const RATE = 200;
const DRAWN_EVERY_MS = 150;

/** {element, close, hidden, shown}: the connection is open while it is shown. */
export function tail(topic) {
  const filters = takes("get", "topics/{}/tail", "q");
  let source = null;
  let events = [];
  let waiting = [];
  let paused = false;
  let skipped = 0;
  let seen = 0;
  let timer = 0;
  let detail = null;
  let unbind = null;

  const query = h("input.filter", { type: "search", placeholder: "Filter, like status:paid", "aria-label": "Filter of the live tail", spellcheck: "false", autocomplete: "off", "data-search": "", onchange: restart });
  const wrong = h("span.query-error", { role: "alert" });
  const state = h("span.muted", { role: "status" });
  const pause = h("button", { type: "button", onclick: toggle });
  const rows = list({ label: "Events", kind: "of-events", row: (event) => eventRow(event, { topics: false }), open: show });
  const side = h("div.detail", { hidden: true });
  const hint = h("div.rows-note", {}, empty("Waiting for events", "What is published from now on is shown here."));
  const split = h("div.split", {}, h("div.split-main", {}, hint, rows.element), side);
  const element = h("div.tail", {}, h("div.bar", {}, pause, filters ? query : null, wrong, h("span.spacer"), state, h("button.quiet", { type: "button", onclick: clear }, "Clear")), split);

  function drawPause() {
    put(pause, icon(paused ? "play" : "pause"), paused ? `Go on${waiting.length ? ` (${count(waiting.length)} new)` : ""}` : "Pause");
  }

  function drawState(text) {
    put(state, h(`span.dot${source?.readyState === 1 ? ".ok" : ".warn"}`), " ", text ?? `${many(seen, "event")}${skipped ? `, ${count(skipped)} passed over: more than ${RATE} a second` : ""}`);
  }

  function soon() {
    timer ||= setTimeout(() => {
      timer = 0;
      if (!paused && waiting.length) {
        const at = rows.chosen();
        const added = waiting.length;
        events = [...waiting.reverse(), ...events].slice(0, KEPT);
        waiting = [];
        hint.hidden = true;
        const place = rows.element.scrollTop;
        rows.items(events);
        if (at >= 0) rows.choose(Math.min(events.length - 1, at + added));
        else rows.element.scrollTop = place;
      }
      drawPause();
      drawState();
    }, DRAWN_EVERY_MS);
  }

  function start() {
    source = follow(path("topics/{}/tail", topic), { rate: RATE, ...(filters ? { q: query.value.trim() } : {}) }, {
      open: () => drawState(),
      error: () => drawState(source.readyState === 2 ? "closed by the server" : "connecting again …"),
      message(event) {
        seen++;
        waiting.push(event);
        if (waiting.length > KEPT) waiting.shift();
        soon();
      },
      problem(told) {
        end();
        put(wrong, visible(told.detail));
      },
      skipped(told) {
        skipped += told.skipped;
        soon();
      },
    });
    drawState("connecting …");
  }

  function end() {
    source?.close();
    source = null;
  }

  async function restart() {
    wrong.textContent = "";
    if (query.value.trim()) {
      try {
        const checked = await get("query/check", { q: query.value.trim() });
        if (checked.error) throw new Error(`${checked.error.message} (column ${checked.error.column + 1})`);
      } catch (error) {
        put(wrong, visible(error.message));
        return;
      }
    }
    end();
    clear();
    start();
  }

  function toggle() {
    paused = !paused;
    if (!paused) soon();
    drawPause();
  }

  function clear() {
    events = [];
    waiting = [];
    seen = skipped = 0;
    hint.hidden = false;
    rows.items([]);
    drawState();
    drawPause();
  }

  function show(event) {
    detail?.stop();
    detail = eventView(event, { close: hide });
    put(side, detail.element);
    side.hidden = false;
    if (!paused) toggle();
  }

  function hide() {
    detail?.stop();
    detail = null;
    side.hidden = true;
    rows.element.focus();
  }

  drawPause();
  return {
    element,
    shown() {
      if (!source) start();
      unbind ??= keys.bind({
        j: ["Next event", () => rows.move(1)],
        k: ["Previous event", () => rows.move(-1)],
        Enter: ["Open the event", rows.openChosen],
        Escape: ["Close the event", hide],
        p: ["Pause the tail", toggle],
      });
    },
    hidden() {
      end();
      unbind?.();
      unbind = null;
    },
    close() {
      this.hidden();
      detail?.stop();
      rows.close();
      clearTimeout(timer);
    },
  };
}
