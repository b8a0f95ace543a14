/**
 * The page that asks for user and password. The address stays as it was, so that one is back where one was
 * after the login.
 */

import { logIn, Problem, providerLogin } from "../lib/api.js";
import { h, replaceContent } from "../lib/dom.js";
import { errorNotice, field } from "./components.js";

const FAILURES = {
  failed: "The login provider did not confirm who you are.",
  unreachable: "The login provider cannot be reached now.",
};
const WRONG = "User or password is wrong.";

/** {title, element, shown()}; `onDone()` is called after the login. */
export function loginPage(onDone) {
  const user = h("input", {
    name: "username",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
  });
  const password = h("input", {
    name: "password",
    type: "password",
    autocomplete: "current-password",
    required: true,
  });
  const message = h("div", { role: "alert" });
  const button = h("button.primary", { type: "submit" }, "Log in");

  async function onsubmit(event) {
    event.preventDefault();
    button.disabled = true;
    replaceContent(message);
    try {
      await logIn(user.value, password.value);
      password.value = "";
      await onDone();
    } catch (error) {
      replaceContent(message, refusal(error));
      password.value = "";
      password.focus();
    } finally {
      button.disabled = false;
    }
  }

  const provider = providerLogin();
  const failure = FAILURES[provider?.failure];
  if (failure) replaceContent(message, h("p.login-error", {}, failure));
  const form = h(
    "form.login-form",
    { onsubmit, "aria-label": "Log in" },
    h("div.brand", {}, h("span.mark", { "aria-hidden": "true" }), "mainstem"),
    h("h1", {}, "Log in"),
    field("User", user),
    field("Password", password),
    message,
    button,
    provider ? h("a.provider-login", { href: provider.href }, `Log in by ${provider.name}`) : null,
  );
  return { title: "Log in", element: h("div.login", {}, form), shown: () => user.focus() };
}

function refusal(error) {
  if (error instanceof Problem && error.status === 401) return h("p.login-error", {}, WRONG);
  if (error instanceof Problem && error.status === 429) return h("p.login-error", {}, error.message);
  return errorNotice(error);
}
