/** A button that opens a panel below it. Escape and a click elsewhere close the panel. */

import { h, icon, replaceContent } from "../lib/dom.js";

/** `create(close)` returns the content each time the panel opens. `element` is what a page shows. */
export class Popover {
  #create;
  #button;
  #panel;

  constructor(name, create) {
    this.#create = create;
    this.#button = h("button.menu-button", {
      type: "button",
      "aria-expanded": "false",
      "aria-label": name,
      onclick: () => (this.#panel.hidden ? this.#open() : this.#close(true)),
    });
    this.#panel = h("div.popover", { hidden: true, onkeydown: (event) => this.#onKeyDown(event) });
    this.element = h("div.popover-box", {}, this.#button, this.#panel);
  }

  setLabel(...content) {
    replaceContent(this.#button, content, icon("chevron"));
  }

  #open() {
    replaceContent(
      this.#panel,
      this.#create(() => this.#close(true)),
    );
    this.#panel.hidden = false;
    this.#button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", this.#closeIfOutside);
    this.#panel.querySelector("input, button")?.focus();
  }

  #close(returnFocus) {
    this.#panel.hidden = true;
    this.#button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", this.#closeIfOutside);
    if (returnFocus) this.#button.focus();
  }

  #closeIfOutside = (event) => {
    if (!this.element.contains(event.target)) this.#close(false);
  };

  #onKeyDown(event) {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    this.#close(true);
  }
}
