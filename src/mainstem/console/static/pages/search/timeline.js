/** The histogram of a search: all events of its topics and times, and the matches that are shown. */

import { canUse, get } from "../../lib/api.js";
import { timeText } from "../../lib/time.js";
import { Histogram } from "../../widgets/histogram.js";

const BUCKETS = 120;

export class SearchTimeline {
  #query;
  #buckets = [];
  #histogram;
  #loads = 0;

  /** `onChange()` is called when a reader selects a time range. */
  constructor(query, onChange) {
    this.#query = query;
    this.#histogram = new Histogram({
      onSelect: (from, to) => {
        query.setTimeRange(timeText(from), timeText(to));
        onChange();
      },
    });
    this.element = this.#histogram.element;
  }

  /** Load the numbers of events. The matches have to be counted again afterwards. */
  async load() {
    if (!canUse("get", "histogram")) {
      this.element.hidden = true;
      return;
    }
    const load = ++this.#loads;
    const { since_ms: since, until_ms: until } = this.#query.bounds;
    const query = {
      topics: this.#query.topics.join(","),
      since: timeText(since),
      until: timeText(until),
      buckets: BUCKETS,
    };
    const { buckets } = await get("histogram", query).catch(() => ({ buckets: [] }));
    if (load !== this.#loads) return;
    this.#buckets = buckets.map(({ from_ms: from, to_ms: to, count }) => ({
      from,
      to,
      count,
      matches: null,
    }));
  }

  /** Count a match in its bucket. */
  count({ timestamp_ms: time }) {
    if (!this.#buckets.length) return;
    const { from, to } = this.#buckets[0];
    const last = this.#buckets.length - 1;
    const index = Math.floor((time - from) / (to - from));
    // Beyond 2^53, the last time of a range may be rounded up to its end.
    const bucket = this.#buckets[index > last && time <= this.#buckets[last].to ? last : index];
    if (bucket) bucket.matches = (bucket.matches ?? 0) + 1;
  }

  draw() {
    this.#histogram.show(this.#buckets);
  }
}
