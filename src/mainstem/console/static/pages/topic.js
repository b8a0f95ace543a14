/** One topic: live tail, partitions, settings, publishing a test event, and what deletes. */

import { can, get, patch, path, post, remove } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { deleteRecords, goneNote, NO_WAY_BACK, withDryRun } from "../widgets/dry_run.js";
import { dialog, empty, field, loading, problem, table, tabs, toast } from "../widgets/components.js";
import { go, link, update } from "../lib/router.js";
import { bytes, count, duration, line, many, plain } from "../lib/text.js";
import { tail } from "../widgets/live_tail.js";

export function topicPage([, name], params) {
  const stop = new AbortController();
  const body = h("div.page-body.flush", {}, loading("Loading the topic"));
  const facts = h("span.muted");
  const actions = h("div.actions");
  const element = h("div", {},
    h("div.page-head", {},
      h("h1", {}, h("span.crumb", {}, h("a", { href: link(["topics"]) }, "Topics"), " / "), line(name, 249)),
      facts, h("span.spacer"), actions),
    body);
  let tabbed = null;

  async function load() {
    try {
      draw(await get(path("topics/{}", name), null, stop.signal));
    } catch (error) {
      if (error.name !== "AbortError") put(body, problem(error, load));
    }
  }

  function draw(topic) {
    const events = topic.partitions.reduce((sum, each) => sum + each.end - each.begin, 0);
    put(facts, [many(events, "event"), topic.bytes != null ? bytes(topic.bytes) : null, many(topic.partitions.length, "partition")].filter(Boolean).join(" · "),
      topic.internal ? h("span.tag", {}, "internal") : null);
    put(actions,
      can("post", "search") ? h("a.button", { href: link(["search"], { topics: name }) }, "Search") : null,
      can("delete", "topics/{}") && !topic.internal ? h("button", { type: "button", onclick: () => deleteTopic(topic) }, "Delete…") : null);
    tabbed?.close();
    const openTab = params.get("tab") ?? "tail";
    tabbed = tabs([
      can("get", "topics/{}/tail") ? { id: "tail", text: "Live tail", make: () => tail(name) } : null,
      { id: "partitions", text: "Partitions", make: () => partitions(topic, load) },
      { id: "settings", text: "Settings", make: () => settings(topic, load) },
      can("post", "topics/{}/events") && !topic.internal ? { id: "publish", text: "Publish", make: () => publish(topic) } : null,
    ].filter(Boolean), openTab, (id) => {
      params.set("tab", id);
      update({ tab: id });
    });
    put(body, tabbed.list, tabbed.panel);
  }

  load();
  return {
    title: name,
    element,
    close() {
      stop.abort();
      tabbed?.close();
    },
  };
}

// ------------------------------------------------------------------------------------------ partitions

function partitions(topic, reload) {
  const sized = topic.partitions.some((each) => each.bytes != null);
  const copies = topic.partitions.some((each) => each.replicas?.length > 1);
  const deletes = can("post", "topics/{}/delete-records") && !topic.internal;
  return h("div.stack", {},
    can("post", "topics/{}/partitions") && !topic.internal
      ? h("div.bar", {}, h("button", { type: "button", onclick: () => addPartitions(topic, reload) }, "Add partitions…")) : null,
    table([
      { text: "Partition", kind: "num", cell: (each) => each.partition },
      { text: "First offset", kind: "num", cell: (each) => count(each.begin) },
      { text: "End", kind: "num", cell: (each) => count(each.end) },
      { text: "Events", kind: "num", cell: (each) => count(each.end - each.begin) },
      sized ? { text: "Size", kind: "num", cell: (each) => bytes(each.bytes) } : null,
      { text: "Leader", kind: "num", cell: (each) => (each.leader < 0 ? h("span.tag.bad", {}, "none") : each.leader) },
      copies ? { text: "In sync", cell: (each) => `${each.in_sync.length} of ${each.replicas.length}` } : null,
      deletes ? { text: "", kind: "num", cell: (each) => (each.end > each.begin ? h("button.quiet", { type: "button", onclick: () => deleteRecords(topic.topic, each, reload) }, "Delete events…") : "") } : null,
    ].filter(Boolean), topic.partitions, "Partitions"));
}

