/** Replays events into a topic, and exports them to a file. */

import { allowedValues, get, post, streamBytes, streamLines } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { formatBytes, plural } from "../lib/format.js";
import { writeJson } from "../lib/payload.js";
import { navigate } from "../lib/router.js";
import { singleLine } from "../lib/text.js";
import { field, showToast } from "./components.js";
import { openDryRunDialog } from "./dry_run.js";

const TOPIC_SUGGESTIONS_MAX = 1000;
const DEFAULT_RATE_PER_S = 1000;
const DOWNLOAD_MS = 60_000;
const RESUMABLE = "Events published so far stay in the topic. Press the button again to continue from there.";

/** Part of the text of every action that publishes. */
export const PUBLISHED_STAYS = "Published events cannot be withdrawn.";

/** What identifies an event in a request. */
export const eventReference = ({ topic, partition, offset }) => ({ topic, partition, offset });

// ------------------------------------------------------------------------------------------ replay

/** A text field for an existing topic with suggestions: {input, suggestions}. */
export function topicField(topic = "") {
  const suggestions = h("datalist", { id: "target-topics" });
  const input = h("input", {
    list: suggestions.id,
    value: topic,
    spellcheck: "false",
    autocomplete: "off",
    placeholder: "an existing topic",
  });
  const option = ({ topic: name }) => h("option", { value: name });
  get("topics", { limit: TOPIC_SUGGESTIONS_MAX }).then(
    ({ topics }) => replaceContent(suggestions, topics.map(option)),
    () => {}, // the field works without suggestions
  );
  return { input, suggestions };
}

/**
 * Sends a replay and shows its progress. Sent again after an interruption, the same request continues its
 * job.
 */
export class ReplaySender {
  #job = null;
  #jobRequest = "";
  #abort = new AbortController();
  /** The line that shows the progress. */
  progress = h("p.hint", { role: "status" });

  /** Stop a replay in progress. */
  close() {
    this.#abort.abort();
  }

