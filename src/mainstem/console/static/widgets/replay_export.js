/** Taking events elsewhere: publishing them again (also changed), and into a file of the reader's. */

import { withDryRun } from "./dry_run.js";
import { choices, get, lines, path, post, stream } from "../lib/api.js";
import { difference, diffView } from "../lib/diff.js";
import { h, put } from "../lib/dom.js";
import { dialog, field, iconButton, loading, problem, toast } from "./components.js";
import { parseJson, read, writeJson } from "../lib/payload.js";
import { go } from "../lib/router.js";
import { bytes, line, many, plain } from "../lib/text.js";

const FORMATS = {
  ndjson: "NDJSON: everything, one event a line",
  csv: "CSV: without headers of events",
  parquet: "Parquet: everything, for tables",
};

const placed = ({ topic, partition, offset }) => ({ topic, partition, offset });

/** A field for a topic that exists, with the names of those there are. */
function topicField(first = "") {
  const known = h("datalist", { id: "target-topics" });
  const input = h("input", { list: "target-topics", value: first, spellcheck: "false", autocomplete: "off", placeholder: "a topic that exists" });
  get("topics", { limit: 1000 }).then(({ topics }) => put(known, topics.map(({ topic }) => h("option", { value: topic }))), () => {});
  return { input, known };
}

/** Sends a replay; `live` shows how far it is. Broken off, it goes on with the same job when it is sent again. */
function sender(live, signal) {
  let job = null;
  let from = "";
  return async function send(request) {
    const same = JSON.stringify(request, (_name, each) => (typeof each === "bigint" ? String(each) : each));
    let last = null;
    if (request.dry_run) return post("replay", request, signal);
    try {
      for await (const told of lines("replay", job && from === same ? { ...request, job } : request, signal)) {
        last = told;
        [job, from] = [told.job ?? null, same];
        put(live, `${many(told.published, "event")} published`, told.published_before ? `, ${many(told.published_before, "event")} before` : "");
      }
    } catch (error) {
      if (job && error.fix !== undefined) error.fix = `${error.fix} What was published stays; pressed again, this goes on where it was.`.trim();
      throw error;
    }
    if (!last?.done) throw new Error("The connection was cut. What was published stays; pressed again, this goes on where it was.");
    return last;
  };
}

/** What can be done about a replay afterwards. */
function replayed({ published, published_before: before = 0, to, job }) {
  const there = job ? { text: "Show them", run: () => go(["search"], { q: `header.mainstem-replay-job:${job}*`, topics: to }) } : null;
  toast(`Published ${many(published + before, "event")} into ${to}`, "", there);
}

/** Publish events again: `what` is {matches: {query, topics, …}} or {events: [event, …]}. */
export function replay({ matches, events }) {
  const what = events ? { events: events.map(placed) } : { matches };
  const to = topicField();
  const rate = h("input", { type: "number", min: "1", max: "1000000", value: "1000" });
  const live = h("p.hint", { role: "status" });
  const stop = new AbortController();
  const title = !events ? "Replay all matches" : events.length === 1 ? "Replay this event" : `Replay ${many(events.length, "event")}`;
  const { box } = withDryRun({
    title,
    fields: [
      field("Into topic", to.input, "Key, value and headers stay; a header mainstem-replayed-from says where each is from."), to.known,
      field("Events a second, at most", rate), live,
    ],
    watch: [to.input, rate],
    verb: "Replay",
    kind: "primary",
    wanted: (dryRun) => (to.input.value.trim() && Number(rate.value) >= 1 ? { ...what, to: to.input.value.trim(), rate: Number(rate.value), dry_run: dryRun } : null),
    send: sender(live, stop.signal),
    told: ({ events: count, unreadable, to: topic }) => [
      h("p.notice", {}, h("span", {}, h("strong", {}, many(count, "event")), " will be published into ", line(topic, 100), `, in about ${Math.max(1, Math.ceil(count / Number(rate.value)))} s. `, STAYS)),
      unreadable ? h("p.notice.warn", {}, `${many(unreadable, "stretch")} could not be read and would be left out.`) : null,
    ],
    done: replayed,
  });
  box.addEventListener("close", () => stop.abort());
}

const STAYS = "What is published stays: that cannot be undone.";

// ------------------------------------------------------------------------------------------ changed

/** Publish one event again after changing its key, value or headers: the original is shown beside the change. */
export async function resend(event) {
  const box = dialog("Edit and publish again", loading("Reading the event"));
  const stop = new AbortController();
  box.addEventListener("close", () => stop.abort());
  try {
    const { events: [found] } = await get(path("topics/{}/partitions/{}/events", event.topic, event.partition), { offset: event.offset, limit: 1, encoding: "base64" }, stop.signal);
    if (String(found?.offset) !== String(event.offset)) throw new Error("It is no longer in the topic.");
    box.close();
    edit(event, { key: read(found, "key"), value: read(found, "value") });
  } catch (error) {
    if (error.name !== "AbortError") put(box.querySelector(".dialog-body"), problem(error));
  }
}

const isText = ({ bytes: data }) => {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return null;
  }
};

/** A field for a key or a value: {element, input, inputs, change()}; `change()` is undefined while it is as it was. */
function content(label, was, rows, ...tools) {
  const text = isText(was);
  const none = was.kind === "null";
  const input = h(rows > 1 ? "textarea" : "input", { rows: rows > 1 ? rows : null, value: text ?? "", spellcheck: "false", autocomplete: "off", disabled: text === null });
  const empty = h("input", { type: "checkbox", checked: none });
  const follow = () => (input.disabled = text === null || empty.checked);
  empty.addEventListener("input", follow);
  follow();
  const element = field(label, input, text === null ? `${bytes(was.bytes.length)} that are not text: they stay as they are.` : null);
  element.querySelector("label").replaceWith(h("div.field-line", {}, h("label", { for: input.id }, label), tools, h("label.check", {}, empty, `no ${label.toLowerCase()}`)));
  function change() {
    if (empty.checked) return none ? undefined : null;
    return text === null || (!none && input.value === text) ? undefined : input.value;
  }
  return { element, input, inputs: [input, empty], change };
}

