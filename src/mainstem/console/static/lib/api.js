/**
 * The client of the server's HTTP API.
 *
 * Owns: paths, errors, streams, and whether the server can be reached. No other module contains an address of
 * the server. `canUse()` reads the server's OpenAPI document: what the server does not offer (an older
 * version, read-only mode, another engine) is not shown.
 */

import { parseReply } from "./numbers.js";
import { writeJson } from "./payload.js";

const BASE = "/api/v1/";
const RETRY_MS = 1500;
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
  if (body === undefined) options.headers = { accept: "application/json" };
  else
    Object.assign(options, { headers: { "content-type": "application/json" }, body: writeJson(body, true) });
  const response = await fetch(apiUrl(where, query), options).catch(unreachable);
  if (response.ok) return response;
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
  for (const [name, handler] of Object.entries(handlers)) {
    const isState = name === "open" || name === "error";
    source.addEventListener(name, isState ? handler : (event) => handler(parseReply(event.data)));
  }
  return source;
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

/** Load the OpenAPI document and the description of the cluster. Called before the first page is shown. */
export async function loadApi() {
  const [document, info] = await Promise.all([fetchOpenApi(), get("cluster")]);
  const paths = Object.entries(document.paths ?? {});
  routes = new Map(paths.map(([where, methods]) => [where.replace(/\{[^}]*\}/g, "{}"), methods]));
  schemas = document.components?.schemas ?? {};
  cluster = info;
}

async function fetchOpenApi() {
  const response = await fetch("/openapi.json");
  if (response.ok) return response.json();
  const detail = "/openapi.json could not be read.";
  throw new Problem(response.status, { title: "The server does not describe its API", detail });
}

/** The description of the cluster: the response of GET cluster. */
export const clusterInfo = () => cluster;

/** Whether the server offers a route and allows its use: canUse("post", "topics/{}/events"). */
export function canUse(method, template) {
  if (cluster.read_only && method !== "get" && !READING_POSTS.has(template)) return false;
  return Boolean(routes.get(BASE + template)?.[method]);
}

/** Whether a route accepts a query parameter. */
export function acceptsParameter(method, template, name) {
  const parameters = routes.get(BASE + template)?.[method]?.parameters ?? [];
  return parameters.some((parameter) => parameter.name === name);
}

/** The values that the server accepts for a property of a request. */
export const allowedValues = (schema, property) => schemas[schema]?.properties?.[property]?.enum ?? [];
