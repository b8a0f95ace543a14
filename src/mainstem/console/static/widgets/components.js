/**
 * Parts that several pages use: dialogs, notices, empty states, tabs, menus, copy buttons, tables.
 */

import { add, h, icon, put } from "../lib/dom.js";
import { connection, Problem } from "../lib/api.js";
import { line, visible } from "../lib/text.js";

/** A modal dialog: title, content, buttons [{text, kind, run}]; `run` may return false to keep it open. */
export function dialog(title, content, buttons = []) {
  const box = h("dialog", { "aria-label": title });
  const close = () => box.close();
  const actions = buttons.map(({ text, kind, run }) =>
    h(`button${kind ? `.${kind}` : ""}`, {
      type: "button",
      async onclick(event) {
        const button = event.currentTarget;
        button.disabled = true;
        try {
          if ((await run?.()) !== false) close();
        } finally {
          button.disabled = false;
        }
      },
    }, text));
  add(box,
    h("header.dialog-head", {}, h("h2", {}, title), iconButton("close", "Close", close)),
    h("div.dialog-body", {}, content),
    actions.length ? h("footer.dialog-foot", {}, h("button", { type: "button", onclick: close }, "Cancel"), actions) : null);
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => event.target === box && close());
  document.body.append(box);
  box.showModal();
  return box;
}

