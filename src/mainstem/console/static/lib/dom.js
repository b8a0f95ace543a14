/**
 * Creates DOM elements whose content is text nodes only.
 *
 * Owns: the only way in which this page makes elements. Events, names and messages are untrusted text: `h()`
 * turns every string into a text node, accepts event handlers only as functions and styles only as objects,
 * and refuses attributes that a browser would run or load. A test checks that no module makes elements
 * otherwise.
 */

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const REFUSED = new Set(["srcdoc", "innerhtml", "outerhtml", "action", "formaction", "src"]);
const LOCAL_ADDRESS = /^(#|\/(?!\/)|blob:)/;
const PROPERTIES = new Set(["value", "checked", "disabled", "selected"]);

/**
 * An HTML element: h("button.primary", {onclick, "aria-label": "Save", style: {width: "4px"}}, "text",
 * child). `selector` is a tag name with class names. Children are nodes, text, nested arrays; null and false
 * are skipped.
 */
export function h(selector, attributes, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  return initialize(element, attributes, children);
}

/** An SVG element; arguments as for `h`. */
export function svg(tag, attributes, ...children) {
  return initialize(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

function initialize(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) setAttribute(element, name, value);
  return append(element, children);
}

/** Set an attribute, property or event handler; null, undefined and false leave an attribute out. */
export function setAttribute(element, name, value) {
  if (name.startsWith("on")) return setHandler(element, name, value);
  if (REFUSED.has(name.toLowerCase())) throw new TypeError(`the attribute ${name} is not allowed`);
  if (name === "href" && !LOCAL_ADDRESS.test(value)) throw new TypeError("a link must stay on this page");
  if (name === "style") setStyle(element, value);
  else if (name === "class") element.classList.add(...value.split(" "));
  else if (PROPERTIES.has(name)) element[name] = value ?? "";
  else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
}

function setStyle(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
}

function setHandler(element, name, handler) {
  if (typeof handler === "function") element.addEventListener(name.slice(2), handler);
  else if (handler != null) throw new TypeError(`${name} must be a function`);
}

/** Append children: nodes as they are, anything else as text. */
export function append(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child == null || child === false || child === true) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Replace all children of an element. */
export function replaceContent(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** Paths of the icons: 16 by 16, stroked with the colour of the text. */
const ICONS = {
  overview: "M2.5 9.5h3l2-6 2.5 9 2-5h1.5",
  topics: "M2.5 4h11M2.5 8h11M2.5 12h7",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.4 10.4l3.1 3.1",
  groups:
    "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM1.5 13.5c.3-2.6 2-4 4.5-4s4.2 1.4 4.5 4" +
    "M10.5 3a2.2 2.2 0 0 1 0 4.2M12 9.8c1.5.5 2.3 1.8 2.5 3.7",
  subscriptions: "M2.5 3.5h8v3h-8zM2.5 9.5h8v3h-8zM12.500 5h1.500v6h-1.500",
  access: "M4.5 7V5a3.5 3.5 0 0 1 7 0v2M3.500 7h9v6.500h-9zM8 9.500v1.500",
  trace: "M2.5 3.5h5M5 8h6M8 12.5h5.5",
  user: "M8 8a2.8 2.8 0 1 0 0-5.6A2.8 2.8 0 0 0 8 8zM2.500 13.700c.5-2.700 2.600-4 5.500-4s5 1.300 5.500 4",
  logout: "M6.500 2.500h-4v11h4M9.500 5l3.500 3-3.500 3M13 8H6",
  sun:
    "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3" +
    "M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9",
  moon: "M13.5 9.6A5.8 5.8 0 0 1 6.4 2.5a5.8 5.8 0 1 0 7.100 7.100z",
  auto: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11z",
  close: "M4 4l8 8M12 4l-8 8",
  help: "M6 6a2 2 0 1 1 3 1.7c-.7.4-1 .8-1 1.5M8 11.7v.1M8 14a6 6 0 1 0 0-12 6 6 0 0 0 0 12z",
  clock: "M8 14a6 6 0 1 0 0-12 6 6 0 0 0 0 12zM8 4.8V8l2.2 1.5",
  play: "M5 3.5l7 4.5-7 4.5z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  stop: "M4.5 4.5h7v7h-7z",
  chevron: "M4.5 6.5L8 10l3.5-3.5",
  right: "M6.5 4.5L10 8l-3.5 3.5",
  plus: "M8 3.5v9M3.5 8h9",
  minus: "M3.5 8h9",
  check: "M3.5 8.5l3 3 6-7",
  warn: "M8 2.5l6 10.5H2zM8 6.5v3M8 11.3v.1",
  expand: "M9.5 2.5h4v4M13.5 2.5l-5 5M6.5 13.5h-4v-4M2.5 13.5l5-5",
};

/** An icon, hidden from screen readers: the text beside it or a label has to say what it means. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }),
  );
}
