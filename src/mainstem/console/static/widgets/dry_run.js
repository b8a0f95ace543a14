/** Actions that change or remove: each shows first what it would do (a dry run by the server), then does it. */

import { path, post } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { dialog, field, problem, toast } from "./components.js";
import { bytes, count, many, moment, plain } from "../lib/text.js";

/**
 * A dialog whose button is enabled by a dry run of what is entered now.
 * `wanted(dryRun)` gives the request or null while something is missing; `send(request)` sends it; `ready()`: whether
 * nothing but a dry run is missing (a name that must be typed);
 * `told(reply)` describes a dry run's answer; `done(reply)` goes on after the deed.
 */
export function withDryRun({ title, fields, watch, verb, kind = "danger", wanted, send, told, done, ready = () => true }) {
  const said = h("div.preview", { role: "status" });
  let timer = 0;
  let asked = 0;
  let box = null;
  const button = () => box.querySelector(`.dialog-foot button.${kind}`);

  async function preview() {
    const mine = ++asked;
    button().disabled = true;
    const request = wanted(true);
    if (request == null) return put(said);
    try {
      const reply = await send(request);
      if (mine !== asked) return undefined;
      put(said, told(reply));
      button().disabled = !ready();
    } catch (error) {
      if (mine === asked) put(said, problem(error));
    }
    return undefined;
  }

  box = dialog(title, [fields, said], [{
    text: verb, kind,
    async run() {
      const request = wanted(false);
      if (request == null || !ready()) return false;
      try {
        done(await send(request));
        return true;
      } catch (error) {
        put(said, problem(error));
        return false;
      }
    },
  }]);
  for (const each of watch)
    each.addEventListener("input", () => {
      clearTimeout(timer);
      button().disabled = true;
      timer = setTimeout(preview, 250);
    });
  preview();
  return { box, preview };
}

/** Of what deletes. */
export const NO_WAY_BACK = "This cannot be undone.";

/** Delete the events of a partition before an offset. */
export function deleteRecords(topic, partition, reload) {
  const before = h("input", { type: "number", min: String(partition.begin), max: String(partition.end), value: String(partition.end) });
  withDryRun({
    title: `Delete events of ${plain(topic)}, partition ${partition.partition}`,
    fields: [field("Delete all before offset", before, `It holds ${count(partition.begin)} to ${count(partition.end)}, the end.`), NO_WAY_BACK],
    watch: [before],
    verb: "Delete events",
    wanted: (dryRun) => (before.value === "" ? null : { partition: partition.partition, before: Number(before.value), dry_run: dryRun }),
    send: (request) => post(path("topics/{}/delete-records", topic), request),
    told: ({ gone }) => goneNote([gone]),
    done({ gone }) {
      toast(`Deleted ${many(gone.events, "event")}`);
      reload();
    },
  });
}

/** What goes, of one or several partitions: "This will delete 3.1 GB, oldest kept 2013-05-02". */
export function goneNote(parts) {
  const events = parts.reduce((sum, each) => sum + each.events, 0);
  const size = parts.every((each) => each.bytes != null) ? parts.reduce((sum, each) => sum + each.bytes, 0) : null;
  if (!events && !size) return h("p.notice", {}, "This deletes nothing now.");
  const oldest = parts.map((each) => each.oldest).filter(Boolean).sort()[0];
  return h("p.notice.warn", {}, h("span", {},
    "This will delete ", h("strong", {}, [many(events, "event"), size != null ? bytes(size) : null].filter(Boolean).join(", ")),
    oldest ? `; the oldest that is kept is of ${moment(Date.parse(oldest), { millis: false })}.` : "; nothing is left."));
}
