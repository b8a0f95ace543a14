/** The colour theme: light, dark, or that of the system. The choice is stored in this browser. */

const STORAGE_KEY = "mainstem.theme";
const THEMES = ["auto", "light", "dark"];

export const currentTheme = () => localStorage.getItem(STORAGE_KEY) ?? "auto";

/** Show the page in the current theme. */
export function applyTheme() {
  const theme = currentTheme();
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
}

/** Switch to the next of auto, light and dark. */
export function switchTheme() {
  const next = THEMES[(THEMES.indexOf(currentTheme()) + 1) % THEMES.length];
  localStorage.setItem(STORAGE_KEY, next);
  applyTheme();
}
