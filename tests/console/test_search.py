"""Search, trace and the event in a browser: from a cancelled flight to its whole story."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.console.conftest import EVENTS, EVIL, Open, newest_events
from tests.scenarios import flights
from tests.support.server import Server

pytestmark = pytest.mark.slow


def cancelled() -> dict[str, Any]:
    """A cancelled flight whose aircraft flew more than once."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in flights.sample()[:EVENTS]]
    tails = [row["tailnum"] for row in rows]
    return next(
        row
        for row in rows
        if row["dep_time"] is None and row["tailnum"] != "NA" and tails.count(row["tailnum"]) > 1
    )


def match_count(page: Any) -> int:
    """The number of matches that the page shows when the search has ended."""
    page.locator(".results[aria-busy=false]").wait_for()
    count = re.match(r"([\d,]+) match", page.locator(".progress-text").inner_text())
    return int(count[1].replace(",", "")) if count else 0


def search(page: Any, query: str) -> int:
    """Type a query and search."""
    page.get_by_role("combobox", name="Search query").fill(query)
    page.keyboard.press("Enter")
    return match_count(page)


def test_from_a_cancelled_flight_to_its_story(show: Open) -> None:
    flight = cancelled()
    tail = flight["tailnum"]
    page = show("#/search")
    assert search(page, f"tailnum:{tail} AND dep_time:null AND topic:flights") >= 1
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator(".detail .payload").wait_for()
    assert f'"tailnum": "{tail}"' in page.locator(".detail .payload").inner_text()
    page.get_by_role("tab", name="Key timeline").click()
    page.get_by_text("events with this key").wait_for()
    assert page.locator(".timeline li").count() > 1
    page.locator(".facts").get_by_role("link", name="trace").click()
    # Two, and those that other tests have replayed it into. A scan of all topics.
    page.get_by_text(re.compile(r"events in [2-9] topics")).wait_for(timeout=60_000)
    assert page.locator(".waterfall-row").filter(has_text="refunds").count() >= 1
    times = page.locator(".waterfall-row .event-time").all_inner_texts()
    assert times == sorted(times)


def test_the_address_is_the_search(show: Open) -> None:
    page = show("#/search")
    count = search(page, "origin:JFK AND dep_delay:>120 AND topic:flights")
    assert count > 0
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator(".detail .payload").wait_for()
    copied = show(page.url.partition("/#")[2].join(["#", ""]))
    assert match_count(copied) == count
    copied.locator(".detail .payload").wait_for()
    assert copied.locator(".detail h2").inner_text() == page.locator(".detail h2").inner_text()


def test_facets_filter_and_exclude(show: Open) -> None:
    page = show("#/search?topics=flights")
    search(page, "carrier:UA")
    page.get_by_role("button", name="Filter for origin: EWR").click()
    only = match_count(page)
    assert page.get_by_role("combobox", name="Search query").input_value() == "carrier:UA origin:EWR"
    page.get_by_role("button", name="Exclude origin: EWR").click()
    assert match_count(page) == 0
    page.go_back()
    page.get_by_text(re.compile(f"^{only:,} match")).wait_for()


def test_all_matches_are_counted_on_the_server(show: Open) -> None:
    page = show("#/search?topics=flights")
    assert match_count(page) == 200
    page.get_by_role("button", name="Count all matches").click()
    page.get_by_text(f"Over all {EVENTS:,} matches").wait_for()


def test_the_matches_are_compared_with_the_rest_on_the_server(show: Open) -> None:
    page = show("#/search?topics=flights")
    search(page, "carrier:UA AND topic:flights")
    page.get_by_role("button", name="Compare with the rest").click()
    page.get_by_text(re.compile(r"Share among the matches / among all other events\.\s*$")).wait_for()
    fields = page.locator(".facet-difference p").all_inner_texts()
    assert "origin" in fields
    assert "carrier" not in fields
    page.get_by_role("button", name="Back to the facets").click()
    page.locator("details.facet").first.wait_for()


