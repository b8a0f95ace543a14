/** Publishes an event again after its key, value or headers were changed; shows the changes first. */

import { diffLines } from "../lib/diff.js";
import { h, replaceContent } from "../lib/dom.js";
import { fetchRawEvent } from "../lib/events.js";
import { formatBytes } from "../lib/format.js";
import { parseJson } from "../lib/numbers.js";
import { decodeUtf8, readPayload, writeJson } from "../lib/payload.js";
import { plainText, singleLine } from "../lib/text.js";
import { errorNotice, field, iconButton, loadingState, openDialog, showToast } from "./components.js";
import { diffView } from "./diff_view.js";
import { openDryRunDialog } from "./dry_run.js";
import { eventReference, PUBLISHED_STAYS, ReplaySender, showReplayed, topicField } from "./replay_export.js";

const TITLE = "Edit and publish again";
const PLAIN_INPUT = { spellcheck: "false", autocomplete: "off" };

/** Open the dialog that edits an event. It loads the event byte for byte first. */
export async function editEvent(event) {
  const dialog = openDialog(TITLE, loadingState("Loading the event"));
  const abort = new AbortController();
  dialog.addEventListener("close", () => abort.abort());
  try {
    const original = await fetchRawEvent(event, abort.signal);
    dialog.close();
    openEditor(event, readPayload(original, "key"), readPayload(original, "value"));
  } catch (error) {
    if (error.name === "AbortError") return;
    replaceContent(dialog.querySelector(".dialog-body"), errorNotice(error));
  }
}

function openEditor(event, originalKey, originalValue) {
  const target = topicField(event.topic);
  const key = new PayloadField("Key", originalKey);
  const value = new PayloadField("Value", originalValue, { rows: 9, canIndent: true });
  const headers = new HeaderFields(event.headers, () => target.input.dispatchEvent(new Event("input")));
  const sender = new ReplaySender();
  const changes = () => {
    const all = { key: key.change(), value: value.change(), headers: headers.change() };
    return Object.fromEntries(Object.entries(all).filter(([, change]) => change !== undefined));
  };
  const origin = `${plainText(event.topic)} ${event.partition}:${event.offset}`;
  const hint = `The original, ${origin}, does not change. The header mainstem-replayed-from names it.`;
  const dialog = openDryRunDialog({
    title: TITLE,
    fields: h(
      "div",
      {},
      field("Target topic", target.input, hint),
      target.suggestions,
      key.element,
      value.element,
      headers.element,
      sender.progress,
    ),
    inputs: [target.input, ...key.inputs, ...value.inputs],
    verb: "Publish",
    kind: "primary",
    buildRequest: (dryRun) => editRequest(event, changes(), target.input.value.trim(), dryRun),
    send: (request) => sender.send(request),
    describe: ({ to }) => describeChanges(changes(), originalValue, to),
    onDone: showReplayed,
  });
  dialog.classList.add("wide");
  dialog.addEventListener("close", () => sender.close());
}

function editRequest(event, changes, to, dryRun) {
  if (!to) return null;
  const encoding = changes.value != null ? { value_encoding: "text" } : {};
  return { events: [{ ...eventReference(event), ...changes, ...encoding }], to, dry_run: dryRun };
}

function describeChanges(changes, originalValue, to) {
  const names = Object.keys(changes).join(", ");
  const newValue = changes.value;
  const edits =
    typeof newValue === "string" ? valueDiff(decodeUtf8(originalValue.bytes) ?? "", newValue) : null;
  const summary = names ? [" with changed ", h("strong", {}, names)] : " without changes";
  return [
    h(
      "p.notice",
      {},
      h("span", {}, "One event will be published to ", singleLine(to, 100), summary, `. ${PUBLISHED_STAYS}`),
    ),
    edits ? diffView(edits) : null,
  ];
}

/** The difference of two texts; of two JSON texts, that of their indented values unless those are equal. */
function valueDiff(before, after) {
  try {
    const [oldValue, newValue] = [before, after].map((text) => ({ kind: "json", json: parseJson(text) }));
    const edits = diffLines(oldValue, newValue);
    if (edits?.some(([kind]) => kind !== "same")) return edits;
  } catch {
    // not JSON: compare the texts
  }
  return diffLines({ kind: "text", text: before }, { kind: "text", text: after });
}

