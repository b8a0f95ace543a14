/** The query of a search: its text, topics, time range and order, and the controls for them. */

import { h, icon, replaceContent } from "../../lib/dom.js";
import { TimeFilter, TopicFilter } from "../../widgets/filters.js";
import { QueryBox } from "../../widgets/query_box.js";

const splitList = (text) => (text ?? "").split(",").filter(Boolean);

export class SearchQuery {
  #box;
  #topics;
  #times;
  #orderButton;
  #oldestFirst;

  /** `onChange()` is called when a reader changes the query or searches again. */
  constructor(params, onChange) {
    this.#box = new QueryBox({
      query: params.get("q") ?? "",
      run: onChange,
      getTopics: () => this.topics,
    });
    this.#topics = new TopicFilter(splitList(params.get("topics")), onChange);
    const range = { since: params.get("since") ?? "", until: params.get("until") ?? "" };
    this.#times = new TimeFilter(range, onChange);
    this.#oldestFirst = params.get("oldest") === "1";
    const switchOrder = () => {
      this.#oldestFirst = !this.#oldestFirst;
      this.#drawOrder();
      onChange();
    };
    this.#orderButton = h("button.quiet", { type: "button", onclick: switchOrder });
    this.#drawOrder();
    this.element = this.#createElement(onChange);
  }

  #createElement(search) {
    const button = h("button.primary", { type: "button", onclick: search }, icon("search"), "Search");
    const scope = [this.#topics.element, this.#times.element, this.#orderButton, button];
    return h(
      "div.search-head",
      {},
      h("h1.visually-hidden", {}, "Search"),
      this.#box.element,
      h("div.search-scope", {}, scope),
    );
  }

  #drawOrder() {
    replaceContent(this.#orderButton, this.#oldestFirst ? "Oldest first" : "Newest first");
  }

  get query() {
    return this.#box.query;
  }

  get topics() {
    return this.#topics.value;
  }

  get showsTopics() {
    return this.#topics.allowsSeveral;
  }

  get oldestFirst() {
    return this.#oldestFirst;
  }

  get bounds() {
    return this.#times.bounds;
  }

  /** Whether a time range limits the search. */
  get hasTimeRange() {
    const { since, until } = this.#times.value;
    return Boolean(since || until);
  }

  setTimeRange(since, until) {
    this.#times.value = { since, until };
  }

  focus() {
    this.#box.focus();
  }

  showError(error) {
    this.#box.showError(error);
  }

  dispose() {
    this.#box.close();
  }

  /** The query without order and limit: {query, topics, since_ms?, until_ms?}. */
  matches() {
    return { query: this.query, topics: this.topics, ...this.bounds };
  }

  /** A request for events, in the order of this search. */
  request(options) {
    return { ...this.matches(), newest_first: !this.#oldestFirst, ...options };
  }

  /** The query as parameters of the address. */
  params() {
    const oldest = this.#oldestFirst ? "1" : "";
    return { q: this.query, topics: this.topics.join(","), ...this.#times.value, oldest };
  }

  /** Take the query from the address; returns whether it differs from the current one. */
  readParams(params) {
    const current = this.params();
    const names = ["q", "topics", "since", "until"];
    if (names.every((name) => (params.get(name) ?? "") === current[name])) return false;
    this.#box.query = params.get("q") ?? "";
    this.#topics.value = splitList(params.get("topics"));
    this.setTimeRange(params.get("since") ?? "", params.get("until") ?? "");
    return true;
  }

  /** Add a term, or exclude what it matches; returns false if the query already contains it. */
  addTerm(term, exclude) {
    const addition = exclude ? `NOT ${term}` : term;
    const query = this.query;
    if (query.includes(addition)) return false;
    const needsBrackets = /\bOR\b/.test(query) && !/^\(.*\)$/.test(query);
    const previous = needsBrackets ? `(${query})` : query;
    this.#box.query = previous ? `${previous} ${addition}` : addition;
    return true;
  }
}
