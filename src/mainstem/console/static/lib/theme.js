/** Light, dark, or as the system has it: the reader's choice, kept in this browser. */

const ORDER = ["auto", "light", "dark"];

export const theme = () => localStorage.getItem("mainstem.theme") ?? "auto";

export function apply() {
  const now = theme();
  if (now === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", now);
}

/** The next of auto, light, dark; returns it. */
export function turn() {
  localStorage.setItem("mainstem.theme", ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length]);
  apply();
  return theme();
}
