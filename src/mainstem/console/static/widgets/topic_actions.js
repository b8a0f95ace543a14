/** Creates and deletes topics, and adds partitions to one. */

import { apiPath, post, remove } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatBytes, plural } from "../lib/format.js";
import { navigate } from "../lib/router.js";
import { plainText } from "../lib/text.js";
import { errorNotice, field, openDialog, showToast } from "./components.js";
import { IRREVERSIBLE, openDryRunDialog } from "./dry_run.js";

const NAME_MAX = 249;
const RETENTIONS = [
  ["", "server default"],
  ["86400000", "1 day"],
  ["604800000", "7 days"],
  ["2592000000", "30 days"],
  ["-1", "forever"],
];
const KEY_ORDER_WARNING =
  "The number of partitions determines to which partition a key belongs. Later events of a key may go to" +
  " another partition than its earlier events, so that their order is lost.";

/** A dialog that sends one request and closes if it succeeds; `run()` sends it and reports success. */
function openRequestDialog(title, fields, text, run) {
  const message = h("div");
  async function send() {
    try {
      await run();
      return true;
    } catch (error) {
      replaceContent(message, errorNotice(error));
      return false;
    }
  }
  openDialog(title, [...fields, message], [{ text, kind: "primary", run: send }]);
}

export function openCreateTopic() {
  const name = h("input", {
    required: true,
    maxlength: String(NAME_MAX),
    spellcheck: "false",
    autocomplete: "off",
    placeholder: "orders.v1",
  });
  const partitions = h("input", { type: "number", min: "1", placeholder: "server default" });
  const retention = h(
    "select",
    {},
    RETENTIONS.map(([ms, text]) => h("option", { value: ms }, text)),
  );
  const fields = [
    field("Name", name, "Letters, digits, dot, underscore and hyphen"),
    field("Partitions", partitions, "The number can be increased later, but not decreased"),
    field("Retention", retention),
  ];
  openRequestDialog("New topic", fields, "Create topic", async () => {
    const topic = name.value.trim();
    await post("topics", {
      topic,
      ...(partitions.value ? { partitions: Number(partitions.value) } : {}),
      settings: retention.value ? { "retention.ms": retention.value } : {},
    });
    showToast(`Created ${topic}`);
    navigate(["topics", topic]);
  });
}

export function openAddPartitions({ topic, partitions }, reload) {
  const least = String(partitions.length + 1);
  const total = h("input", { type: "number", min: least, value: least });
  const hint = `The topic has ${plural(partitions.length, "partition")}. The number cannot be decreased.`;
  const fields = [field("Total number", total, hint), h("p.notice.warn", {}, KEY_ORDER_WARNING)];
  openRequestDialog("Add partitions", fields, "Add", async () => {
    await post(apiPath("topics/{}/partitions", topic), { total: Number(total.value) });
    showToast("Partitions added");
    reload();
  });
}

/** Delete a topic; its name must be typed. */
export function openDeleteTopic({ topic, bytes }) {
  const typedName = h("input", { autocomplete: "off", spellcheck: "false" });
  const isConfirmed = () => typedName.value.trim() === topic;
  const effect =
    "This deletes the events and settings of the topic and the positions of consumer groups in it." +
    " Its consumers and producers will fail. ";
  openDryRunDialog({
    title: "Delete the topic",
    fields: [
      h("p.above", {}, effect, h("strong", {}, IRREVERSIBLE)),
      field(`Type the name to confirm: ${plainText(topic)}`, typedName),
    ],
    inputs: [typedName],
    verb: "Delete topic",
    isConfirmed,
    buildRequest: (dryRun) => ({ dry_run: dryRun }),
    send: (query) => remove(apiPath("topics/{}", topic), query),
    describe: (reply) => describeDeletion(reply, bytes),
    onDone() {
      showToast(`Deleted ${topic}`);
      navigate(["topics"]);
    },
  });
}

function describeDeletion({ events, partitions }, bytes) {
  const amount = [plural(events, "event"), bytes != null ? formatBytes(bytes) : null]
    .filter(Boolean)
    .join(", ");
  const text = h(
    "span",
    {},
    "This will delete ",
    h("strong", {}, amount),
    ` in ${plural(partitions, "partition")}.`,
  );
  return h("p.notice.warn", {}, text);
}
