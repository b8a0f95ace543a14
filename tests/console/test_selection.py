"""Selecting, editing and highlighting events in a browser."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.console.conftest import EVIL, Open, newest_events
from tests.console.test_search import match_count, search
from tests.support.server import Server

pytestmark = pytest.mark.slow


def highlights(page: Any, where: str) -> list[str]:
    """The highlighted texts in an element."""
    page.locator(f"{where} mark").first.wait_for()
    return [str(text) for text in page.locator(f"{where} mark").all_inner_texts()]


def test_selected_matches_are_replayed_and_exported(show: Open, server: Server) -> None:
    page = show("#/search?topics=flights&q=origin:JFK")
    assert match_count(page) > 10
    page.keyboard.press("Escape")
    for key in ("j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    page.get_by_text("2 events selected").wait_for()
    rows = page.get_by_role("option")
    assert [rows.nth(index).get_attribute("aria-checked") for index in range(4)] == [
        "true",
        "false",
        "true",
        "false",
    ]
    places = [rows.nth(index).locator(".event-place").inner_text() for index in (0, 2)]
    rows.nth(4).locator(".row-checkbox").click(modifiers=["Shift"])
    page.get_by_text("4 events selected").wait_for()
    rows.nth(3).locator(".row-checkbox").click()
    rows.nth(4).locator(".row-checkbox").click()
    page.get_by_text("2 events selected").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export selected").click()
    lines = [json.loads(line) for line in saved.value.path().read_text().splitlines()]
    assert sorted(f"{line['partition']}:{line['offset']}" for line in lines) == sorted(places)
    page.get_by_role("button", name="Replay selected…").click()
    page.get_by_label("Target topic").fill("again")
    page.get_by_text("2 events will be published to again").wait_for()
    page.get_by_role("button", name="Replay", exact=True).click()
    page.get_by_text("Published 2 events to again").wait_for()
    origins = {
        dict(event.headers())["mainstem-replayed-from"].decode()
        for event in newest_events(server.address, "again", 2)
    }
    assert origins == {f"flights/{place.replace(':', '/')}" for place in places}
    page.get_by_role("button", name="Clear the selection").click()
    assert page.locator(".selection-bar").is_hidden()


def test_an_event_is_edited_before_it_is_published_again(show: Open, server: Server) -> None:
    page = show("#/event/refunds/0/0")
    page.get_by_role("button", name="Edit and publish…").click()
    dialog = page.get_by_role("dialog")
    value = dialog.get_by_label("Value", exact=True)
    before = json.loads(value.input_value())
    dialog.get_by_label("Target topic").fill("again")
    value.fill(json.dumps(before | {"refund": 4711, "by": EVIL}))
    dialog.get_by_label("Key", exact=True).fill("mended")
    dialog.get_by_role("button", name="Add a header").click()
    dialog.get_by_label("Header name").last.fill("ticket")
    dialog.get_by_label("Header value").last.fill("OPS-12")
    dialog.get_by_text("with changed key, value, headers").wait_for()
    assert "4711" in dialog.locator(".diff-add").first.inner_text()
    dialog.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_text("Published 1 event to again").wait_for()
    [event] = newest_events(server.address, "again", 1)
    headers = dict(event.headers())
    assert event.key() == b"mended"
    assert json.loads(event.value()) == before | {"refund": 4711, "by": EVIL}
    assert (headers["ticket"], headers["mainstem-replayed-from"]) == (b"OPS-12", b"refunds/0/0")


def test_unchanged_parts_stay_byte_for_byte(show: Open, server: Server) -> None:
    raw = b'{ "a":1,\t"b": "\\u00e9" }'
    producer = Producer({"bootstrap.servers": server.address})
    producer.produce("refunds", raw, key=b"\xff\x00")
    producer.flush(10)
    page = show(f"#/event/refunds/0/{newest_events(server.address, 'refunds', 1)[0].offset()}")
    page.get_by_role("button", name="Edit and publish…").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_label("Key", exact=True).is_disabled()
    dialog.get_by_label("Target topic").fill("again")
    dialog.get_by_text("without changes").wait_for()
    dialog.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_text("Published 1 event to again").wait_for()
    [event] = newest_events(server.address, "again", 1)
    assert (event.key(), event.value()) == (b"\xff\x00", raw)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("jfk carrier:b6", {"JFK", "B6"}),
        ("origin:JF*", {"JFK"}),
        ("JF*", {"JFK"}),
        ("dest:LAX AND NOT origin:EWR AND distance:[2400 TO 2500]", {"LAX", "2475", "2454", "2402"}),
        ("origin AND JFK", set()),
    ],
)
def test_only_matches_are_highlighted(show: Open, query: str, expected: set[str]) -> None:
    page = show("#/search?topics=flights")
    count = search(page, query)
    if not expected:
        assert count == 0, "names of fields are not words of an event"
        return
    assert count > 0
    assert set(highlights(page, "[role=option] .event-value")) <= expected
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert set(highlights(page, ".detail .payload")) <= expected
    names = page.locator(".detail .j-key mark").count()
    assert names == 0


def test_highlights_compare_as_the_search_does(show: Open) -> None:
    page = show("#/topics")
    ranges = page.evaluate(
        """async () => {
          const { queryHighlights, highlightRanges } = await import("/static/lib/highlight.js");
          const highlighted = (terms, text, place = "text", path = [], value = text) =>
            highlightRanges(queryHighlights(terms), place, path, value)
              .map((range) => String(text).slice(...range));
          const words = (...words) => [{ place: "text", words }];
          const field = (more) => [{ place: "field", path: ["a"], ...more }];
          const above60 = { text: "60", inclusive: false, quoted: false };
          return [
            highlighted(words("new", "york"), "East New-York, new\\nyork; newyork; york new"),
            highlighted(words("strasse"), "Große STRAßE 4"),
            highlighted(words("n142*"), "N14228 XN14228 n142"),
            highlighted(words("a"), "a_b ab a"),
            highlighted(words("\\\\*"), "a * b"),
            highlighted(field({ glob: "jfk" }), "JFK", "field", ["a"]),
            highlighted(field({ glob: "jfk" }), "JFK", "field", ["b"]),
            highlighted(field({ glob: "100", number: "100" }), "1e2", "field", ["a"], 100),
            highlighted(field({ low: above60 }), "61", "field", ["a"], 61),
            highlighted(field({ low: above60 }), "60", "field", ["a"], 60),
            highlighted(field({ glob: "null" }), "null", "field", ["a"], null),
            highlighted(field({ glob: "*".repeat(30) + "b" }), "a".repeat(50000), "field", ["a"]),
          ];
        }"""
    )
    assert ranges == [
        ["New-York", "new\nyork"],
        ["STRAßE"],
        ["N14228", "n142"],
        ["a", "a"],
        [],
        ["JFK"],
        [],
        ["1e2"],
        ["61"],
        [],
        ["null"],
        [],
    ]


def test_hostile_text_is_highlighted_as_text(show: Open) -> None:
    page = show("#/search?topics=strange")
    assert search(page, "script OR onerror OR key:*pwned*") > 0
    page.keyboard.press("Escape")
    for _ in range(3):
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.locator(".detail .event").wait_for()
    assert "script" in highlights(page, "[role=option]")
    assert page.locator("main script, main img, main iframe").count() == 0
    assert re.search("<script>", page.locator(".results").inner_text())
