/** Resets the positions of a consumer group, and deletes a group. */

import { apiPath, post, remove } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { formatCount, plural } from "../lib/format.js";
import { navigate } from "../lib/router.js";
import { plainText, singleLine } from "../lib/text.js";
import { errorNotice, field, openDialog, showToast, table } from "./components.js";
import { IRREVERSIBLE, openDryRunDialog } from "./dry_run.js";

const MOVES_SHOWN = 200;
const TARGETS = [
  ["earliest", "the first stored event"],
  ["latest", "the end"],
  ["time", "a time"],
  ["age", "an age before now"],
  ["offset", "an offset"],
];
/** An example for each target that needs a value. */
const VALUE_EXAMPLES = { time: "2013-06-01T12:00:00Z", age: "10m", offset: "0" };

/** Ask where to move a group and move it. `reload()` is called after each change. */
export function openResetGroup(group, reload) {
  const target = targetFields();
  const topics = [...new Set(group.positions.map(({ topic }) => topic))];
  const checkboxes = topics.map((topic) => h("input", { type: "checkbox", checked: true, value: topic }));
  openDryRunDialog({
    title: `Reset ${plainText(group.group)}`,
    fields: [
      group.members.length ? activeWarning(group) : null,
      target.elements,
      topics.length > 1 ? topicChoices(topics, checkboxes) : null,
    ],
    inputs: [...target.inputs, ...checkboxes],
    verb: "Reset",
    buildRequest(dryRun) {
      const to = target.read();
      const selected = checkboxes.filter(({ checked }) => checked).map(({ value }) => value);
      return to && selected.length ? { to, topics: selected, dry_run: dryRun } : null;
    },
    send: (request) => post(apiPath("groups/{}/reset", group.group), request),
    describe: describeReset,
    onDone({ moves }) {
      const undone = moves.filter((move) => move.old != null && move.old !== move.new);
      const undo = { text: "Undo", run: () => undoReset(group, undone, reload) };
      showToast(`Reset ${group.group}`, { action: undone.length ? undo : null });
      reload();
    },
  });
}

/**
 * The choice of a target and its value: {elements, inputs, read()}; `read()` is empty while a value is
 * missing.
 */
function targetFields() {
  const target = h(
    "select",
    {},
    TARGETS.map(([name, text]) => h("option", { value: name }, text)),
  );
  const value = h("input", { spellcheck: "false", autocomplete: "off" });
  const valueField = h("div", { hidden: true }, field("Value", value));
  target.addEventListener("input", () => {
    const example = VALUE_EXAMPLES[target.value];
    valueField.hidden = !example;
    value.value = "";
    value.setAttribute("placeholder", example ?? "");
  });
  function read() {
    if (!VALUE_EXAMPLES[target.value]) return target.value;
    const text = value.value.trim();
    return target.value === "age" && text && !text.startsWith("-") ? `-${text}` : text;
  }
  return { elements: [field("Move to", target), valueField], inputs: [target, value], read };
}

function activeWarning({ members }) {
  const count = plural(members.length, "active member");
  return h("p.notice.warn", {}, `The group has ${count}. Stop them first: a group in use cannot be reset.`);
}

function topicChoices(topics, checkboxes) {
  const choices = topics.map((topic, i) => h("label.choice", {}, checkboxes[i], singleLine(topic, 100)));
  return h("fieldset.choices", {}, h("legend", {}, "Topics"), choices);
}

function describeReset({ again, passed_over: skipped, moves }) {
  const amount = (count, effect) =>
    count ? [h("strong", {}, plural(count, "event")), ` will ${effect}. `] : null;
  const columns = [
    { text: "Topic", cell: ({ topic }) => singleLine(topic, 80) },
    { text: "Partition", kind: "num", cell: ({ partition }) => partition },
    { text: "Now", kind: "num", cell: (move) => (move.old == null ? "none" : formatCount(move.old)) },
    { text: "After", kind: "num", cell: (move) => formatCount(move.new) },
  ];
  return [
    h(
      `p.notice${again || skipped ? ".warn" : ""}`,
      {},
      h(
        "span",
        {},
        amount(again, "be read again"),
        amount(skipped, "not be read"),
        again || skipped ? null : "No event will be read again or skipped.",
      ),
    ),
    table(columns, moves.slice(0, MOVES_SHOWN), "Positions after the reset"),
  ];
}

/** Move the positions back to where they were before a reset. */
async function undoReset(group, moves, reload) {
  try {
    for (const { topic, partition, old } of moves)
      await post(apiPath("groups/{}/reset", group.group), { to: String(old), topics: [topic], partition });
    showToast(`${plainText(group.group)} is back at its earlier positions`);
  } catch (error) {
    openDialog("The reset was not undone", errorNotice(error));
  }
  reload();
}

export function openDeleteGroup(group) {
  const effect = "A consumer that joins the group later starts where its own settings say. ";
  openDryRunDialog({
    title: `Delete ${plainText(group.group)}`,
    fields: h("p.above", {}, effect, h("strong", {}, IRREVERSIBLE)),
    inputs: [],
    verb: "Delete group",
    buildRequest: (dryRun) => ({ dry_run: dryRun }),
    send: (query) => remove(apiPath("groups/{}", group.group), query),
    describe: ({ positions }) =>
      h(
        "p.notice.warn",
        {},
        h("span", {}, "This will delete ", h("strong", {}, plural(positions, "position")), "."),
      ),
    onDone() {
      showToast(`Deleted ${group.group}`);
      navigate(["groups"]);
    },
  });
}