function addPartitions(topic, reload) {
  const total = h("input", { type: "number", min: String(topic.partitions.length + 1), value: String(topic.partitions.length + 1) });
  const said = h("div");
  dialog("Add partitions", [
    field("How many in all", total, `There are ${topic.partitions.length}. The number can never go down.`),
    h("p.notice.warn", {}, "Events with a key go to a partition by their key: from now on a key may go to another one, so its order over the change is lost."),
    said,
  ], [{
    text: "Add", kind: "primary",
    async run() {
      try {
        await post(path("topics/{}/partitions", topic.topic), { total: Number(total.value) });
      } catch (error) {
        put(said, problem(error));
        return false;
      }
      toast("Partitions added");
      reload();
      return true;
    },
  }]);
}

function deleteTopic(topic) {
  const typed = h("input", { autocomplete: "off", spellcheck: "false" });
  withDryRun({
    title: "Delete the topic",
    fields: [h("p.above", {}, "Its events, its settings and what groups have read of it go. Consumers of it will fail. ", h("strong", {}, NO_WAY_BACK)), field(`Type its name to go on: ${plain(topic.topic)}`, typed)],
    watch: [typed],
    verb: "Delete topic",
    wanted: (dryRun) => (dryRun || typed.value.trim() === topic.topic ? dryRun : null),
    ready: () => typed.value.trim() === topic.topic,
    send: (dryRun) => remove(path("topics/{}", topic.topic), { dry_run: dryRun }),
    told: ({ events, partitions: count }) => h("p.notice.warn", {}, h("span", {}, "This will delete ", h("strong", {}, [many(events, "event"), topic.bytes != null ? bytes(topic.bytes) : null].filter(Boolean).join(", ")), ` in ${many(count, "partition")}.`)),
    done() {
      toast(`Deleted ${topic.topic}`);
      go(["topics"]);
    },
  });
}

// ------------------------------------------------------------------------------------------ settings

const AGES = [["3600000", "1 hour"], ["86400000", "1 day"], ["259200000", "3 days"], ["604800000", "7 days"], ["2592000000", "30 days"], ["31536000000", "1 year"], ["-1", "for ever"]];

/** A setting's value for people: 604800000 ms is 7 d. */
function meaning({ name, value }) {
  if (value == null || value === "" || Number(value) < -1) return "";
  if (value === "9223372036854775807") return "no limit";
  if (/\.ms$/.test(name)) return value === "-1" ? "for ever" : BigInt(value) > 3_155_760_000_000n ? "no limit" : duration(Number(value));
  if (/bytes$/.test(name)) return value === "-1" ? "no limit" : Number(value) < 1000 ? "" : bytes(Number(value));
  return "";
}

function settings(topic, reload) {
  const alters = can("patch", "topics/{}/settings") && !topic.internal;
  const filter = h("input.filter", { type: "search", placeholder: "Filter settings", "aria-label": "Filter settings", oninput: draw });
  const rows = h("div");
  function draw() {
    const word = filter.value.trim().toLowerCase();
    const shown = topic.settings.filter((each) => each.name.includes(word) || (each.doc ?? "").toLowerCase().includes(word)).sort((a, b) => a.is_default - b.is_default);
    put(rows, shown.length ? table([
      { text: "Setting", cell: (each) => [h("code", {}, line(each.name)), each.doc ? h("p.hint", {}, each.doc) : null] },
      { text: "Value", kind: "value", cell: (each) => [h("code", {}, line(each.value ?? "null", 120)), meaning(each) ? h("span.muted", {}, ` ${meaning(each)}`) : null] },
      { text: "From", cell: (each) => (each.is_default ? h("span.muted", {}, "default") : h("span.tag.ok", {}, "set here")) },
      alters ? { text: "", kind: "num", cell: (each) => (each.read_only ? "" : h("button.quiet", { type: "button", onclick: () => alter(topic, each, reload) }, "Change…")) } : null,
    ].filter(Boolean), shown, "Settings") : empty("No setting has this in its name"));
  }
  draw();
  return h("div.stack", {}, h("div.bar", {}, filter), rows);
}

