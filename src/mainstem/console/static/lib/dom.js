/**
 * Elements, made of text nodes only.
 *
 * Owns: the one way in which this page makes elements. What comes from events, names and messages is hostile
 * text: h() turns every string into a text node, takes event handlers as functions only, styles as objects
 * only, and refuses attributes that a browser would run. A test greps that no other way is used.
 */

const SVG = "http://www.w3.org/2000/svg";
const REFUSED = new Set(["srcdoc", "innerhtml", "outerhtml", "action", "formaction", "src"]);

/** h("button.primary", {onclick, "aria-label": …, style: {width: "4px"}}, "text", child, [more]) */
export function h(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  return fill(element, props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  add(element, children);
  return element;
}

/** Set one attribute, handler or property; null, undefined and false leave it out. */
export function set(element, name, value) {
  if (name.startsWith("on")) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value != null) throw new TypeError(`${name} must be a function`);
    return;
  }
  if (REFUSED.has(name.toLowerCase())) throw new TypeError(`${name} is not used here`);
  if (name === "style") {
    for (const [key, each] of Object.entries(value ?? {})) element.style.setProperty(key, each);
  } else if (name === "class") {
    if (value) element.setAttribute("class", [element.getAttribute("class"), value].filter(Boolean).join(" "));
  } else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") {
    element[name] = value ?? "";
  } else if (name === "href" && !/^(#|\/(?!\/)|blob:)/.test(String(value))) {
    throw new TypeError("links stay on this page");
  } else if (value === true) {
    element.setAttribute(name, "");
  } else if (value != null && value !== false) {
    element.setAttribute(name, String(value));
  }
}

/** Append children: nodes as they are, anything else as text. */
export function add(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child == null || child === false || child === true) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Replace what is inside. */
export function put(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** Icons, 16 by 16, drawn with the text's colour. */
const ICONS = {
  overview: "M2.5 9.5h3l2-6 2.5 9 2-5h1.5",
  topics: "M2.5 4h11M2.5 8h11M2.5 12h7",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.4 10.4l3.1 3.1",
  groups: "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM1.5 13.5c.3-2.6 2-4 4.5-4s4.2 1.4 4.5 4M10.5 3a2.2 2.2 0 0 1 0 4.2M12 9.8c1.5.5 2.3 1.8 2.5 3.7",
  trace: "M2.5 3.5h5M5 8h6M8 12.5h5.5",
  sun: "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9",
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

/** An icon of the list above, hidden from screen readers: the text beside it, or a label, says what it is. */
export function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));
}
