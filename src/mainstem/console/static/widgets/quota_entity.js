/** The fields that ask whose quota it is: users, client ids, both, or addresses. */

import { h } from "../lib/dom.js";
import { field } from "./components.js";

const CLIENTS = "clients";
const ADDRESSES = "addresses";
const ANY = "any";
const EVERY = "every";
const NAMED = "named";

/**
 * The fields as {element, inputs, isAddress(), read()}. `read()` returns {user, client_id, ip} as the API
 * takes it, or null while something is missing.
 */
export function entityFields() {
  const kind = select([
    [CLIENTS, "users and client ids"],
    [ADDRESSES, "an address"],
  ]);
  const user = part("User", "user", NAMED);
  const client = part("Client id", "client id", ANY);
  const ip = part("Address", "address", NAMED, false);
  const isAddress = () => kind.value === ADDRESSES;
  const show = () => {
    user.element.hidden = client.element.hidden = isAddress();
    ip.element.hidden = !isAddress();
  };
  kind.addEventListener("input", show);
  show();
  function read() {
    const of = isAddress()
      ? { user: null, client_id: null, ip: ip.read() }
      : { user: user.read(), client_id: client.read(), ip: null };
    const names = Object.values(of);
    return names.includes(undefined) || names.every((name) => name === null) ? null : of;
  }
  return {
    element: h("div", {}, field("Quota of", kind), user.element, client.element, ip.element),
    inputs: [kind, ...user.inputs, ...client.inputs, ...ip.inputs],
    isAddress,
    read,
  };
}

const select = (options, chosen = "") =>
  h(
    "select",
    {},
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );

/** One part: this name, every one, or (unless it is an address) whichever it is. */
function part(label, noun, chosen, mayBeAny = true) {
  const choice = select(
    [
      [NAMED, `this ${noun}:`],
      [EVERY, `every ${noun} without a quota by name`],
      ...(mayBeAny ? [[ANY, "whichever it is"]] : []),
    ],
    chosen,
  );
  const name = h("input", { "aria-label": `Name of the ${noun}`, spellcheck: "false", autocomplete: "off" });
  const show = () => {
    name.hidden = choice.value !== NAMED;
  };
  choice.addEventListener("input", show);
  show();
  /** Undefined: the name is missing. */
  function read() {
    if (choice.value === ANY) return null;
    if (choice.value === EVERY) return "";
    return name.value.trim() || undefined;
  }
  return { element: h("div.quota-part", {}, field(label, choice), name), inputs: [choice, name], read };
}
