/** A dialog that shows what an action would do, by a dry run on the server, before its button can be used. */

import { h, replaceContent } from "../lib/dom.js";
import { errorNotice, openDialog } from "./components.js";

const TYPING_PAUSE_MS = 250;

/** Part of the text of every action that deletes. */
export const IRREVERSIBLE = "This cannot be undone.";

/**
 * Open the dialog and return its element. Input into one of `inputs` repeats the dry run.
 *
 * `buildRequest(dryRun)` returns the request, or null while input is missing. `send(request)` sends it.
 * `describe(reply)` returns what a dry run would do. `onDone(reply)` is called after the action.
 * `isConfirmed()` returns false while a confirmation is missing, such as a name to be typed.
 */
export function openDryRunDialog(options) {
  return new DryRunDialog(options).dialog;
}

class DryRunDialog {
  #options;
  #preview = h("div.preview", { role: "status" });
  #timer = 0;
  #previews = 0;

  constructor(options) {
    this.#options = { kind: "danger", isConfirmed: () => true, ...options };
    const { title, fields, inputs, verb, kind } = this.#options;
    const buttons = [{ text: verb, kind, run: () => this.#run() }];
    this.dialog = openDialog(title, [fields, this.#preview], buttons);
    for (const input of inputs) input.addEventListener("input", () => this.#schedulePreview());
    this.#showPreview();
  }

  get #button() {
    return this.dialog.querySelector(`.dialog-foot button.${this.#options.kind}`);
  }

  #schedulePreview() {
    clearTimeout(this.#timer);
    this.#button.disabled = true;
    this.#timer = setTimeout(() => this.#showPreview(), TYPING_PAUSE_MS);
  }

  async #showPreview() {
    const { buildRequest, send, describe, isConfirmed } = this.#options;
    const preview = ++this.#previews;
    const isCurrent = () => preview === this.#previews;
    this.#button.disabled = true;
    const request = buildRequest(true);
    if (request == null) {
      replaceContent(this.#preview);
      return;
    }
    try {
      const reply = await send(request);
      if (!isCurrent()) return;
      replaceContent(this.#preview, describe(reply));
      this.#button.disabled = !isConfirmed();
    } catch (error) {
      if (isCurrent()) replaceContent(this.#preview, errorNotice(error));
    }
  }

  /** Returns whether the dialog shall close. */
  async #run() {
    const { buildRequest, send, onDone, isConfirmed } = this.#options;
    const request = buildRequest(false);
    if (request == null || !isConfirmed()) return false;
    try {
      onDone(await send(request));
      return true;
    } catch (error) {
      replaceContent(this.#preview, errorNotice(error));
      return false;
    }
  }
}