  /** Returns the last line of the reply, or the whole reply of a dry run. */
  async send(request) {
    if (request.dry_run) return post("replay", request, this.#abort.signal);
    let last = null;
    try {
      for await (last of streamLines("replay", this.#withJob(request), this.#abort.signal))
        this.#showProgress(request, last);
    } catch (error) {
      if (this.#job && error.fix !== undefined) error.fix = `${error.fix} ${RESUMABLE}`.trim();
      throw error;
    }
    if (!last?.done) throw new Error(`The connection was lost. ${RESUMABLE}`);
    return last;
  }

  #withJob(request) {
    return this.#job && this.#jobRequest === writeJson(request, true)
      ? { ...request, job: this.#job }
      : request;
  }

  #showProgress(request, { job, published, published_before: before }) {
    this.#job = job ?? null;
    this.#jobRequest = writeJson(request, true);
    const earlier = before ? `, ${plural(before, "event")} before the interruption` : "";
    replaceContent(this.progress, `${plural(published, "event")} published${earlier}`);
  }
}

/** Report the end of a replay, with a link to what it published. */
export function showReplayed({ published, published_before: before = 0, to, job }) {
  const query = { q: `header.mainstem-replay-job:${job}*`, topics: to };
  const action = job ? { text: "Show events", run: () => navigate(["search"], query) } : null;
  showToast(`Published ${plural(published + before, "event")} to ${to}`, { action });
}

/** Replay single events: asks for the target first. */
export function replayEvents(events) {
  const title = events.length === 1 ? "Replay this event" : `Replay ${plural(events.length, "event")}`;
  openReplay(title, { events: events.map(eventReference) });
}

/** Replay all matches of a search {query, topics, since_ms?, until_ms?}: asks for the target first. */
export function replayMatches(matches) {
  openReplay("Replay all matches", { matches });
}

function openReplay(title, source) {
  const target = topicField();
  const rate = h("input", { type: "number", min: "1", max: "1000000", value: String(DEFAULT_RATE_PER_S) });
  const sender = new ReplaySender();
  const hint = "Key, value and headers are kept. The header mainstem-replayed-from names the original event.";
  const dialog = openDryRunDialog({
    title,
    fields: [
      field("Target topic", target.input, hint),
      target.suggestions,
      field("Maximum events per second", rate),
      sender.progress,
    ],
    inputs: [target.input, rate],
    verb: "Replay",
    kind: "primary",
    buildRequest(dryRun) {
      const to = target.input.value.trim();
      if (!to || !(Number(rate.value) >= 1)) return null;
      return { ...source, to, rate: Number(rate.value), dry_run: dryRun };
    },
    send: (request) => sender.send(request),
    describe: (reply) => describeReplay(reply, Number(rate.value)),
    onDone: showReplayed,
  });
  dialog.addEventListener("close", () => sender.close());
}

function describeReplay({ events, unreadable, to }, ratePerSecond) {
  const seconds = Math.max(1, Math.ceil(events / ratePerSecond));
  const omitted = `${plural(unreadable, "unreadable range")} will be left out.`;
  return [
    h(
      "p.notice",
      {},
      h(
        "span",
        {},
        h("strong", {}, plural(events, "event")),
        " will be published to ",
        singleLine(to, 100),
        `, in about ${seconds} s. ${PUBLISHED_STAYS}`,
      ),
    ),
    unreadable ? h("p.notice.warn", {}, omitted) : null,
  ];
}

// ------------------------------------------------------------------------------------------ export

const FORMATS = {
  ndjson: "NDJSON: all fields, one event per line",
  csv: "CSV: without event headers",
  parquet: "Parquet: all fields, as a table",
};

function saveFile(blob, name) {
  const file = h("a", { href: URL.createObjectURL(blob), download: name });
  file.click();
  setTimeout(() => URL.revokeObjectURL(file.href), DOWNLOAD_MS);
}

/** Export single events as the server sent them, one JSON object per line. */
export function exportEvents(events) {
  const lines = events.map((event) => `${writeJson(event, true)}\n`);
  saveFile(new Blob(lines, { type: "application/x-ndjson" }), "events.ndjson");
  showToast(`Exported ${plural(events.length, "event")}`);
}

/** Export all matches of a search {query, topics, since_ms?, until_ms?}: asks for the format first. */
export function exportMatches(matches) {
  const offered = Object.entries(FORMATS).filter(([name]) =>
    allowedValues("ExportJson", "format").includes(name),
  );
  const format = h(
    "select",
    {},
    offered.map(([name, text]) => h("option", { value: name }, text)),
  );
  const progress = h("p.hint", { role: "status" });
  const abort = new AbortController();
  const dialog = openDryRunDialog({
    title: "Export all matches",
    fields: [field("Format", format), progress],
    inputs: [format],
    verb: "Export",
    kind: "primary",
    buildRequest: (dryRun) =>
      dryRun ? { ...matches, only_count: true } : { ...matches, format: format.value },
    send: (request) =>
      request.only_count ? countMatches(request, abort.signal) : download(request, progress, abort.signal),
    describe: describeExport,
    onDone: (size) => showToast(`Exported ${formatBytes(size)}`),
  });
  dialog.addEventListener("close", () => abort.abort());
}

function describeExport({ matches, undecodable }) {
  const omitted = undecodable ? ` ${plural(undecodable, "unreadable range")} will be left out.` : "";
  const amount = h("strong", {}, plural(matches, "event"));
  return h("p.notice", {}, h("span", {}, amount, " will be exported.", omitted));
}

/** Write the export into a file of the reader's; returns its size in bytes. */
async function download(request, progress, signal) {
  const source = await streamBytes("export", request, signal);
  let size = 0;
  const counter = new TransformStream({
    transform(chunk, controller) {
      size += chunk.length;
      progress.textContent = `${formatBytes(size)} received`;
      controller.enqueue(chunk);
    },
  });
  saveFile(await new Response(source.pipeThrough(counter)).blob(), `events.${request.format}`);
  return size;
}

/** The totals of a search. */
async function countMatches(request, signal) {
  for await (const { done } of streamLines("search", request, signal)) if (done) return done.totals;
  throw new Error("The connection was lost while the matches were counted.");
}
