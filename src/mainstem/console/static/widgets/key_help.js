/** The dialog that lists the keyboard shortcuts of the page. */

import { h } from "../lib/dom.js";
import { boundKeys } from "../lib/keys.js";
import { openDialog } from "./components.js";

export function showKeyHelp() {
  const entry = ([key, text]) => [
    h(
      "dt",
      {},
      key.split(" ").map((part) => h("kbd", {}, part)),
    ),
    h("dd", {}, text),
  ];
  openDialog("Keyboard shortcuts", h("dl.keys", {}, boundKeys().map(entry)));
}