function alter(topic, setting, reload) {
  const value = h("input", { value: setting.value ?? "", spellcheck: "false", autocomplete: "off", oninput: changed });
  const ages = setting.name === "retention.ms"
    ? h("div.chips", {}, AGES.map(([ms, text]) => h("button.quiet", { type: "button", onclick: () => ((value.value = ms), changed()) }, text))) : null;
  const said = h("div.preview", { role: "status" });
  const means = h("span.hint");
  const bounds = [setting.valid ?? "", setting.default != null && setting.default !== "" ? `Default: ${setting.default}` : ""].filter(Boolean).join(". ");
  let timer = 0;
  let asked = 0;

  function changed() {
    means.textContent = meaning({ name: setting.name, value: /^-?\d+$/.test(value.value.trim()) ? value.value.trim() : "" });
    clearTimeout(timer);
    timer = setTimeout(preview, 200);
  }
  const wanted = (reset) => ({ settings: { [setting.name]: reset ? null : value.value.trim() } });

  async function preview(reset = false) {
    if (!can("post", "topics/{}/settings/preview")) return;
    const mine = ++asked;
    try {
      const reply = await post(path("topics/{}/settings/preview", topic.topic), wanted(reset));
      if (mine === asked) put(said, goneNote([reply]), reply.exact || !reply.events ? null : h("p.hint", {}, "Judged by the times of the events. Whole files go, so it may be less."));
    } catch (error) {
      if (mine === asked) put(said, problem(error));
    }
  }

  const save = (reset) => async () => {
    try {
      await patch(path("topics/{}/settings", topic.topic), wanted(reset));
    } catch (error) {
      put(said, problem(error));
      return false;
    }
    toast(`${setting.name}: ${reset ? "back to the default" : "changed"}`, "", { text: "Undo", run: undo });
    reload();
    return true;
  };

  async function undo() {
    try {
      await patch(path("topics/{}/settings", topic.topic), { settings: { [setting.name]: setting.is_default ? null : setting.value } });
      toast(`${setting.name} is as it was; what was deleted in between stays deleted`);
    } catch (error) {
      dialog("The setting was not put back", problem(error));
    }
    reload();
  }

  dialog(setting.name, [setting.doc ? h("p.above", {}, setting.doc) : null, field("Value", value, bounds), means, ages, said], [
    setting.is_default ? null : { text: "Back to the default", run: save(true) },
    { text: "Change", kind: "primary", run: save(false) },
  ].filter(Boolean));
  changed();
}

// ------------------------------------------------------------------------------------------ publish

function publish(topic) {
  const key = h("input", { spellcheck: "false", autocomplete: "off", placeholder: "no key" });
  const value = h("textarea", { rows: "9", spellcheck: "false" }, '{"hello": "world"}');
  const headers = h("textarea", { rows: "2", spellcheck: "false", placeholder: "name: value, one a line" });
  const partition = h("select", {}, h("option", { value: "" }, "by the key"), topic.partitions.map((each) => h("option", { value: String(each.partition) }, each.partition)));
  const kind = h("span.hint", { role: "status" });
  const said = h("div.stack", { role: "status" });
  const judge = () => {
    try {
      JSON.parse(value.value);
      kind.textContent = "This is JSON.";
    } catch (error) {
      kind.textContent = value.value.trim().match(/^[[{]/) ? `Not JSON (${error.message}); sent as text.` : "Sent as text.";
    }
  };
  value.addEventListener("input", judge);
  judge();

  async function send() {
    const event = { value: value.value, value_encoding: "text" };
    if (key.value) event.key = key.value;
    if (partition.value) event.partition = Number(partition.value);
    event.headers = headers.value.split("\n").filter((each) => each.trim()).map((each) => {
      const [name, ...rest] = each.split(":");
      return { name: name.trim(), value: rest.join(":").trim() };
    });
    try {
      const reply = await post(path("topics/{}/events", topic.topic), event);
      const [place] = reply.events;
      put(said, h("p.notice", {}, h("span", {}, "Published as ", h("a", { href: link(["event", topic.topic, String(place.partition), String(place.offset)]) }, `${place.partition}:${place.offset}`), ".")));
    } catch (error) {
      put(said, problem(error));
    }
  }

  return h("form.form", { onsubmit: (event) => (event.preventDefault(), send()) },
    field("Key", key), field("Value", value), kind,
    h("details", {}, h("summary", {}, "Headers and partition"), field("Headers", headers), field("Partition", partition)),
    h("div.bar", {}, h("button.primary", { type: "submit" }, "Publish event"), h("span.muted", {}, "One event, durable when the answer comes.")),
    said);
}
