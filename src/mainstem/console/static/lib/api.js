/**
 * The client of the server's HTTP API.
 *
 * Owns: paths, errors, streams, who is logged in, and whether the server can be reached. No other module
 * contains an address of the server. `canUse()` reads the server's OpenAPI document: what the server does not
 * offer (an older version, read-only mode, another engine), and what the user may not do, is not shown.
 */

import { isActive } from "./activity.js";
import { parseReply } from "./numbers.js";
import { writeJson } from "./payload.js";

const BASE = "/api/v1/";
const SESSION = "session";
const RETRY_MS = 1500;
const PAGE_SIZE = 500;
const STREAM_CUT = "What is shown is correct, but there may be more.";

/** POST routes that change nothing: read-only mode allows them. */
const READING_POSTS = new Set(["search", "facets", "compare", "export", "topics/{}/settings/preview"]);

/** An error response of the server: title, detail (the message) and what to do about it (`fix`). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server responded with status ${status}`);
    this.status = status;
    this.title = body.title ?? "";
    this.fix = body.fix ?? "";
    this.body = body;
  }
}

/** "topics/{}/events" with each {} replaced by a value, escaped. */
export function apiPath(template, ...values) {
  let index = 0;
  return template.replace(/\{\}/g, () => encodeURIComponent(values[index++]));
}

function apiUrl(where, query) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {}))
    if (value != null && value !== "") params.set(name, value);
  const text = params.toString();
  return BASE + where + (text ? `?${text}` : "");
}

/** The whole URL of an API path, for commands that are copied. */
export const externalUrl = (where, query) => location.origin + apiUrl(where, query);

// ------------------------------------------------------------------------------------------ requests

async function request(method, where, { query, body, signal } = {}) {
  const options = { method, signal, credentials: "same-origin", cache: "no-store" };
  // Pages of other sites cannot send this header; and only signs of a person let a session go on.
  options.headers = {
    accept: "application/json",
    "x-mainstem-console": isActive() ? "active" : "background",
  };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = writeJson(body, true);
  }
  const response = await fetch(apiUrl(where, query), options).catch(unreachable);
  if (response.ok) return response;
  if (response.status === 401 && where !== SESSION) session.dispatchEvent(new Event("ended"));
  throw new Problem(response.status, await response.json().catch(() => ({ title: response.statusText })));
}

function unreachable(error) {
  if (error.name === "AbortError") throw error;
  waitForServer();
  throw new Problem(0, {
    title: "The server does not respond",
    detail: "The console could not reach the server.",
    fix: "Check that mainstem is running. The page continues by itself when the server responds.",
  });
}

async function requestJson(method, where, options) {
  const response = await request(method, where, options);
  return response.status === 204 ? null : parseReply(await response.text());
}

export const get = (where, query, signal) => requestJson("GET", where, { query, signal });
export const post = (where, body, signal) => requestJson("POST", where, { body: body ?? {}, signal });
export const patch = (where, body) => requestJson("PATCH", where, { body });
export const remove = (where, query) => requestJson("DELETE", where, { query });

/**
 * The rows of a list of the server, such as "groups", page by page. `cursor`: the query parameter that gets
 * the `next` of the page before.
 */
export async function* getPages(list, { query, cursor = "after", signal } = {}) {
  let next = null;
  do {
    const reply = await get(list, { limit: PAGE_SIZE, ...query, [cursor]: next }, signal);
    yield reply[list];
    next = reply.next;
  } while (next);
}

/** All rows of a list: see `getPages`. */
export async function getAll(list, options) {
  const rows = [];
  for await (const page of getPages(list, options)) rows.push(...page);
  return rows;
}

// ------------------------------------------------------------------------------------------ streams

/**
 * The response of a POST as it arrives, one JSON value per line. Throws Problem, or AbortError if aborted.
 */
