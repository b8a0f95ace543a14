/** Topics: a list of up to tens of thousands, filtered and sorted here, without asking the server again. */

import { can, get, post } from "../lib/api.js";
import { h, put, set } from "../lib/dom.js";
import * as keys from "../lib/keys.js";
import { dialog, empty, field, loading, problem, toast } from "../widgets/components.js";
import { go, link, update } from "../lib/router.js";
import { bytes, count, line, many, short } from "../lib/text.js";
import { list } from "../widgets/virtual_list.js";

const PAGE = 5000;
const SORTS = {
  name: { text: "Name", of: (topic) => topic.topic, up: true },
  partitions: { text: "Partitions", of: (topic) => topic.partitions },
  events: { text: "Events", of: (topic) => topic.events },
  size: { text: "Size", of: (topic) => topic.bytes, show: bytes },
  in: { text: "In/s", of: (topic) => topic.in_per_s, show: short },
  out: { text: "Out/s", of: (topic) => topic.out_per_s, show: short },
};

/** Every topic, page by page; `arrived(all so far)` is called after each. */
export async function allTopics(arrived, internal, signal) {
  const all = [];
  let after = "";
  do {
    const reply = await get("topics", { limit: PAGE, after, internal: internal ? "true" : "" }, signal);
    all.push(...reply.topics);
    after = reply.next;
    arrived(all);
  } while (after);
  return all;
}

export function topicsPage(_segments, params) {
  const stop = new AbortController();
  let topics = [];
  let shown = [];
  let sort = SORTS[params.get("sort")] ? params.get("sort") : "name";
  let down = params.has("down") ? params.get("down") === "1" : false;
  let columns = ["name", "partitions", "events"];

  const filter = h("input.filter", { type: "search", placeholder: "Filter topics", "aria-label": "Filter topics by name", "data-search": "", value: params.get("q") ?? "", oninput: changed, spellcheck: "false", autocomplete: "off" });
  const internal = h("input", { type: "checkbox", checked: params.get("internal") === "1", onchange: () => (save(), load()) });
  const total = h("span.muted", { role: "status" });
  const head = h("div.rows-head.topic-cols", {});
  const rows = list({
    label: "Topics",
    row: (topic) => h("div.topic-cols", {},
      h("span.topic-name", {}, line(topic.topic, 249), topic.internal ? h("span.tag", {}, "internal") : null),
      columns.slice(1).map((id) => h("span.num", {}, (SORTS[id].show ?? count)(SORTS[id].of(topic))))),
    open: (topic) => go(["topics", topic.topic]),
    href: (topic) => link(["topics", topic.topic]),
  });
  const body = h("div.page-body.flush", {}, loading("Loading topics"));
  const element = h("div", {},
    h("div.page-head", {}, h("h1", {}, "Topics"), total, h("span.spacer"), filter,
      h("label.check", {}, internal, "internal"),
      can("post", "topics") ? h("button.primary", { type: "button", onclick: create }, "New topic") : null),
    body);

  function save() {
    update({ q: filter.value.trim(), sort: sort === "name" ? "" : sort, down: down ? "1" : "", internal: internal.checked ? "1" : "" });
  }

  function changed() {
    save();
    draw();
  }

  function order(id) {
    if (id === sort) down = !down;
    else [sort, down] = [id, !SORTS[id].up];
    changed();
  }

  function drawHead() {
    put(head, columns.map((id) => {
      const button = h(`button${id === "name" ? "" : ".num"}`, { type: "button", onclick: () => order(id) }, SORTS[id].text, id === sort ? (down ? " ↓" : " ↑") : "");
      if (id === sort) button.append(h("span.unseen", {}, down ? ", largest first" : ", smallest first"));
      set(button, "aria-pressed", String(id === sort));
      return button;
    }));
    set(head, "class", "");
    element.style.setProperty("--more-cols", String(columns.length - 1));
  }

  function draw() {
    const words = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const { of } = SORTS[sort];
    shown = topics.filter((topic) => words.every((word) => topic.topic.toLowerCase().includes(word)));
    shown.sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      const by = typeof x === "string" ? (x < y ? -1 : x > y ? 1 : 0) : (x ?? -1) - (y ?? -1);
      return (down ? -by : by) || (a.topic < b.topic ? -1 : 1);
    });
    total.textContent = words.length ? `${count(shown.length)} of ${many(topics.length, "topic")}` : many(topics.length, "topic");
    drawHead();
    if (!topics.length) put(body, empty("No topics yet", "A producer makes one by its first event, or make one here."));
    else if (!shown.length) put(body, empty("No topic has this in its name", h("button", { type: "button", onclick: () => ((filter.value = ""), changed()) }, "Show all")));
    else {
      if (!rows.element.isConnected) put(body, head, rows.element);
      rows.items(shown);
    }
  }

  async function load() {
    try {
      await allTopics((all) => {
        topics = all.slice();
        columns = Object.keys(SORTS).filter((id) => ["name", "partitions", "events"].includes(id) || topics.some((topic) => SORTS[id].of(topic) != null));
        draw();
      }, internal.checked, stop.signal);
    } catch (error) {
      if (error.name !== "AbortError") put(body, problem(error, load));
    }
  }

  function create() {
    const name = h("input", { required: true, maxlength: "249", spellcheck: "false", autocomplete: "off", placeholder: "orders.v1" });
    const partitions = h("input", { type: "number", min: "1", placeholder: "as the server has it" });
    const retention = h("select", {}, [["", "as the server has it"], ["86400000", "1 day"], ["604800000", "7 days"], ["2592000000", "30 days"], ["-1", "for ever"]].map(([value, text]) => h("option", { value }, text)));
    const said = h("div", {});
    dialog("New topic", [field("Name", name, "Letters, digits, dot, underscore and hyphen"), field("Partitions", partitions, "Can be raised later, never lowered"), field("Keep events", retention), said], [{
      text: "Create topic", kind: "primary",
      async run() {
        const settings = retention.value ? { "retention.ms": retention.value } : {};
        try {
          await post("topics", { topic: name.value.trim(), ...(partitions.value ? { partitions: Number(partitions.value) } : {}), settings });
        } catch (error) {
          put(said, problem(error));
          return false;
        }
        toast(`Created ${name.value.trim()}`);
        go(["topics", name.value.trim()]);
        return true;
      },
    }]);
  }

  const unbind = keys.bind({
    j: ["Next", () => rows.move(1)],
    k: ["Previous", () => rows.move(-1)],
    Enter: ["Open", rows.openChosen],
  });
  load();
  return {
    title: "Topics",
    element,
    close() {
      stop.abort();
      unbind();
      rows.close();
    },
  };
}

