/** Creates, moves, purges and deletes subscriptions; each shows first what it would do. */

import { apiPath, post, remove } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { plural } from "../lib/format.js";
import { navigate } from "../lib/router.js";
import { plainText } from "../lib/text.js";
import { errorNotice, field, openDialog, showToast } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";
import { amountNotice } from "./subscription_events.js";

const NAME_MAX = 249;

export function openCreateSubscription(topic = "") {
  const input = (attributes) => h("input", { spellcheck: "false", autocomplete: "off", ...attributes });
  const name = input({ maxlength: String(NAME_MAX), placeholder: "billing" });
  const topics = input({ value: topic, placeholder: "orders, returns" });
  const filter = input({ placeholder: "country:DE AND total>100" });
  const start = h(
    "select",
    {},
    h("option", { value: "" }, "the oldest events"),
    h("option", { value: "1" }, "events published from now on"),
  );
  const keyOrder = h("input", { type: "checkbox" });
  const failures = input({ type: "number", min: "0", value: "5" });
  const dead = input({ placeholder: "orders-dead" });
  const message = h("div");
  async function create() {
    try {
      const subscription = name.value.trim();
      await post("subscriptions", {
        subscription,
        topics: topics.value.split(/[\s,]+/).filter(Boolean),
        settings: {
          filter: filter.value.trim(),
          from_latest: start.value === "1",
          in_key_order: keyOrder.checked,
          failures_max: Number(failures.value || 0),
          dead_letter_topic: dead.value.trim() || null,
        },
      });
      showToast(`Created ${subscription}`);
      navigate(["subscriptions", subscription]);
      return true;
    } catch (error) {
      replaceContent(message, errorNotice(error));
      return false;
    }
  }
  const fields = [
    field("Name", name, "Letters, digits, dot, underscore and hyphen"),
    field("Topics", topics, "They must exist"),
    field("Filter", filter, "A query; empty: every event. It cannot be changed later"),
    field("Begin with", start),
    h("label.choice", {}, keyOrder, "Deliver events of the same key in their order"),
    field("Failures until an event is given up", failures, "0: it is tried for ever"),
    field("Dead-letter topic", dead, "Empty: what is given up is dropped, and counted"),
    message,
  ];
  openDialog("New subscription", fields, [{ text: "Create", kind: "primary", run: create }]);
}

/** Ask where the subscription is to continue. */
export function openSeek({ subscription }, reload) {
  const target = h(
    "select",
    {},
    h("option", { value: "earliest" }, "the oldest event"),
    h("option", { value: "latest" }, "the end: only new events"),
    h("option", { value: "" }, "a time, an age or an event"),
  );
  const value = h("input", { placeholder: "2013-06-01T12:00Z, -10m or orders/0/17", spellcheck: "false" });
  const valueField = h("div", { hidden: true }, field("Place", value));
  target.addEventListener("input", () => {
    valueField.hidden = target.value !== "";
  });
  const effect =
    "Events before that place are done. Those after it are delivered as if they never were, also those that" +
    " consumers have now. No other subscription notices.";
  openDryRunDialog({
    title: `Seek ${plainText(subscription)}`,
    fields: [h("p.above", {}, effect), field("Continue at", target), valueField],
    inputs: [target, value],
    verb: "Seek",
    buildRequest(dryRun) {
      const to = target.value || value.value.trim();
      return to ? { to, dry_run: dryRun } : null;
    },
    send: (request) => post(apiPath("subscriptions/{}:seek", subscription), request),
    describe: ({ before, events }) =>
      h(
        "p.notice.warn",
        {},
        h(
          "span",
          {},
          h("strong", {}, plural(events, "event")),
          ` follow that place; now ${before} are outstanding.`,
        ),
      ),
    onDone({ events }) {
      showToast(`${subscription} continues with ${plural(events, "event")}`);
      reload();
    },
  });
}

export function openPurge({ subscription }, reload) {
  const effect =
    "All outstanding events are done, also those that consumers have and those that are to be dead letters." +
    " No event is deleted: seek brings them back.";
  openDryRunDialog({
    title: `Purge ${plainText(subscription)}`,
    fields: h("p.above", {}, effect),
    inputs: [],
    verb: "Purge",
    buildRequest: (dryRun) => ({ dry_run: dryRun }),
    send: (request) => post(apiPath("subscriptions/{}:purge", subscription), request),
    describe: ({ events }) => amountNotice("will be done", events),
    onDone({ events }) {
      showToast(`Purged ${plural(events, "event")}`);
      reload();
    },
  });
}

/** Delete a subscription; its name must be typed. */
export function openDeleteSubscription({ subscription }) {
  const typedName = h("input", { autocomplete: "off", spellcheck: "false" });
  const effect =
    "What the subscription knows is deleted: which events are done, failures, due times. Its workers fail." +
    " No event is deleted. This cannot be undone.";
  openDryRunDialog({
    title: "Delete the subscription",
    fields: [
      h("p.above", {}, effect),
      field(`Type the name to confirm: ${plainText(subscription)}`, typedName),
    ],
    inputs: [typedName],
    verb: "Delete subscription",
    isConfirmed: () => typedName.value.trim() === subscription,
    buildRequest: (dryRun) => ({ dry_run: dryRun }),
    send: (query) => remove(apiPath("subscriptions/{}", subscription), query),
    describe: ({ events }) => amountNotice("will not be delivered", events),
    onDone() {
      showToast(`Deleted ${subscription}`);
      navigate(["subscriptions"]);
    },
  });
}
