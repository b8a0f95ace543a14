"""Choosing, changing and marking events in a browser."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.console.conftest import EVIL, Open, newest
from tests.console.test_search import found, search
from tests.support.server import Server

pytestmark = pytest.mark.slow


def marks(page: Any, where: str) -> list[str]:
    """What is marked there."""
    page.locator(f"{where} mark").first.wait_for()
    return [str(each) for each in page.locator(f"{where} mark").all_inner_texts()]


def test_chosen_matches_are_replayed_and_exported(show: Open, server: Server) -> None:
    page = show("#/search?topics=flights&q=origin:JFK")
    assert found(page) > 10
    page.keyboard.press("Escape")
    for key in ("j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    page.get_by_text("2 events selected").wait_for()
    rows = page.get_by_role("option")
    assert [rows.nth(at).get_attribute("aria-checked") for at in range(4)] == [
        "true",
        "false",
        "true",
        "false",
    ]
    places = [rows.nth(at).locator(".event-place").inner_text() for at in (0, 2)]
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
        dict(event.headers())["mainstem-replayed-from"].decode() for event in newest(server.at, "again", 2)
    }
    assert origins == {f"flights/{place.replace(':', '/')}" for place in places}
    page.get_by_role("button", name="Clear the selection").click()
    assert page.locator(".selection-bar").is_hidden()


def test_an_event_is_changed_before_it_is_published_again(show: Open, server: Server) -> None:
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
    [event] = newest(server.at, "again", 1)
    headers = dict(event.headers())
    assert event.key() == b"mended"
    assert json.loads(event.value()) == before | {"refund": 4711, "by": EVIL}
    assert (headers["ticket"], headers["mainstem-replayed-from"]) == (b"OPS-12", b"refunds/0/0")


def test_what_is_not_changed_stays_byte_for_byte(show: Open, server: Server) -> None:
    raw = b'{ "a":1,\t"b": "\\u00e9" }'
    producer = Producer({"bootstrap.servers": server.at})
    producer.produce("refunds", raw, key=b"\xff\x00")
    producer.flush(10)
    page = show(f"#/event/refunds/0/{newest(server.at, 'refunds', 1)[0].offset()}")
    page.get_by_role("button", name="Edit and publish…").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_label("Key", exact=True).is_disabled()
    dialog.get_by_label("Target topic").fill("again")
    dialog.get_by_text("without changes").wait_for()
    dialog.get_by_role("button", name="Publish", exact=True).click()
    page.get_by_text("Published 1 event to again").wait_for()
    [event] = newest(server.at, "again", 1)
    assert (event.key(), event.value()) == (b"\xff\x00", raw)


@pytest.mark.parametrize(
    ("query", "marked"),
    [
        ("jfk carrier:b6", {"JFK", "B6"}),
        ("origin:JF*", {"JFK"}),
        ("JF*", {"JFK"}),
        ("dest:LAX AND NOT origin:EWR AND distance:[2400 TO 2500]", {"LAX", "2475", "2454", "2402"}),
        ("origin AND JFK", set()),
    ],
)
def test_what_matched_is_marked_and_nothing_else(show: Open, query: str, marked: set[str]) -> None:
    page = show("#/search?topics=flights")
    count = search(page, query)
    if not marked:
        assert count == 0, "the name of a field is no word of an event"
        return
    assert count > 0
    assert set(marks(page, "[role=option] .event-value")) <= marked
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert set(marks(page, ".detail .payload")) <= marked
    names = page.locator(".detail .j-key mark").count()
    assert names == 0


def test_marks_are_made_as_the_search_compares(show: Open) -> None:
    page = show("#/topics")
    ranges = page.evaluate(
        """async () => {
          const { queryHighlights, highlightRanges } = await import("/static/lib/highlight.js");
          const at = (terms, text, place = "text", path = [], value = text) =>
            highlightRanges(queryHighlights(terms), place, path, value)
              .map((range) => String(text).slice(...range));
          const words = (...words) => [{ place: "text", words }];
          const field = (more) => [{ place: "field", path: ["a"], ...more }];
          return [
            at(words("new", "york"), "East New-York, new\\nyork; newyork; york new"),
            at(words("strasse"), "Große STRAßE 4"),
            at(words("n142*"), "N14228 XN14228 n142"),
            at(words("a"), "a_b ab a"),
            at(words("\\\\*"), "a * b"),
            at(field({ glob: "jfk" }), "JFK", "field", ["a"]),
            at(field({ glob: "jfk" }), "JFK", "field", ["b"]),
            at(field({ glob: "100", number: "100" }), "1e2", "field", ["a"], 100),
            at(field({ low: { text: "60", inclusive: false, quoted: false } }), "61", "field", ["a"], 61),
            at(field({ low: { text: "60", inclusive: false, quoted: false } }), "60", "field", ["a"], 60),
            at(field({ glob: "null" }), "null", "field", ["a"], null),
            at(field({ glob: "*".repeat(30) + "b" }), "a".repeat(50000), "field", ["a"]),
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


def test_hostile_text_is_marked_as_text(show: Open) -> None:
    page = show("#/search?topics=strange")
    assert search(page, "script OR onerror OR key:*pwned*") > 0
    page.keyboard.press("Escape")
    for _ in range(3):
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.locator(".detail .event").wait_for()
    assert "script" in marks(page, "[role=option]")
    assert page.locator("main script, main img, main iframe").count() == 0
    assert re.search("<script>", page.locator(".results").inner_text())