// ------------------------------------------------------------------------------------------ fields

/** A form field for a key or a value. Binary data cannot be edited, but it can be removed. */
class PayloadField {
  #original;
  #text;
  #input;
  #removed;

  constructor(label, original, { rows = 1, canIndent = false } = {}) {
    this.#original = original;
    this.#text = decodeUtf8(original.bytes);
    this.#input = h(rows > 1 ? "textarea" : "input", {
      rows: rows > 1 ? rows : null,
      value: this.#text ?? "",
      ...PLAIN_INPUT,
    });
    this.#removed = h("input", { type: "checkbox", checked: original.kind === "null" });
    this.#removed.addEventListener("input", () => this.#updateDisabled());
    this.#updateDisabled();
    this.inputs = [this.#input, this.#removed];
    this.element = this.#createElement(label, canIndent);
  }

  /** The new text, null if it is removed, or undefined if it is unchanged. */
  change() {
    const wasNull = this.#original.kind === "null";
    if (this.#removed.checked) return wasNull ? undefined : null;
    const isSame = this.#text === null || (!wasNull && this.#input.value === this.#text);
    return isSame ? undefined : this.#input.value;
  }

  #createElement(label, canIndent) {
    const size = formatBytes(this.#original.bytes.length);
    const hint = this.#text === null ? `${size} of binary data, published unchanged.` : null;
    const element = field(label, this.#input, hint);
    const line = h(
      "div.field-line",
      {},
      h("label", { for: this.#input.id }, label),
      canIndent && !this.#input.disabled ? this.#indentButton() : null,
      h("label.check", {}, this.#removed, `no ${label.toLowerCase()}`),
    );
    element.querySelector("label").replaceWith(line);
    return element;
  }

  #updateDisabled() {
    this.#input.disabled = this.#text === null || this.#removed.checked;
  }

  #indentButton() {
    const indent = () => {
      try {
        this.#input.value = writeJson(parseJson(this.#input.value));
        this.#input.dispatchEvent(new Event("input"));
      } catch (error) {
        showToast(`The value is not JSON: ${error.message}`, { kind: "bad" });
      }
    };
    return h("button.link", { type: "button", onclick: indent }, "indent");
  }
}

/**
 * Form fields for the headers of an event. Binary values cannot be edited, but their headers can be removed.
 */
class HeaderFields {
  #original;
  #onChange;
  #rows = h("div.header-rows");
  /** A function for each row that returns its header. */
  #readers = [];

  /** `onChange()` is called after every change. */
  constructor(headers, onChange) {
    this.#original = JSON.stringify(headers);
    this.#onChange = onChange;
    for (const header of headers) this.#addRow(header);
    const add = () => this.#addRow({ name: "", value: "" }).focus();
    this.element = h(
      "fieldset.plain",
      {},
      h("legend", {}, "Headers"),
      this.#rows,
      h("button.quiet", { type: "button", onclick: add }, "Add a header"),
    );
  }

  /** The headers if they were changed; otherwise undefined. */
  change() {
    const headers = this.#readers.map((read) => read()).filter(({ name }) => name);
    return JSON.stringify(headers) === this.#original ? undefined : headers;
  }

  #addRow({ name, value, value_encoding: encoding }) {
    const isFixed = encoding === "base64" || value === null;
    const attributes = { ...PLAIN_INPUT, oninput: this.#onChange };
    const nameInput = h("input", {
      ...attributes,
      value: name,
      "aria-label": "Header name",
      placeholder: "name",
    });
    const valueInput = h("input", {
      ...attributes,
      value: isFixed ? "" : value,
      "aria-label": "Header value",
      placeholder: value === null ? "null" : isFixed ? "binary data, unchanged" : "value",
      disabled: isFixed,
    });
    const read = () => ({
      name: nameInput.value,
      value: isFixed ? value : valueInput.value,
      ...(encoding ? { value_encoding: encoding } : {}),
    });
    const remove = () => {
      this.#readers = this.#readers.filter((reader) => reader !== read);
      row.remove();
      this.#onChange();
    };
    const removeButton = iconButton("minus", "Remove this header", remove);
    const row = h("div.header-row", {}, nameInput, valueInput, removeButton);
    this.#readers.push(read);
    this.#rows.append(row);
    return nameInput;
  }
}
