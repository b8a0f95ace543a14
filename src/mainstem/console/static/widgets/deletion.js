/** Deletes events of a partition, and describes what a deletion removes. */

import { apiPath, post } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { formatBytes, formatCount, plural } from "../lib/format.js";
import { plainText } from "../lib/text.js";
import { formatTime } from "../lib/time.js";
import { field, showToast } from "./components.js";
import { IRREVERSIBLE, openDryRunDialog } from "./dry_run.js";

/** Ask for an offset and delete the events of a partition before it. */
export function openDeleteEvents(topic, { partition, begin, end }, reload) {
  const before = h("input", { type: "number", min: String(begin), max: String(end), value: String(end) });
  const stored = `The partition contains offsets ${formatCount(begin)} to ${formatCount(end - 1)}.`;
  openDryRunDialog({
    title: `Delete events of ${plainText(topic)}, partition ${partition}`,
    fields: [field("Delete all events before offset", before, stored), IRREVERSIBLE],
    inputs: [before],
    verb: "Delete events",
    buildRequest: (dryRun) =>
      before.value === "" ? null : { partition, before: Number(before.value), dry_run: dryRun },
    send: (request) => post(apiPath("topics/{}/delete-records", topic), request),
    describe: ({ gone }) => deletionNotice(gone),
    onDone({ gone }) {
      showToast(`Deleted ${plural(gone.events, "event")}`);
      reload();
    },
  });
}

/**
 * What a deletion removes: "This will delete 12 events, 3.1 GB; the oldest remaining event is from
 * 2013-05-02."
 */
export function deletionNotice({ events, bytes, oldest }) {
  if (!events && !bytes) return h("p.notice", {}, "This deletes nothing now.");
  const amount = [plural(events, "event"), bytes != null ? formatBytes(bytes) : null]
    .filter(Boolean)
    .join(", ");
  const remaining = oldest
    ? `; the oldest remaining event is from ${formatTime(Date.parse(oldest), { millis: false })}.`
    : "; no event remains.";
  return h("p.notice.warn", {}, h("span", {}, "This will delete ", h("strong", {}, amount), remaining));
}
