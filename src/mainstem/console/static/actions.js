/** Actions that change or remove: each shows first what it would do (a dry run by the server), then does it. */

import { get, lines, path, post, stream } from "./api.js";
import { h, put } from "./dom.js";
import { dialog, field, problem, toast } from "./parts.js";
import { bytes, count, line, many, plain } from "./text.js";

/**
 * A dialog whose button is enabled by a dry run of what is entered now.
 * `wanted(dryRun)` gives the request or null while something is missing; `send(request)` sends it;
 * `told(reply)` describes a dry run's answer; `done(reply)` goes on after the deed.
 */
export function withDryRun({ title, fields, watch, verb, kind = "danger", wanted, send, told, done }) {
  const said = h("div.preview", { role: "status" });
  let timer = 0;
  let asked = 0;
  let box = null;
  const button = () => box.querySelector(`.dialog-foot button.${kind}`);

  async function preview() {
    const mine = ++asked;
    button().disabled = true;
    const request = wanted(true);
    if (!request) return put(said);
    try {
      const reply = await send(request);
      if (mine !== asked) return undefined;
      put(said, told(reply));
      button().disabled = false;
    } catch (error) {
      if (mine === asked) put(said, problem(error));
    }
    return undefined;
  }

  box = dialog(title, [fields, said], [{
    text: verb, kind,
    async run() {
      try {
        done(await send(wanted(false)));
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

/** Delete the events of a partition before an offset. */
export function deleteRecords(topic, partition, reload) {
  const before = h("input", { type: "number", min: String(partition.begin), max: String(partition.end), value: String(partition.end) });
  withDryRun({
    title: `Delete events of ${plain(topic)}, partition ${partition.partition}`,
    fields: field("Delete all before offset", before, `It holds ${count(partition.begin)} to ${count(partition.end)}, the end.`),
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
    oldest ? `; the oldest that is kept is of ${plain(oldest)}.` : "; nothing is left."));
}

// ------------------------------------------------------------------------------------------ replay, export

/** Publish events again: `what` is {matches: {query, topics, …}} or {events: [{topic, partition, offset}]}. */
export function replay(what) {
  const known = h("datalist", { id: "replay-topics" });
  const to = h("input", { list: "replay-topics", spellcheck: "false", autocomplete: "off", placeholder: "a topic that exists" });
  const rate = h("input", { type: "number", min: "1", max: "1000000", value: "1000" });
  const live = h("p.hint", { role: "status" });
  const stop = new AbortController();
  get("topics", { limit: 1000 }).then(({ topics }) => put(known, topics.map(({ topic }) => h("option", { value: topic }))), () => {});

  async function run(request) {
    let last = null;
    for await (const told of lines("replay", request, stop.signal)) {
      last = told;
      put(live, `${many(told.published, "event")} published`);
    }
    if (!last?.done) throw new Error("The connection was cut; what was published stays.");
    return last;
  }

  const { box } = withDryRun({
    title: what.events ? "Replay this event" : "Replay all matches",
    fields: [field("Into topic", to, "Key, value and headers stay; a header mainstem-replayed-from says where each is from."), known, field("Events a second, at most", rate), live],
    watch: [to, rate],
    verb: "Replay",
    kind: "primary",
    wanted: (dryRun) => (to.value.trim() && Number(rate.value) >= 1 ? { ...what, to: to.value.trim(), rate: Number(rate.value), dry_run: dryRun } : null),
    send: (request) => (request.dry_run ? post("replay", request, stop.signal) : run(request)),
    told: ({ events, to: topic }) => h("p.notice", {}, h("span", {}, h("strong", {}, many(events, "event")), " will be published into ", line(topic, 100), `, in about ${Math.max(1, Math.ceil(events / Number(rate.value)))} s.`)),
    done: ({ published, to: topic }) => toast(`Published ${many(published, "event")} into ${topic}`),
  });
  box.addEventListener("close", () => stop.abort());
}

/** All matches into a file of the reader's. `matches` is {query, topics, since_ms?, until_ms?}. */
export function exportMatches(matches) {
  const format = h("select", {}, h("option", { value: "ndjson" }, "NDJSON: everything, one event a line"), h("option", { value: "csv" }, "CSV: without headers of events"));
  const live = h("p.hint", { role: "status" });
  const stop = new AbortController();

  async function run(wanted) {
    const source = await stream("export", wanted, stop.signal);
    let size = 0;
    const counted = source.pipeThrough(new TransformStream({
      transform(chunk, out) {
        size += chunk.length;
        live.textContent = `${bytes(size)} written`;
        out.enqueue(chunk);
      },
    }));
    const file = h("a", { href: URL.createObjectURL(await new Response(counted).blob()), download: `events.${wanted.format}` });
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 60_000);
    return size;
  }

  const { box } = withDryRun({
    title: "Export all matches",
    fields: [field("Format", format), live],
    watch: [format],
    verb: "Export",
    kind: "primary",
    wanted: (dryRun) => (dryRun ? { ...matches, only_count: true } : { ...matches, format: format.value }),
    send: (request) => (request.only_count ? counting(request, stop.signal) : run(request)),
    told: (totals) => h("p.notice", {}, h("span", {}, h("strong", {}, many(totals.matches, "event")), " will be written.", totals.undecodable ? ` ${many(totals.undecodable, "stretch")} could not be read.` : "")),
    done: (size) => toast(`Exported ${bytes(size)}`),
  });
  box.addEventListener("close", () => stop.abort());
}

async function counting(request, signal) {
  let totals = null;
  for await (const told of lines("search", request, signal)) if (told.done) totals = told.done.totals;
  if (!totals) throw new Error("The search was cut off.");
  return totals;
}
