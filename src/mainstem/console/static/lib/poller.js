/** Repeats a request while a page is shown. */

/**
 * Calls `load(signal)` at once and again `intervalMs` after it has ended. `onError(error)` is called when it
 * fails; after an error it is repeated only if `retryMs` is given.
 */
export class Poller {
  #load;
  #onError;
  #intervalMs;
  #retryMs;
  #timer = 0;
  #abort = new AbortController();

  constructor({ load, onError, intervalMs, retryMs = null }) {
    this.#load = load;
    this.#onError = onError;
    this.#intervalMs = intervalMs;
    this.#retryMs = retryMs;
  }

  get signal() {
    return this.#abort.signal;
  }

  /** Load now; the interval starts again. */
  async run() {
    clearTimeout(this.#timer);
    let waitMs = this.#intervalMs;
    try {
      await this.#load(this.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#onError(error);
      waitMs = this.#retryMs;
    }
    clearTimeout(this.#timer);
    if (waitMs != null && !this.signal.aborted) this.#timer = setTimeout(() => this.run(), waitMs);
  }

  close() {
    this.#abort.abort();
    clearTimeout(this.#timer);
  }
}
