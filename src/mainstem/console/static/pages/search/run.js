/** One search on the server: its events in order, how far it has come, and how it ended. */

import { streamLines } from "../../lib/api.js";
import { eventPosition } from "../../lib/events.js";
import { compareNumbers } from "../../lib/numbers.js";

export class SearchRun {
  events = [];
  /** Parts of the log that could not be read. */
  unreadable = [];
  /** The totals of the server, over all parts of the search; null before the first. */
  totals = null;
  /** The token that continues the search; null if it is complete. */
  resume = null;
  /**
   * "running", "stopped" by the reader, "cut" by the server, "invalid" query, "failed", or the reason of the
   * server: "complete", "limit" or "budget".
   */
  state = "running";
  /** The error of an invalid query or a failed search. */
  error = null;
  #oldestFirst;
  #onEvent;
  #onProgress;
  #positions = new Set();
  #abort = null;
  #isDiscarded = false;

  /** `onEvent(event)` is called for each event that is new, `onProgress()` after each line of the reply. */
  constructor({ oldestFirst, onEvent, onProgress }) {
    this.#oldestFirst = oldestFirst;
    this.#onEvent = onEvent;
    this.#onProgress = onProgress;
  }

  /** Stop; what was found is kept. */
  stop() {
    this.#abort?.abort();
  }

  /** Stop, and call no callback any more. */
  discard() {
    this.#isDiscarded = true;
    this.stop();
  }

  /** Run the search, or continue it with a request that has a `resume` token. Errors end up in `error`. */
  async stream(request) {
    this.#abort = new AbortController();
    const before = this.totals;
    this.state = "running";
    this.error = null;
    try {
      for await (const line of streamLines("search", request, this.#abort.signal)) {
        if (this.#isDiscarded) return;
        this.#addLine(line, before);
        this.#onProgress();
      }
      if (this.state === "running") this.state = "cut";
    } catch (error) {
      this.error = error;
      if (error.name === "AbortError") this.state = "stopped";
      else this.state = error.body?.column != null ? "invalid" : "failed";
    }
  }

  #addLine(line, before) {
    if (line.hit) this.#addEvent(line.hit);
    else if (line.unreadable) this.unreadable.push(line.unreadable);
    else this.#addProgress(line, before);
  }

  #addProgress({ progress, done }, before) {
    const part = progress ?? done;
    this.totals = { ...part.totals, matches: this.events.length };
    if (before) {
      this.totals.undecodable += before.undecodable;
      this.totals.elapsed_s += before.elapsed_s;
    }
    this.resume = part.resume ?? (done ? null : this.resume);
    if (done) this.state = done.reason;
  }

  /** Continued, a search finds the events after its last token again. */
  #addEvent(event) {
    const position = eventPosition(event);
    if (this.#positions.has(position)) return;
    this.#positions.add(position);
    this.#insert(event);
    this.#onEvent(event);
  }

  /** The server sends the events of each part of the log in order of time, but the parts may overlap. */
  #insert(event) {
    const sign = this.#oldestFirst ? 1 : -1;
    let index = this.events.length;
    while (index > 0 && sign * compareNumbers(this.events[index - 1].timestamp_ms, event.timestamp_ms) > 0)
      index--;
    this.events.splice(index, 0, event);
  }
}