def test_events_that_a_continued_search_repeats_are_shown_once(show: Open) -> None:
    page = show("#/search?topics=flights")
    match_count(page)
    page.route("**/api/v1/search", respond_in_two_parts)
    page.get_by_role("combobox", name="Search query").fill("jfk")
    page.keyboard.press("Enter")
    page.get_by_text("interrupted by the server").wait_for()
    assert match_count(page) == 1
    page.get_by_role("button", name="Continue").click()
    page.get_by_text(re.compile("^3 matches")).wait_for()
    assert page.locator(".results").get_by_role("option").count() == 3


def respond_in_two_parts(route: Any) -> None:
    """The first response ends early; the second one repeats its last event."""
    totals = {
        "scanned_bytes": 5, "skipped_bytes": 0, "indexed_bytes": 0, "removed_bytes": 0, "total_bytes": 9,
        "events": 1, "matches": 1, "undecodable": 0, "share": 0.5, "reached_ms": None, "elapsed_s": 0.1,
        "partitions": 1, "index_note": None,
    }  # fmt: skip
    hits: list[dict[str, object]] = [
        {
            "hit": {
                "topic": "flights", "partition": 0, "offset": offset, "timestamp": "2013-01-01T00:00:00Z",
                "timestamp_ms": 1_356_998_400_000, "key": None, "value": "jfk", "headers": [], "size": 3,
                "value_encoding": "text",
            }
        }
        for offset in (3, 2, 1)
    ]  # fmt: skip
    end = {"done": {"reason": "complete", "totals": totals | {"matches": 2, "share": 1.0}, "resume": None}}
    if route.request.post_data_json.get("resume") == "after 3":
        lines = [*hits[1:], end]
    else:
        lines = [hits[0], {"progress": {"totals": totals, "resume": "after 3"}}]
        lines += [{"progress": {"totals": totals, "resume": None}}, hits[1]]
    route.fulfill(
        content_type="application/x-ndjson", body="".join(json.dumps(line) + "\n" for line in lines)
    )


def test_a_range_is_selected_on_the_histogram(show: Open) -> None:
    page = show("#/search?topics=flights")
    everything = page.locator(".histogram .volume")
    everything.first.wait_for()
    plot = page.locator(".chart-plot")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=5)
    page.mouse.up()
    page.wait_for_url("**since=2013*until=2013*")
    assert match_count(page) > 0
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    match_count(page)
    assert page.locator(".menu-text").nth(1).inner_text().startswith("2013-")


def test_more_matches_continue_where_the_search_stopped(show: Open) -> None:
    page = show("#/search?topics=flights")
    page.get_by_text("stopped at the limit").wait_for()
    first = match_count(page)
    page.get_by_role("button", name="More matches").click()
    assert match_count(page) > first
    places = page.locator(".event-place").all_inner_texts()
    assert len(places) == len(set(places))


def test_an_error_of_the_query_is_underlined(show: Open) -> None:
    page = show("#/search?topics=refunds")
    match_count(page)
    page.get_by_role("combobox", name="Search query").fill("tailnum:(N1 OR")
    page.get_by_text("column 15").wait_for()
    assert page.locator(".squiggle").is_visible()


def test_completion_offers_fields(show: Open) -> None:
    page = show("#/search?topics=flights")
    match_count(page)
    box = page.get_by_role("combobox", name="Search query")
    box.press_sequentially("dep_de")
    page.locator(".completion").get_by_text("dep_delay:").wait_for()
    page.keyboard.press("Tab")
    assert box.input_value() == "dep_delay:"


def test_hostile_matches_do_nothing(show: Open) -> None:
    page = show("#/search?topics=strange")
    assert match_count(page) == 6
    page.keyboard.press("Escape")
    for _ in range(6):
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.locator(".detail .event").wait_for()
    assert page.locator("main script, main img, main iframe").count() == 0
    assert EVIL[:20] in page.locator(".facet-list").inner_text()


