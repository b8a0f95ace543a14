/**
 * The server's HTTP API, as this page uses it.
 *
 * Owns: paths, errors and streams. Nothing else in the page knows a URL of the server. What the server does not
 * offer (an older version, read-only, another engine) is not shown: `can()` asks its OpenAPI document.
 */

import { parseJson, writeJson } from "./payload.js";

/** What the server refused, in its own words: title, detail, and what to do about it. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.title = body.title ?? "";
    this.fix = body.fix ?? "";
    this.body = body;
  }
}

const BASE = "/api/v1/";

/** "topics/{}/events" with each {} replaced by an argument that is safe in a path. */
export function path(template, ...values) {
  let at = 0;
  return template.replace(/\{\}/g, () => encodeURIComponent(values[at++]));
}

function address(where, query) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (Array.isArray(value)) value.forEach((each) => params.append(name, each));
    else if (value != null && value !== "") params.set(name, value);
  }
  const text = params.toString();
  return BASE + where + (text ? `?${text}` : "");
}

async function ask(method, where, { query, body, signal, type = "application/json" } = {}) {
  let reply;
  try {
    reply = await fetch(address(where, query), {
      method,
      signal,
      headers: body === undefined ? { accept: "application/json" } : { "content-type": type },
      body: body === undefined ? undefined : typeof body === "string" ? body : writeJson(body, true),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lost();
    throw new Problem(0, {
      title: "The server does not answer",
      detail: "The console could not reach the server.",
      fix: "Is mainstem still running? The page goes on by itself as soon as it answers.",
    });
  }
  if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({ title: reply.statusText })));
  return reply;
}

async function json(method, where, options) {
  const reply = await ask(method, where, options);
  return reply.status === 204 ? null : parseJson(await reply.text());
}

export const get = (where, query, signal) => json("GET", where, { query, signal });
export const post = (where, body, signal) => json("POST", where, { body: body ?? {}, signal });
export const patch = (where, body) => json("PATCH", where, { body });
export const remove = (where, query) => json("DELETE", where, { query });

/** A line of a stream; what fails on its way says so in its last one. */
function readLine(text) {
  const value = parseJson(text);
  if (value.problem) throw Object.assign(new Problem(value.problem.status, value.problem), { line: value });
  return value;
}

/** A response as it arrives, one JSON value a line. Ends, or raises Problem; aborting raises AbortError. */
export async function* lines(where, body, signal) {
  const reply = await ask("POST", where, { body, signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(cut);
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.trim()) yield readLine(part);
    }
    if (rest.trim()) yield readLine(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** An answer that breaks off in the middle. */
function cut(error) {
  if (error.name === "AbortError") throw error;
  throw new Problem(0, { title: "The answer broke off", detail: "The connection was cut while the server answered.", fix: "What has been shown is right, but there may be more." });
}

/** The body of a POST as a stream of bytes, which fails when it is cut off: for exports. */
export async function stream(where, body, signal) {
  return (await ask("POST", where, { body, signal })).body;
}

/** Server-sent events: handlers by event name; `close()` ends them. */
export function follow(where, query, handlers) {
  const source = new EventSource(address(where, query));
  for (const [name, handler] of Object.entries(handlers)) {
    if (name === "open" || name === "error") source.addEventListener(name, handler);
    else source.addEventListener(name, (event) => handler(parseJson(event.data)));
  }
  return source;
}

// ------------------------------------------------------------------------------------------ when it is gone

const AGAIN_MS = 1500;

/** Tells "gone" when the server no longer answers, and "back" when it does again. */
export const connection = new EventTarget();
let gone = false;

export const isGone = () => gone;

async function lost() {
  if (gone) return;
  gone = true;
  connection.dispatchEvent(new Event("gone"));
  for (;;) {
    await new Promise((done) => setTimeout(done, AGAIN_MS));
    try {
      await fetch("/livez", { cache: "no-store" });
      break;
    } catch {
      continue;
    }
  }
  await learn().catch(() => {}); // it may be another version that came back
  gone = false;
  connection.dispatchEvent(new Event("back"));
}

// ------------------------------------------------------------------------------------------ what there is

let offered = new Map();
let schemas = {};
let cluster = {};

/** Read what this server offers and who it is. Called once, before the first page. */
export async function learn() {
  const [document, info] = await Promise.all([
    fetch("/openapi.json").then((reply) => {
      if (reply.ok) return reply.json();
      throw new Problem(reply.status, { title: "The server does not tell what it offers", detail: "/openapi.json could not be read." });
    }),
    get("cluster"),
  ]);
  offered = new Map(Object.entries(document.paths ?? {}).map(([where, methods]) => [where.replace(/\{[^}]*\}/g, "{}"), methods]));
  schemas = document.components?.schemas ?? {};
  cluster = info;
}

/** Whether the server offers this, and lets it be used: can("post", "topics/{}/events"). */
export function can(method, template) {
  if (cluster.read_only && method !== "get" && !READS.has(template)) return false;
  return Boolean(offered.get(BASE + template)?.[method]);
}

/** Whether a route that is offered takes this parameter. */
export const takes = (method, template, name) => Boolean(offered.get(BASE + template)?.[method]?.parameters?.some((each) => each.name === name));

/** The values that the server takes for a property of a request. */
export const choices = (schema, property) => schemas[schema]?.properties?.[property]?.enum ?? [];

const READS = new Set(["search", "facets", "compare", "export", "topics/{}/settings/preview"]);

/** Whether the server is well: {ok, problems, notes}. It answers 503 when it is not. */
export async function health(signal) {
  const reply = await fetch("/readyz", { signal, cache: "no-store" }).catch((error) => {
    if (error.name !== "AbortError") lost();
    throw error;
  });
  const told = await reply.json().catch(() => ({}));
  return { ok: reply.ok, problems: told.reasons ?? [told.detail ?? `it answered ${reply.status}`], notes: told.notes ?? [] };
}

/** The answer of GET cluster. */
export const who = () => cluster;

/** An address of the API as a reader would type it elsewhere: for copied commands. */
export const outside = (where, query) => location.origin + address(where, query);
