/**
 * The progress of a search: how much was searched, what was found, why it stopped; and what can be done next.
 */

import { canUse } from "../../lib/api.js";
import { h, icon, replaceContent } from "../../lib/dom.js";
import { formatBytes, formatCount, plural } from "../../lib/format.js";
import { formatTime } from "../../lib/time.js";
import { showUnreadable } from "../../widgets/components.js";
import { exportMatches, replayMatches } from "../../widgets/replay_export.js";

const END_REASONS = {
  limit: ", stopped at the limit",
  budget: ", stopped after its time limit",
  stopped: ", stopped",
  cut: ", interrupted by the server",
};

export class SearchProgress {
  #query;
  #actions;
  #fill = h("i");
  #status = h("div.progress-text", { role: "status" });
  #control = h("span.progress-control");
  #controlText = null;

  /** `actions` are {stop(), continue(), toggleFacets()}; the last returns whether the facets are shown. */
  constructor(query, actions) {
    this.#query = query;
    this.#actions = actions;
    const tools = h("div.result-tools", {}, this.#control, this.#facetsButton(), this.#matchButtons());
    this.element = h(
      "div.progress",
      {},
      h("div.progress-bar", {}, this.#fill),
      h("div.progress-line", {}, this.#status, tools),
    );
  }

  /** On narrow screens the facets are hidden behind this button. */
  #facetsButton() {
    const toggle = () => button.setAttribute("aria-expanded", String(this.#actions.toggleFacets()));
    const attributes = { type: "button", "aria-expanded": "false", onclick: toggle };
    const button = h("button.quiet.facets-toggle", attributes, "Facets");
    return button;
  }

  #matchButtons() {
    const button = (text, run) =>
      h("button.quiet", { type: "button", onclick: () => run(this.#query.matches()) }, text);
    return [
      canUse("post", "export") ? button("Export…", exportMatches) : null,
      canUse("post", "replay") ? button("Replay…", replayMatches) : null,
    ];
  }

  draw(run) {
    const share = run.state === "complete" ? 1 : (run.totals?.share ?? 0);
    this.#fill.style.setProperty("width", `${share * 100}%`);
    const starting = run.state === "running" ? "starting …" : "";
    replaceContent(this.#status, run.totals ? this.#statusText(run) : starting);
    this.#drawControl(run);
  }

  /** A button stays as long as it does the same: replaced between press and release, it loses the click. */
  #drawControl({ state, resume }) {
    const [name, text, onclick] =
      state === "running"
        ? ["stop", "Stop", this.#actions.stop]
        : ["play", state === "limit" ? "More matches" : "Continue", this.#actions.continue];
    const isShown = state === "running" || resume;
    if (this.#controlText === (isShown ? text : null)) return;
    this.#controlText = isShown ? text : null;
    const button = () => h("button.quiet", { type: "button", onclick }, icon(name), text);
    replaceContent(this.#control, isShown ? button() : null);
  }

  #statusText(run) {
    const { totals, state } = run;
    const details = [
      this.#searchedText(totals),
      skippedText(totals),
      totals.index_note,
      this.#reachedText(run),
      totals.elapsed_s ? formatSeconds(totals.elapsed_s) : "",
    ];
    return [
      h("strong", {}, plural(totals.matches, "match")),
      END_REASONS[state] ?? "",
      h("span.muted", {}, ` · ${details.filter(Boolean).join(" · ")} · `),
      unreadableCount(run),
    ];
  }

  /** A search for the newest events can find them before any data counts as searched. */
  #searchedText({ total_bytes: total, matches, share, ...totals }) {
    if (total === 0) return "nothing to search";
    if (!total) return `searched ${Math.floor(share * 100)} %`;
    const searched = totals.scanned_bytes + totals.skipped_bytes + (totals.removed_bytes ?? 0);
    if (!searched && matches)
      return `searched the ${this.#query.oldestFirst ? "oldest" : "newest"} of ${formatBytes(total)}`;
    const percent = Math.floor((searched / total) * 100);
    return `searched ${formatBytes(searched)} of ${formatBytes(total)} (${percent} %)`;
  }

  /** Up to which time all matches are shown. */
  #reachedText({ state, totals: { reached_ms: reached } }) {
    if (state === "complete" || reached == null) return "";
    return `complete ${this.#query.oldestFirst ? "up" : "back"} to ${formatTime(reached, { millis: false })}`;
  }
}

function skippedText({ skipped_bytes: skipped, indexed_bytes: indexed }) {
  if (!skipped) return "";
  const byIndex = indexed ? ` (${formatBytes(indexed)} by the index)` : "";
  return `${formatBytes(skipped)} ruled out unread${byIndex}`;
}

const formatSeconds = (seconds) =>
  seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;

function unreadableCount({ totals: { undecodable }, unreadable }) {
  if (!undecodable) return h("span.muted", {}, "0 unreadable");
  const onclick = () => showUnreadable(unreadable);
  return h("button.link.bad-text", { type: "button", onclick }, `${formatCount(undecodable)} unreadable`);
}
