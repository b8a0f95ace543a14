/** The form that publishes one test event to a topic. */

import { apiPath, post } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { eventLink } from "../lib/events.js";
import { errorNotice, field } from "./components.js";

const EXAMPLE = '{"hello": "world"}';

export function publishForm({ topic, partitions }) {
  const key = h("input", { spellcheck: "false", autocomplete: "off", placeholder: "no key" });
  const value = h("textarea", { rows: "9", spellcheck: "false" }, EXAMPLE);
  const headers = h("textarea", { rows: "2", spellcheck: "false", placeholder: "name: value, one per line" });
  const partition = h(
    "select",
    {},
    h("option", { value: "" }, "chosen by the key"),
    partitions.map(({ partition: number }) => h("option", { value: String(number) }, number)),
  );
  const format = h("span.hint", { role: "status" }, describeFormat(EXAMPLE));
  const result = h("div.stack", { role: "status" });
  value.addEventListener("input", () => {
    format.textContent = describeFormat(value.value);
  });

  async function publish(event) {
    event.preventDefault();
    const request = { value: value.value, value_encoding: "text", headers: parseHeaders(headers.value) };
    if (key.value) request.key = key.value;
    if (partition.value) request.partition = Number(partition.value);
    try {
      const { events } = await post(apiPath("topics/{}/events", topic), request);
      replaceContent(result, publishedNotice({ topic, ...events[0] }));
    } catch (error) {
      replaceContent(result, errorNotice(error));
    }
  }

  return h(
    "form.form",
    { onsubmit: publish },
    field("Key", key),
    field("Value", value),
    format,
    h(
      "details",
      {},
      h("summary", {}, "Headers and partition"),
      field("Headers", headers),
      field("Partition", partition),
    ),
    h(
      "div.bar",
      {},
      h("button.primary", { type: "submit" }, "Publish event"),
      h("span.muted", {}, "The server responds when the event is durable."),
    ),
    result,
  );
}

function describeFormat(text) {
  try {
    JSON.parse(text);
    return "The value is JSON.";
  } catch (error) {
    return /^[[{]/.test(text.trim())
      ? `The value is not JSON (${error.message}). It will be published as text.`
      : "The value will be published as text.";
  }
}

/** Headers from lines of "name: value". */
function parseHeaders(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return lines.map((line) => {
    const [name, ...rest] = line.split(":");
    return { name: name.trim(), value: rest.join(":").trim() };
  });
}

function publishedNotice(event) {
  const position = h("a", { href: eventLink(event) }, `${event.partition}:${event.offset}`);
  return h("p.notice", {}, h("span", {}, "Published as ", position, "."));
}
