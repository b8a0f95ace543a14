/** One subscription: depth by state, consumers, outstanding events, dead letters, settings. */

import { apiPath, canUse, get } from "../lib/api.js";
import { h, icon, replaceContent } from "../lib/dom.js";
import { formatCount, formatDuration, formatRate, formatShort, plural } from "../lib/format.js";
import { Poller } from "../lib/poller.js";
import { link, updateParams } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { errorNotice, loadingState } from "../widgets/components.js";
import { DeadLetters } from "../widgets/dead_letters.js";
import { historyPoints, sparkline } from "../widgets/sparkline.js";
import { openDeleteSubscription, openPurge, openSeek } from "../widgets/subscription_actions.js";
import { ConsumersView } from "../widgets/subscription_consumers.js";
import { OutstandingEvents } from "../widgets/subscription_events.js";
import { depthBar, outstanding, positionLink, STATES } from "../widgets/subscription_parts.js";
import { SubscriptionSettings } from "../widgets/subscription_settings.js";
import { Tabs } from "../widgets/tabs.js";

const INTERVAL_MS = 3000;

export class SubscriptionPage {
  #params;
  #info = null;
  #history = null;
  #before = null;
  #rates = null;
  #actions = h("div.actions");
  #summary = h("span.facts-line");
  #alarm = h("div");
  #cards = h("div.cards.queue-cards");
  #tabs = null;
  #views = [];
  #body = h("div.page-body", {}, loadingState("Loading the subscription"));
  #poller = new Poller({
    load: (signal) => this.#load(signal),
    onError: (error) =>
      replaceContent(
        this.#body,
        errorNotice(error, () => this.#poller.run()),
      ),
    intervalMs: INTERVAL_MS,
  });

  constructor([, name], params) {
    this.title = name;
    this.#params = params;
    const crumb = h("span.crumb", {}, h("a", { href: link(["subscriptions"]) }, "Subscriptions"), " / ");
    const heading = h("h1", {}, crumb, singleLine(name, 249));
    const head = h("div.page-head", {}, heading, this.#summary, h("span.spacer"), this.#actions);
    this.element = h("div", {}, head, this.#body);
    this.#poller.run();
  }

  close() {
    this.#poller.close();
    this.#tabs?.close();
  }

  /** A link to another tab of this page, or to the events of a consumer. */
  paramsChanged(params) {
    this.#params = params;
    if (!this.#tabs) return;
    this.#tabs.close();
    this.#tabs = null;
    this.#views = [];
    this.#draw();
  }

  async #load(signal) {
    const info = await get(apiPath("subscriptions/{}", this.title), null, signal);
    this.#measure(info);
    this.#info = info;
    if (canUse("get", "stats/subscriptions/{}"))
      this.#history = await get(apiPath("stats/subscriptions/{}", this.title), null, signal).catch(
        () => null,
      );
    this.#draw();
  }

  /** Rates between two looks at the counters; null at the first one. */
  #measure(info) {
    const now = performance.now();
    if (this.#before && this.#before.info.since === info.since) {
      const seconds = Math.max(0.5, (now - this.#before.at) / 1000);
      const rate = (name) => Math.max(0, info[name] - this.#before.info[name]) / seconds;
      this.#rates = { delivered: rate("delivered"), acked: rate("acked"), failed: rate("failed") };
    }
    this.#before = { at: now, info };
  }

  // ---------------------------------------------------------------------------------------- drawing

  #draw() {
    const info = this.#info;
    replaceContent(this.#summary, h("span.muted", {}, "of ", topicLinks(info.topics)));
    replaceContent(this.#alarm, info.problems.map(problemNotice));
    replaceContent(this.#cards, this.#cardElements());
    if (this.#tabs) {
      for (const view of this.#views) view.update?.(info);
      return;
    }
    replaceContent(this.#actions, this.#actionButtons());
    this.#tabs = new Tabs(this.#tabItems(), this.#params.get("tab") ?? "events", (id) => {
      this.#params.set("tab", id);
      updateParams(Object.fromEntries(this.#params));
    });
    replaceContent(this.#body, this.#alarm, this.#cards, this.#tabs.list, this.#tabs.panel);
  }

  #tabItems() {
    const create = (View) => () => {
      const view = new View(this.#info, { params: this.#params, reload: () => this.#poller.run() });
      this.#views.push(view);
      return view;
    };
    const canList = canUse("get", "subscriptions/{}:dead-letters", this.#info);
    return [
      { id: "events", text: "Outstanding events", create: create(OutstandingEvents) },
      canList && { id: "dead", text: "Dead letters", create: create(DeadLetters) },
      { id: "consumers", text: "Consumers", create: create(ConsumersView) },
      { id: "settings", text: "Settings", create: create(SubscriptionSettings) },
    ].filter(Boolean);
  }

  #actionButtons() {
    const button = (text, open) =>
      h("button", { type: "button", onclick: () => open(this.#info, () => this.#poller.run()) }, text);
    return [
      canUse("post", "subscriptions/{}:seek", this.#info) ? button("Seek…", openSeek) : null,
      canUse("post", "subscriptions/{}:purge", this.#info) ? button("Purge…", openPurge) : null,
      canUse("delete", "subscriptions/{}", this.#info) ? button("Delete…", openDeleteSubscription) : null,
    ];
  }

  #cardElements() {
    const info = this.#info;
    const points = (name) => (this.#history ? historyPoints(this.#history, name) : []);
    const age = info.oldest_age_ms;
    const rate = (name) => (this.#rates ? formatRate(this.#rates[name]) : "–");
    const oldest = info.oldest ? positionLink(info.oldest) : "nothing outstanding";
    return [
      depthCard(info, this.#history),
      card("Oldest outstanding", age == null ? "–" : formatDuration(age), oldest, points("oldest_age_ms"), {
        format: formatDuration,
      }),
      card(
        "Acknowledged",
        rate("acked"),
        `${formatShort(info.acked)} since the start`,
        points("acked_per_s"),
        { format: formatRate },
      ),
      countersCard(info, rate),
    ];
  }
}

const activeText = ({ active_consumer: active }) => (active ? [", active: ", singleLine(active, 60)] : null);

/** How pushing the events to an endpoint goes. */
function pushLine({ delivered, failed, in_flight: inFlight, last_error: error }) {
  const text = `pushed: ${formatCount(delivered)}, failed ${formatCount(failed)}, ${inFlight} under way`;
  return [
    h("p.card-detail", {}, text),
    error ? h("p.card-detail.warn-text", { title: error }, singleLine(error, 200)) : null,
  ];
}

function topicLinks(topics) {
  const anchor = (topic) => h("a", { href: link(["topics", topic]) }, singleLine(topic, 80));
  const shown = topics.slice(0, 3).map((topic, i) => [i ? ", " : "", anchor(topic)]);
  return topics.length > 3 ? [shown, ` and ${topics.length - 3} more`] : shown;
}

const problemNotice = (problem) =>
  h("div.notice.bad", { role: "alert" }, icon("warn"), h("p", {}, singleLine(problem, 500)));

function card(title, value, detail, points, { format }) {
  const chart = sparkline(points, { label: title, format, height: 56, caption: true });
  return h(
    "section.card",
    {},
    h("h2.card-title", {}, title),
    h("p.card-value", {}, value),
    h("p.card-detail", {}, detail),
    chart,
  );
}

/** The depth by state, now and in the last 24 hours. */
function depthCard({ depth }, history) {
  const states = Object.keys(STATES);
  const shown = states.filter(
    (state) => depth[state] || state === "ready" || history?.[state].some((value) => value > 0),
  );
  const row = (state) => {
    const points = history ? historyPoints(history, state) : [];
    const chart = points.length > 1 ? sparkline(points, { label: `${state} in 24 hours`, height: 18 }) : null;
    return h(
      "li",
      { title: STATES[state] },
      h("span.state-word", {}, h(`i.state-${state}`), state),
      h("span.spark", {}, chart),
      h("span.num", {}, formatCount(depth[state])),
    );
  };
  return h(
    "section.card.depth-card",
    {},
    h("h2.card-title", {}, "Outstanding"),
    h("p.card-value", {}, formatCount(outstanding(depth))),
    depthBar(depth),
    h("ul.depths", {}, shown.map(row)),
  );
}

/** What became of deliveries since the counters began. */
function countersCard(info, rate) {
  const rows = [
    ["delivered", info.delivered, rate("delivered")],
    ["again", info.redelivered],
    ["given back", info.nacked],
    ["rejected", info.rejected],
    ["lock expired", info.expired],
    ["dead letters", info.dead_lettered],
    ["dropped", info.dropped],
    ["trimmed", info.trimmed],
    ["deleted soon", info.expiring],
    ["unreadable", info.unreadable],
  ].filter(([name, count], i) => count || i < 1 || name === "dead letters");
  const row = ([name, count, perSecond]) => [
    h("dt", {}, name),
    h("dd", {}, formatCount(count), perSecond ? h("span.muted", {}, ` ${perSecond}`) : null),
  ];
  return h(
    "section.card",
    {},
    h("h2.card-title", {}, "Since the start of the server"),
    h("dl.counters", {}, rows.map(row)),
    h("p.card-detail", {}, plural(info.consumers.length, "consumer"), " with events", activeText(info)),
    info.push ? pushLine(info.push) : null,
  );
}