/** Rows of names and values: {element, inputs, change()}. What is not text stays as it is. */
function headerRows(first, changed) {
  const rows = h("div.header-rows");
  const original = JSON.stringify(first);
  let held = [];

  function add({ name = "", value = "", value_encoding: encoding } = {}) {
    const binary = encoding === "base64" || value === null;
    const fields = {
      name: h("input", { value: name, "aria-label": "Name of the header", placeholder: "name", spellcheck: "false", autocomplete: "off", oninput: changed }),
      value: h("input", { value: binary ? "" : value, "aria-label": "Value of the header", placeholder: value === null ? "null" : binary ? "not text: stays as it is" : "value", disabled: binary, spellcheck: "false", autocomplete: "off", oninput: changed }),
    };
    const one = { now: () => (binary ? { name: fields.name.value, value, ...(encoding ? { value_encoding: encoding } : {}) } : { name: fields.name.value, value: fields.value.value, ...(encoding ? { value_encoding: encoding } : {}) }) };
    const node = h("div.header-row", {}, fields.name, fields.value, iconButton("minus", "Remove this header", () => {
      held = held.filter((each) => each !== one);
      node.remove();
      changed();
    }));
    held.push(one);
    rows.append(node);
    return fields.name;
  }

  first.forEach(add);
  const element = h("fieldset.plain", {}, h("legend", {}, "Headers"), rows,
    h("button.quiet", { type: "button", onclick: () => add().focus() }, "Add a header"));
  function change() {
    const now = held.map((each) => each.now()).filter((each) => each.name);
    return JSON.stringify(now) === original ? undefined : now;
  }
  return { element, change };
}

function edit(event, was) {
  const to = topicField(event.topic);
  const key = content("Key", was.key, 1);
  const indent = h("button.link", { type: "button", onclick: indented }, "indent");
  const value = content("Value", was.value, 9, indent);
  const live = h("p.hint", { role: "status" });
  const stop = new AbortController();
  const headers = headerRows(event.headers, () => to.input.dispatchEvent(new Event("input")));
  indent.hidden = value.input.disabled || /\d{16}/.test(value.input.value); // numbers too long for a browser would not stay

  function indented() {
    try {
      value.input.value = JSON.stringify(JSON.parse(value.input.value), null, 2);
      value.input.dispatchEvent(new Event("input"));
    } catch (error) {
      toast(`This is not JSON: ${error.message}`, "bad");
    }
  }

  function changes() {
    const all = { key: key.change(), value: value.change(), headers: headers.change() };
    return Object.fromEntries(Object.entries(all).filter(([, each]) => each !== undefined));
  }
  const { box } = withDryRun({
    title: "Edit and publish again",
    fields: h("div", {},
      field("Into topic", to.input, `The original is ${plain(event.topic)} ${event.partition}:${event.offset} and stays as it is; a header mainstem-replayed-from says so.`), to.known,
      key.element, value.element, headers.element, live),
    watch: [to.input, ...key.inputs, ...value.inputs],
    verb: "Publish",
    kind: "primary",
    wanted(dryRun) {
      const changed = changes();
      const how = changed.value != null ? { value_encoding: "text" } : {};
      return to.input.value.trim() ? { events: [{ ...placed(event), ...changed, ...how }], to: to.input.value.trim(), dry_run: dryRun } : null;
    },
    send: sender(live, stop.signal),
    told: ({ to: topic }) => sayChanges(changes(), was, topic),
    done: replayed,
  });
  box.classList.add("wide");
  box.addEventListener("close", () => stop.abort());
}

/** The difference of two texts; of JSON, of what it says, if that differs at all. */
function differing(before, after) {
  try {
    const [one, other] = [before, after].map((text) => ({ kind: "json", json: parseJson(text) }));
    const steps = difference(one, other);
    if (steps?.some(([kind]) => kind !== "same")) return steps;
  } catch {
    // no JSON: as text
  }
  return difference({ kind: "text", text: before }, { kind: "text", text: after });
}

function sayChanges(changed, was, topic) {
  const names = Object.keys(changed);
  const steps = typeof changed.value === "string" ? differing(isText(was.value) ?? "", changed.value) : null;
  return [
    h("p.notice", {}, h("span", {}, "One event will be published into ", line(topic, 100), names.length ? [", with another ", h("strong", {}, names.join(", "))] : ", as it was", ". ", STAYS)),
    steps ? diffView(steps) : null,
  ];
}

// ------------------------------------------------------------------------------------------ into a file

function save(blob, name) {
  const file = h("a", { href: URL.createObjectURL(blob), download: name });
  file.click();
  setTimeout(() => URL.revokeObjectURL(file.href), 60_000);
}

/** The events that are chosen, as the server sends them: a line of JSON each. */
export function exportChosen(events) {
  const blob = new Blob(events.map((event) => `${writeJson(event, true)}\n`), { type: "application/x-ndjson" });
  save(blob, "events.ndjson");
  toast(`Exported ${many(events.length, "event")}`);
}

/** All matches into a file of the reader's. `matches` is {query, topics, since_ms?, until_ms?}. */
export function exportMatches(matches) {
  const offered = choices("ExportJson", "format");
  const format = h("select", {}, Object.entries(FORMATS).filter(([value]) => offered.includes(value)).map(([value, text]) => h("option", { value }, text)));
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
    save(await new Response(counted).blob(), `events.${wanted.format}`);
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