def test_searching_fits_a_narrow_screen(show: Open) -> None:
    page = show("#/search?topics=flights&q=JFK", width=400, height=800)
    assert match_count(page) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_role("button", name="Facets").click()
    page.get_by_role("button", name="Filter for topic: flights").first.wait_for()
    page.get_by_role("button", name="Facets").click()
    page.get_by_role("option").first.click()
    page.get_by_role("button", name="Close (Esc)").click()
    page.get_by_role("option").first.wait_for()


def test_a_cancelled_flight_is_replayed(show: Open, server: Server) -> None:
    page = show(f"#/search?topics=flights&q=tailnum:{cancelled()['tailnum']}%20AND%20dep_time:null")
    assert match_count(page) >= 1
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator(".detail").get_by_role("button", name="Replay…").click()
    page.get_by_label("Target topic").fill("again")
    page.get_by_text("1 event will be published to again").wait_for()
    page.get_by_role("button", name="Replay", exact=True).click()
    page.get_by_text("Published 1 event to again").wait_for()
    page = show(f"#/event/again/0/{newest_events(server.address, 'again', 1)[0].offset()}")
    page.get_by_role("tab", name="Headers 3").click()
    page.get_by_text("mainstem-replayed-from").wait_for()
    assert "flights/" in page.locator(".headers").inner_text()


def test_a_replay_shows_first_how_many_events_it_publishes(show: Open) -> None:
    page = show("#/search?topics=refunds")
    count = match_count(page)
    page.locator(".progress-line").get_by_role("button", name="Replay…").click()
    assert page.get_by_role("button", name="Replay", exact=True).is_disabled()
    page.get_by_label("Target topic").fill("strange")
    page.get_by_text(f"{count} events will be published to strange").wait_for()
    page.get_by_role("button", name="Close", exact=True).click()


def test_all_matches_are_exported(show: Open) -> None:
    page = show("#/search?topics=flights&q=origin:JFK")
    page.get_by_role("button", name="Export…").click()
    notice = page.get_by_text("will be exported")
    notice.wait_for()
    count = int(re.match(r"([\d,]+)", notice.inner_text())[1].replace(",", ""))  # type: ignore[index]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export", exact=True).click()
    events = [json.loads(line) for line in saved.value.path().read_text().splitlines()]
    assert len(events) == count > match_count(page)
    assert {event["value"]["origin"] for event in events} == {"JFK"}


def test_an_empty_result_says_why(show: Open) -> None:
    page = show("#/search?topics=silent")
    page.get_by_text("No events here").wait_for()
    page.get_by_text("Try more topics.").wait_for()
    search(page, "nothinghasthis")
    page.get_by_text("No events here").wait_for()
    page = show("#/search?q=nothinghasthis")
    page.get_by_text("No matches").wait_for()
    assert page.get_by_text("time range").count() == 0


def test_binary_values_open_as_bytes_and_text_as_before(show: Open) -> None:
    page = show("#/event/strange/0/3")
    page.get_by_role("tab", name="Hex", selected=True).wait_for()
    page.get_by_text("00000000  00 01 02").wait_for()
    page.goto(page.url.replace("/0/3", "/0/0"))
    page.get_by_role("tab", name="Text", selected=True).wait_for()


def test_errors_about_missing_items_are_written_for_people(server: Server, browser: Any) -> None:
    page = browser.new_page()  # not `show`: the browser logs what was not found
    for where, said in (("topics/not-there", "no such topic"), ("event/silent/0/7", "no such offset")):
        page.goto(f"http://{server.http}/#/{where}")
        note = page.get_by_role("alert").filter(has_text=said)
        note.wait_for()
        assert "/api/" not in note.inner_text()
        assert "`" not in note.inner_text()
    page.close()


def test_the_axis_distinguishes_times_within_a_second(show: Open) -> None:
    page = show("#/search?topics=strange")
    match_count(page)
    page.locator(".axis span").first.wait_for()
    labels = [text for text in page.locator(".axis span").all_inner_texts() if text]
    assert len(labels) > 1
    assert len(set(labels)) == len(labels)
