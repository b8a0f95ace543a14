/** Small components that several pages use: dialogs, notices, toasts, empty states, fields, tables. */

import { connection, Problem } from "../lib/api.js";
import { append, h, icon, replaceContent } from "../lib/dom.js";
import { singleLine, visibleText } from "../lib/text.js";

const TOAST_MS = 6000;
const TOAST_WITH_ACTION_MS = 30_000;

// ------------------------------------------------------------------------------------------ dialogs

/**
 * Open a modal dialog and return its element. `buttons` are {text, kind, run}; the dialog closes after
 * `run()` unless it returns false. `closesOutside`: whether a click beside it closes it.
 */
export function openDialog(title, content, buttons = [], { closesOutside = true } = {}) {
  const dialog = h("dialog", { "aria-label": title });
  const close = () => dialog.close();
  const cancel = h("button", { type: "button", onclick: close }, "Cancel");
  append(
    dialog,
    h("header.dialog-head", {}, h("h2", {}, title), iconButton("close", "Close", close)),
    h("div.dialog-body", {}, content),
    buttons.length
      ? h(
          "footer.dialog-foot",
          {},
          cancel,
          buttons.map((button) => dialogButton(button, close)),
        )
      : null,
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => closesOutside && event.target === dialog && close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function dialogButton({ text, kind, run }, close) {
  async function onclick(event) {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      if ((await run()) !== false) close();
    } finally {
      button.disabled = false;
    }
  }
  return h(`button${kind ? `.${kind}` : ""}`, { type: "button", onclick }, text);
}

/** A dialog with the parts of the log that a search could not read: [{topic, partition, offset, reason}]. */
export function showUnreadable(places) {
  const item = ({ topic, partition, offset, reason }) =>
    h("li", {}, h("code", {}, singleLine(`${topic} ${partition}:${offset}`)), " ", singleLine(reason, 300));
  openDialog("Not searched: unreadable data", h("ul.plain-list", {}, places.map(item)));
}

// ------------------------------------------------------------------------------------------ buttons

/** A square button with an icon; `label` is its name for screen readers and its tooltip. */
export function iconButton(name, label, onclick) {
  return h("button.icon-button", { type: "button", "aria-label": label, title: label, onclick }, icon(name));
}

/** A button that copies the text that `getText()` returns. */
export function copyButton(label, getText) {
  async function onclick() {
    try {
      await copyText(await getText());
      showToast(`Copied: ${label}`);
    } catch {
      showToast("The browser did not allow copying", { kind: "bad" });
    }
  }
  return h("button.quiet", { type: "button", "aria-label": `Copy ${label}`, onclick }, label);
}

/** Browsers offer the clipboard API over HTTPS and on localhost only; elsewhere the older command is used. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea.visually-hidden", { value: text, "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser refused to copy");
}

// ------------------------------------------------------------------------------------------ notices

/**
 * A notice about an error. `retry` is called by its button and, if the server could not be reached, when it
 * can be again.
 */
export function errorNotice(error, retry = null) {
  const isProblem = error instanceof Problem;
  const advice = isProblem ? adviceFor(error) : "";
  const notice = h(
    "div.notice.bad",
    { role: "alert" },
    icon("warn"),
    h(
      "div",
      {},
      h("strong", {}, isProblem && error.title ? visibleText(error.title) : "The request failed"),
      h("p", {}, visibleText(error.message)),
      advice ? h("p.muted", {}, visibleText(advice)) : null,
      retry ? h("button", { type: "button", onclick: () => retry() }, "Try again") : null,
    ),
  );
  if (retry && isProblem && error.status === 0)
    connection.addEventListener("online", () => notice.isConnected && retry(), { once: true });
  return notice;
}

/**
 * Run `load()`, which shows something in the element. If it fails, the element says why, with a button to try
 * again; not if it was aborted.
 */
export async function loadInto(element, load) {
  try {
    await load();
  } catch (error) {
    if (error.name === "AbortError") return;
    replaceContent(
      element,
      errorNotice(error, () => loadInto(element, load)),
    );
  }
}

/** Advice for readers, by status, where the server's own is written for programs. */
const ADVICE = {
  404: "It may have been deleted, or it has another name.",
  416: "It has been deleted, or it has not been written yet.",
};

const adviceFor = ({ fix, status }) => (/\/api\/|openapi|`/.test(fix) ? ADVICE[status] : fix);

/** A short note in the corner for some seconds. `action` is a link in it: {text, run}. */
export function showToast(text, { kind = "", action = null } = {}) {
  const area = document.querySelector(".toasts") ?? createToastArea();
  const run = () => {
    toast.remove();
    action.run();
  };
  const toast = h(
    `div.toast${kind ? `.${kind}` : ""}`,
    {},
    visibleText(text),
    action ? h("button.link", { type: "button", onclick: run }, action.text) : null,
  );
  area.append(toast);
  setTimeout(() => toast.remove(), action ? TOAST_WITH_ACTION_MS : TOAST_MS);
}

function createToastArea() {
  const area = h("div.toasts", { role: "status", "aria-live": "polite" });
  document.body.append(area);
  return area;
}

/** Shown where there is nothing to show: why, and what would change that. */
export function emptyState(title, ...hints) {
  return h(
    "div.empty",
    {},
    h("strong", {}, title),
    hints.map((hint) => h("p", {}, hint)),
  );
}

/** Three grey lines while something loads. */
export function loadingState(label = "Loading") {
  return h("div.loading", { role: "status", "aria-label": label }, h("i"), h("i"), h("i"));
}

// ------------------------------------------------------------------------------------------ fields, tables

let fieldCount = 0;

/** A labelled form control with an optional hint below it. */
export function field(label, control, hint = null) {
  control.id ||= `field-${++fieldCount}`;
  const note = hint ? h("p.hint", { id: `${control.id}-hint` }, hint) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div.field", {}, h("label", { for: control.id }, label), control, note);
}

/** The values in a form control that takes several, with commas. */
export const commaValues = (control) =>
  control.value
    .split(",")
    .map((value) => value.trim())
    .filter(Boolean);

/**
 * A table with columns {text, kind, cell(row)}; `caption` is for screen readers. Long lists use VirtualList.
 */
export function table(columns, rows, caption) {
  const tag = (name, kind) => `${name}${kind ? `.${kind}` : ""}`;
  const heading = ({ text, kind }) =>
    h(tag("th", kind), { scope: "col" }, text || h("span.visually-hidden", {}, "Actions"));
  return h(
    "div.table-box",
    { tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption.visually-hidden", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(heading))),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            columns.map(({ kind, cell }) => h(tag("td", kind), {}, cell(row))),
          ),
        ),
      ),
    ),
  );
}
