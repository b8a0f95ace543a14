/** Consumer groups: how far each one lags, in events and in time, and which are stuck. */

import { apiPath, canUse, get, getAll } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatCount, formatDuration, formatShort, plural } from "../lib/format.js";
import { bindKeys } from "../lib/keys.js";
import { Poller } from "../lib/poller.js";
import { link, navigate, updateParams } from "../lib/router.js";
import { plainText, singleLine } from "../lib/text.js";
import { emptyState, errorNotice, loadingState } from "../widgets/components.js";
import { lagOutlook, memberName, shareTag, stateTag, stuckTag } from "../widgets/group_status.js";
import { historyPoints, sparkline } from "../widgets/sparkline.js";
import { VirtualList } from "../widgets/virtual_list.js";

const INTERVAL_MS = 5000;
const HISTORIES_KEPT_MS = 60_000;
const LATE_MS = 300_000;
const COLUMNS = ["Group", "State", "Lag", "Oldest unread", "24 hours"];

export class GroupsPage {
  title = "Groups";
  #groups = [];
  /** Group name -> promise of its history; null where the server has none. */
  #histories = new Map();
  #filter;
  #total = h("span.muted", { role: "status" });
  #body = h("div.page-body.flush", {}, loadingState("Loading groups"));
  #head = h(
    "div.rows-head.group-cols",
    {},
    COLUMNS.map((text, i) => h(i === 2 || i === 3 ? "span.num" : "span", {}, text)),
  );
  #list = new VirtualList({
    label: "Groups",
    kind: "tall",
    createRow: (group) => this.#row(group),
    open: ({ group }) => navigate(["groups", group]),
    href: ({ group }) => link(["groups", group]),
  });
  #poller = new Poller({
    load: (signal) => this.#load(signal),
    onError: (error) =>
      replaceContent(
        this.#body,
        errorNotice(error, () => this.#poller.run()),
      ),
    intervalMs: INTERVAL_MS,
  });
  #historyTimer = setInterval(() => this.#histories.clear(), HISTORIES_KEPT_MS);
  #unbindKeys = bindKeys({
    j: ["Next group", () => this.#list.move(1)],
    k: ["Previous group", () => this.#list.move(-1)],
    Enter: ["Open the group", () => this.#list.openCurrent()],
  });

  constructor(_segments, params) {
    this.#filter = h("input.filter", {
      type: "search",
      placeholder: "Filter groups",
      "aria-label": "Filter groups by name",
      "data-search": "",
      value: params.get("q") ?? "",
      spellcheck: "false",
      oninput: () => this.#onFilter(),
    });
    const title = h("h1", {}, "Groups");
    const head = h("div.page-head", {}, title, this.#total, h("span.spacer"), this.#filter);
    this.element = h("div", {}, head, this.#body);
    this.#poller.run();
  }

  close() {
    this.#poller.close();
    clearInterval(this.#historyTimer);
    this.#unbindKeys();
    this.#list.close();
  }

  async #load(signal) {
    this.#groups = await getAll("groups", { signal });
    this.#draw();
  }

  #onFilter() {
    updateParams({ q: this.#filter.value.trim() });
    this.#draw();
  }

  #draw() {
    const text = this.#filter.value.trim().toLowerCase();
    const groups = this.#groups.filter(({ group }) => group.toLowerCase().includes(text));
    this.#total.textContent = plural(this.#groups.length, "group");
    if (!this.#groups.length) {
      const hint = "A group appears when its first consumer joins, or when a position is set for it.";
      replaceContent(this.#body, emptyState("No consumer groups", hint));
    } else if (!groups.length) replaceContent(this.#body, emptyState("No group has this text in its name"));
    else this.#drawList(groups);
  }

  /** The groups are new objects after each load, so the current row and the place are kept by index. */
  #drawList(groups) {
    if (!this.#list.element.isConnected) replaceContent(this.#body, this.#head, this.#list.element);
    const { current, element } = this.#list;
    const { scrollTop } = element;
    this.#list.setItems(groups);
    if (current >= 0) this.#list.setCurrent(Math.min(current, groups.length - 1));
    element.scrollTop = scrollTop;
  }

  // ---------------------------------------------------------------------------------------- rows

  #row(group) {
    const { group: name, topics, lag, protocol_type: type } = group;
    const topicText = topics.length === 1 ? singleLine(topics[0], 80) : plural(topics.length, "topic");
    return h(
      "div.group-cols",
      {},
      h(
        "span.group-name",
        {},
        h("span", {}, h("strong", {}, singleLine(name, 200)), shareTag(type)),
        h("span.muted", {}, topicText),
      ),
      stateCell(group),
      h(
        "span.num",
        { title: lag == null ? "" : `${formatCount(lag)} events` },
        lag == null ? "–" : formatShort(lag),
      ),
      waitingCell(group),
      this.#chartCell(name),
    );
  }

  #chartCell(name) {
    const cell = h("span.spark");
    this.#history(name).then((history) => {
      if (!history) return;
      const options = { label: `Lag of ${plainText(name)}`, height: 26 };
      replaceContent(cell, sparkline(historyPoints(history, "lag"), options));
    });
    return cell;
  }

  #history(name) {
    if (!canUse("get", "stats/groups/{}")) return Promise.resolve(null);
    if (!this.#histories.has(name)) {
      const history = get(apiPath("stats/groups/{}", name), null, this.#poller.signal);
      this.#histories.set(
        name,
        history.catch(() => null),
      );
    }
    return this.#histories.get(name);
  }
}

function stateCell({ state, members, stuck, problem }) {
  if (problem) return h("span.stacked", {}, stateTag(state), h("span.muted", {}, singleLine(problem, 200)));
  if (stuck) {
    const detail = members ? memberName(stuck) : "no members";
    return h("span.stacked", {}, h("span", {}, stuckTag(stuck, members)), h("span.muted", {}, detail));
  }
  const count = members ? h("span.muted", {}, ` ${plural(members, "member")}`) : null;
  return h("span", {}, stateTag(state), count);
}

function waitingCell(group) {
  const { lag_ms: lagMs } = group;
  const outlook = lagOutlook(group);
  return h(
    "span.stacked.num",
    {},
    h(`span${lagMs > LATE_MS ? ".warn-text" : ""}`, {}, waitingText(lagMs)),
    outlook ? h("span.muted", {}, outlook) : null,
  );
}

function waitingText(lagMs) {
  if (lagMs == null) return "–";
  return lagMs === 0 ? "up to date" : formatDuration(lagMs);
}