/** A square button with an icon; `label` is said by screen readers and shown on hover. */
export function iconButton(name, label, onclick, props = {}) {
  return h("button.icon-button", { type: "button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

/** What went wrong, in the server's words. `again` is called by its button, and when a server that was gone is back. */
export function problem(error, again) {
  const known = error instanceof Problem;
  const note = problemNote(error, known, again);
  if (again && known && error.status === 0) connection.addEventListener("back", () => note.isConnected && again(), { once: true });
  return note;
}

/** The server's advice is for programs too: what speaks of its addresses is said in another way here. */
const ADVICE = {
  404: "It may have been deleted, or its name is another one.",
  416: "It has been deleted, or has not been written yet.",
};
const forPeople = ({ fix, status }) => (/\/api\/|openapi|`/.test(fix) ? ADVICE[status] : fix);

function problemNote(error, known, again) {
  return h("div.notice.bad", { role: "alert" },
    icon("warn"),
    h("div", {},
      h("strong", {}, known && error.title ? visible(error.title) : "This did not work"),
      h("p", {}, visible(error.message)),
      known && forPeople(error) ? h("p.muted", {}, visible(forPeople(error))) : null,
      again ? h("button", { type: "button", onclick: again }, "Try again") : null));
}

/** A short note at the foot of the page, for a few seconds; `action` {text, run}: what can be done about it. */
export function toast(text, kind = "", action = null) {
  let area = document.querySelector(".toasts");
  if (!area) {
    area = h("div.toasts", { role: "status", "aria-live": "polite" });
    document.body.append(area);
  }
  const note = h(`div.toast${kind ? `.${kind}` : ""}`, {}, visible(text), action ? h("button.link", { type: "button", onclick: () => (note.remove(), action.run()) }, action.text) : null);
  area.append(note);
  setTimeout(() => note.remove(), action ? 30_000 : 6000);
}

/** When there is nothing to show: says why, and what would change it. */
export function empty(title, ...more) {
  return h("div.empty", {}, h("strong", {}, title), more.map((each) => h("p", {}, each)));
}

/** Three grey lines while something loads. */
export function loading(label = "Loading") {
  return h("div.loading", { role: "status", "aria-label": label }, h("i"), h("i"), h("i"));
}

let tabSets = 0;

/** Tabs: [{id, text, make}] - `make()` gives the panel, when it is first shown; `chosen(id)` is told. */
export function tabs(items, first, chosen) {
  const mark = `tab${++tabSets}`;
  const panel = h("div.tab-panel", { role: "tabpanel", tabindex: "-1" });
  const made = new Map();
  const buttons = items.map(({ id, text }) =>
    h("button.tab", { type: "button", role: "tab", id: `${mark}-${id}`, "data-tab": id, onclick: () => show(id, true) }, text));
  const list = h("div.tabs", { role: "tablist", onkeydown: arrows }, buttons);

  function arrows(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = buttons.indexOf(document.activeElement);
    const next = buttons[(at + step + buttons.length) % buttons.length];
    next.focus();
    next.click();
  }

  function show(id, tell) {
    const at = Math.max(0, items.findIndex((item) => item.id === id));
    const item = items[at];
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === at));
      button.tabIndex = i === at ? 0 : -1;
    });
    made.forEach((each, key) => key !== item.id && !(each instanceof Node) && each.hidden?.());
    if (!made.has(item.id)) made.set(item.id, item.make());
    const now = made.get(item.id);
    panel.setAttribute("aria-labelledby", `${mark}-${item.id}`);
    put(panel, now instanceof Node ? now : now.element);
    if (!(now instanceof Node)) now.shown?.();
    if (tell) chosen?.(item.id);
  }

  show(first, false);
  return { list, panel, show: (id) => show(id, true), close: () => made.forEach((each) => each instanceof Node || each.close?.()) };
}

/** Into the clipboard; over plain HTTP, where browsers keep their newer way shut, by the older one. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea.unseen", { value: text, "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("refused");
  return undefined;
}

/** A button that copies what `text()` gives. */
export function copyButton(label, text) {
  return h("button.quiet", {
    type: "button", "aria-label": `Copy ${label}`,
    async onclick() {
      try {
        await copy(await text());
        toast(`Copied: ${label}`);
      } catch {
        toast("The browser did not allow copying", "bad");
      }
    },
  }, label);
}

/** A button with a panel under it, closed by Escape or a click elsewhere. `make(close)` gives the content. */
export function popover(label, make, props = {}) {
  const button = h("button.menu-button", { type: "button", "aria-expanded": "false", onclick: toggle, ...props }, label, icon("chevron"));
  const panel = h("div.popover", { hidden: true, onkeydown: (event) => event.key === "Escape" && (event.stopPropagation(), close(true)) });
  const box = h("div.popover-box", {}, button, panel);

  function outside(event) {
    if (!box.contains(event.target)) close(false);
  }
  function close(focus) {
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside);
    if (focus) button.focus();
  }
  function toggle() {
    if (!panel.hidden) return close(true);
    put(panel, make(() => close(true)));
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside);
    panel.querySelector("input, button")?.focus();
  }
  return { element: box, label: (text) => put(button, text, icon("chevron")), close: () => close(false) };
}

/** A label with its field, and a line of help or error under it. */
export function field(label, control, hint) {
  const id = control.id || `f${Math.random().toString(36).slice(2)}`;
  control.id = id;
  const note = h("p.hint", { id: `${id}-hint` }, hint ?? "");
  if (hint) control.setAttribute("aria-describedby", note.id);
  return h("div.field", {}, h("label", { for: id }, label), control, hint ? note : null);
}

/** A table of columns [{text, kind, cell(row)}]; short ones only: long lists are virtual. */
export function table(columns, rows, caption) {
  return h("div.table-box", { tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption.unseen", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(({ text, kind }) => h(`th${kind ? `.${kind}` : ""}`, { scope: "col" }, text || h("span.unseen", {}, "Actions"))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(({ kind, cell }) => h(`td${kind ? `.${kind}` : ""}`, {}, cell(row))))))));
}

/** What a search could not read: [{topic, partition, offset, reason}]. */
export function showUnreadable(places) {
  dialog("What could not be searched", h("ul.plain-list", {}, places.map(({ topic, partition, offset, reason }) => h("li", {},
    h("code", {}, line(`${topic} ${partition}:${offset}`)), " ", line(reason, 300)))));
}