export async function* streamLines(where, body, signal) {
  const response = await request("POST", where, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(streamCut);
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.trim()) yield parseLine(line);
    }
    if (rest.trim()) yield parseLine(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A line of a stream. A stream that fails after its start ends with a line that contains the problem. */
function parseLine(text) {
  const value = parseReply(text);
  if (value.problem) throw new Problem(value.problem.status, value.problem);
  return value;
}

function streamCut(error) {
  if (error.name === "AbortError") throw error;
  const detail = "The connection was lost while the server sent its response.";
  throw new Problem(0, { title: "The response is incomplete", detail, fix: STREAM_CUT });
}

/** The response of a POST as a stream of bytes, which fails if the connection is lost. */
export async function streamBytes(where, body, signal) {
  return (await request("POST", where, { body, signal })).body;
}

/** Server-sent events, with a handler per event name; `close()` of the returned source ends them. */
export function subscribe(where, query, handlers) {
  const source = new EventSource(apiUrl(where, query));
  source.addEventListener("error", () => source.readyState === EventSource.CLOSED && checkSession());
  for (const [name, handler] of Object.entries(handlers)) {
    const isState = name === "open" || name === "error";
    source.addEventListener(name, isState ? handler : (event) => handler(parseReply(event.data)));
  }
  return source;
}

// ------------------------------------------------------------------------------------------ who is logged in

/** Dispatches "ended" when the server asks for a login, because there was none or the session has ended. */
export const session = new EventTarget();
let me = {};

/** Who is logged in and what they may do: the response of GET me. */
export const currentUser = () => me;

/** Whether they may change the cluster, and so manage what all users have. */
export const managesCluster = () => (me.rights?.cluster ?? []).includes("ALTER");

const isLoginNeeded = (user) => Boolean(user.needs_login && !user.principal);

/** Log in. Throws Problem if the server refuses. */
export async function logIn(user, password) {
  me = await post(SESSION, { user, password });
}

export const logOut = () => remove(SESSION);

/**
 * The login by a provider, if the server has one: its name, the address that leads there and back to this
 * page, and how the last one failed: "failed", "unreachable", or null.
 */
export function providerLogin() {
  if (!me.provider) return null;
  const failure = new URLSearchParams(location.search).get("login");
  const href = apiUrl(`${SESSION}/oidc`, { to: location.hash });
  return { name: new URL(me.provider).host, href, failure };
}

async function checkSession() {
  const now = await get("me").catch(() => me);
  if (isLoginNeeded(now)) session.dispatchEvent(new Event("ended"));
}

// ------------------------------------------------------------------------------------------ reachability

/** Dispatches "offline" when the server stops responding and "online" when it responds again. */
export const connection = new EventTarget();
let offline = false;

export const isOffline = () => offline;

async function waitForServer() {
  if (offline) return;
  offline = true;
  connection.dispatchEvent(new Event("offline"));
  do await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  while (!(await isAlive()));
  await loadApi().catch(() => {}); // the server may have been upgraded in between
  offline = false;
  connection.dispatchEvent(new Event("online"));
}

const isAlive = () =>
  fetch("/livez", { cache: "no-store" }).then(
    () => true,
    () => false,
  );

/** The server's health: {ok, problems, notes}. /readyz responds with 503 and reasons if it is not healthy. */
export async function fetchHealth(signal) {
  const response = await fetch("/readyz", { signal, cache: "no-store" }).catch(unreachable);
  const body = await response.json().catch(() => ({}));
  const problems = body.reasons ?? [body.detail ?? `the server responded with status ${response.status}`];
  return { ok: response.ok, problems, notes: body.notes ?? [] };
}

// ------------------------------------------------------------------------------------------ what is offered

let routes = new Map();
let schemas = {};
let cluster = {};

/**
 * Load the OpenAPI document and the description of the cluster. Called before the first page is shown.
 * Returns whether they could be loaded: without a login they cannot.
 */
export async function loadApi() {
  me = await get("me");
  if (isLoginNeeded(me)) return false;
  const [document, info] = await Promise.all([fetchOpenApi(), get("cluster")]);
  const paths = Object.entries(document.paths ?? {});
  routes = new Map(paths.map(([where, methods]) => [where.replace(/\{[^}]*\}/g, "{}"), methods]));
  schemas = document.components?.schemas ?? {};
  cluster = info;
  return true;
}

async function fetchOpenApi() {
  const response = await fetch("/openapi.json");
  if (response.ok) return response.json();
  const detail = "/openapi.json could not be read.";
  throw new Problem(response.status, { title: "The server does not describe its API", detail });
}

/** The description of the cluster: the response of GET cluster. */
export const clusterInfo = () => cluster;

/**
 * Whether the server offers a route and allows its use: canUse("post", "topics/{}/events"). `target`: the
 * topic, group or subscription that it would be used for, as the server describes it.
 */
export function canUse(method, template, target = null) {
  if (cluster.read_only && method !== "get" && !READING_POSTS.has(template)) return false;
  const route = routes.get(BASE + template)?.[method];
  return Boolean(route) && (route["x-rights"] ?? []).every((right) => hasRight(right, target));
}

function hasRight({ operation, resource }, target) {
  const operations = (target && resource in target && target.operations) || me.rights?.[resource];
  return !operations || operations.includes(operation);
}

/** Whether a route accepts a query parameter. */
export function acceptsParameter(method, template, name) {
  const parameters = routes.get(BASE + template)?.[method]?.parameters ?? [];
  return parameters.some((parameter) => parameter.name === name);
}

/** The values that the server accepts for a property of a request. */
export const allowedValues = (schema, property) => schemas[schema]?.properties?.[property]?.enum ?? [];
