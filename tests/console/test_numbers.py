"""Numbers that a double cannot represent, in the browser: times of nanoseconds, payloads of many digits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.console.conftest import Open
from tests.support.server import Server

pytestmark = pytest.mark.slow

NANOS = "nanoseconds"
NANO_TIMES = (1_796_004_605_127_000_123, 1_796_004_605_127_000_124)
"""Of the same double."""
MILLIS = 1_796_000_000_000
LAST = "last"
LAST_TIME = 2**63 - 1
DIGITS = "digits"
BEFORE = '{"amount":1234567890123456789,"rate":0.1234567890123456789,"price":1.50,"huge":1e400,"minus":-0}'
AFTER = BEFORE.replace("0.1234567890123456789", "0.1234567890123456788")


def produce(server: Server, topic: str, events: list[tuple[str, str, int]]) -> None:
    """Publish (key, value, time)."""
    producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
    for key, value, time_ms in events:
        producer.produce(topic, value, key=key, timestamp=time_ms)
        assert producer.flush(20) == 0


@pytest.fixture(scope="module")
def numbers(server: Server) -> Iterator[Server]:
    """A server with topics that have such numbers; they are deleted for the tests of other modules."""
    admin = AdminClient({"bootstrap.servers": server.address})
    any_time = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    topics = [NewTopic(NANOS, config=any_time), NewTopic(LAST, config=any_time), NewTopic(DIGITS)]
    for creation in admin.create_topics(topics).values():
        creation.result()
    nanos = [("one-key", json.dumps({"trail": f"nano{n}"}), time) for n, time in enumerate(NANO_TIMES)]
    produce(server, NANOS, [("one-key", '{"trail":"milli"}', MILLIS), *nanos])
    last_times = [("last-key", "1", MILLIS), ("last-key", "2", LAST_TIME), ("last-key", "3", MILLIS + 7_000)]
    produce(server, LAST, last_times)
    produce(server, DIGITS, [("d", BEFORE, MILLIS), ("d", AFTER, MILLIS + 1)])
    yield server
    for deletion in admin.delete_topics([NANOS, LAST, DIGITS]).values():
        deletion.result()


def texts(page: Any, selector: str) -> list[str]:
    """What a reader sees of all such elements."""
    return [str(text) for text in page.locator(selector).all_inner_texts()]


def test_a_search_of_all_topics_shows_times_of_nanoseconds_as_they_are(show: Open, numbers: Server) -> None:
    page = show("#/search?q=key:one-key")
    page.get_by_text("3 matches").first.wait_for()
    newest_first = [*map(str, reversed(NANO_TIMES))]
    assert texts(page, "[role=option] .event-time")[:2] == newest_first
    assert "2026-11-" in texts(page, "[role=option] .event-time")[2]
    page.get_by_role("option").first.click()
    page.get_by_role("tab", name="Key timeline").click()
    page.locator(".timeline li").nth(2).wait_for()
    links = texts(page, ".timeline li a")
    assert links[:2] == newest_first
    page.get_by_role("tab", name="Diff").click()
    page.get_by_text("Compared with").wait_for()
    assert str(NANO_TIMES[0]) in page.locator("[role=tabpanel]").inner_text()
    assert "nano0" in page.locator("[role=tabpanel]").inner_text()


def test_a_time_range_of_nanoseconds_is_kept_in_the_address(show: Open, numbers: Server) -> None:
    page = show(f"#/search?q=key:one-key&since={NANO_TIMES[1]}")
    page.get_by_text("1 match").first.wait_for()
    assert texts(page, "[role=option] .event-time") == [str(NANO_TIMES[1])]
    page = show(f"#/search?q=key:one-key&until={NANO_TIMES[1]}")
    page.get_by_text("2 matches").first.wait_for()
    page.locator(".histogram rect").first.wait_for(state="attached")
    page.get_by_label("Events over time").focus()
    page.keyboard.press("End")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"since="))


def test_the_last_time_of_all_is_compared_selected_and_labelled(show: Open, numbers: Server) -> None:
    page = show(f"#/event/{LAST}/0/1")
    page.get_by_role("tab", name="Diff").click()
    page.get_by_text("Compared with").wait_for()
    page.get_by_role("tab", name="Key timeline").click()
    page.locator(".timeline li").nth(2).wait_for()
    newest, last, _ = (text.strip() for text in texts(page, ".timeline li .muted"))
    assert (newest[0], last[0]) == ("\N{MINUS SIGN}", "+")
    assert "-" not in newest + last
    page = show(f"#/search?q=key:last-key&topics={LAST}")
    page.get_by_text("3 matches").first.wait_for()
    page.locator(".chart .axis span").nth(3).wait_for(state="attached")
    labels = texts(page, ".chart .axis span")
    assert len({int(label) % 1_000 for label in labels[1:] if label}) > 2, "labels are not rounded"
    chart = page.get_by_label("Events over time")
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)  # the last bucket
    page.wait_for_url(re.compile(r"until="))
    page.get_by_text("1 match").first.wait_for()
    assert texts(page, "[role=option] .event-time") == [str(LAST_TIME)]


def test_a_trace_shows_times_of_nanoseconds(show: Open, numbers: Server) -> None:
    page = show("#/trace?value=one-key")
    page.locator(".waterfall-row").nth(2).wait_for()
    times = texts(page, ".waterfall-row .event-time")
    assert "2026-11-" in times[0]
    assert times[1:] == [str(time) for time in NANO_TIMES]


def test_the_live_tail_shows_an_event_with_a_time_of_nanoseconds(show: Open, numbers: Server) -> None:
    page = show(f"#/topics/{NANOS}?tab=live")
    page.get_by_text("Waiting for events").wait_for()
    page.get_by_text("Pause").wait_for()
    page.wait_for_timeout(500)
    produce(numbers, NANOS, [("another-key", "{}", NANO_TIMES[0])])
    page.get_by_role("option").first.wait_for()
    assert texts(page, "[role=option] .event-time") == [str(NANO_TIMES[0])]


def test_an_offset_beyond_doubles_is_exact_also_in_links(show: Open, numbers: Server) -> None:
    """No log is that long; so the replies are made up."""
    page = show("#/topics")

    def answer(route: Any) -> None:
        offset = re.search(r"offset=(\d+)", route.request.url)[1]  # type: ignore[index]
        event = (
            f'{{"topic":"{NANOS}","partition":0,"offset":{offset},"timestamp":null,"timestamp_ms":null,'
            '"key":null,"value":null,"headers":[],"size":0}'
        )
        body = f'{{"events":[{event}],"unreadable":[],"next":".{offset}","begin":0,"end":{offset}}}'
        route.fulfill(status=200, content_type="application/json", body=body)

    page.route("**/partitions/0/events?*", answer)
    page.evaluate(f"location.hash = '#/event/{NANOS}/0/9007199254740993'")
    permalink = page.get_by_title("Link to this event")
    permalink.wait_for(state="attached")
    assert permalink.text_content() == "9007199254740993"
    assert permalink.get_attribute("href").endswith("/9007199254740993")
    assert page.locator("h1").inner_text().endswith("9007199254740993")
    page.get_by_role("button", name="Next").click()
    page.wait_for_url("**/9007199254740994")


def test_decimals_that_differ_in_the_last_of_nineteen_digits_differ(show: Open, numbers: Server) -> None:
    page = show(f"#/event/{DIGITS}/0/1")
    page.get_by_role("tab", name="Diff").click()
    page.get_by_text("Compared with").wait_for()
    panel = page.locator("[role=tabpanel]").inner_text()
    assert '"rate": 0.1234567890123456789' in panel
    assert '"rate": 0.1234567890123456788' in panel


def test_payloads_are_shown_with_their_digits(show: Open, numbers: Server) -> None:
    page = show(f"#/event/{DIGITS}/0/0")
    page.get_by_role("tab", name="Pretty").click()
    pretty = page.locator("[role=tabpanel] .payload").inner_text()
    for number in ("1234567890123456789", "0.1234567890123456789", "1.50", "1e400", "-0"):
        assert number in pretty
    assert page.locator(".j-number").count() == 5
    page = show(f"#/search?q=&topics={DIGITS}")
    page.get_by_text("2 matches").first.wait_for()
    rows = texts(page, "[role=option]")
    assert BEFORE in rows[1]
    assert AFTER in rows[0]


CASES = [
    "0", "-0", "1", "1.0", "1.50", "0.1", "0.10", "-1e3", "1E400", "-1e-400", "9007199254740993", "1e21",
    "123456789012345678901234567890", "0.1000000000000000055511151231257827", "1234567890.1234567",
    "0.0000001", "100", "12.34", "-9223372036854775808", "1.7976931348623157e308", "true", "null",
    '"1.50"', '"number:1.50"', '"a\\\\\\"1.50"', '[1.50,{"a":1.50}]', '{"1.50":1.50}', "[]", "[0, 1.50]",
]  # fmt: skip


def test_json_is_read_and_written_as_it_is_spelled(show: Open, numbers: Server) -> None:
    page = show("#/topics")
    script = """async (cases) => {
      const { parseJson, parseMarked } = await import("/static/lib/numbers.js");
      const { writeJson } = await import("/static/lib/payload.js");
      return [parseJson, parseMarked].map((parse) => cases.map((text) => writeJson(parse(text), true)));
    }"""
    wanted = [case.replace(", ", ",") for case in CASES]
    assert page.evaluate(script, CASES) == [wanted, wanted]


def test_numbers_are_compared_added_and_counted_exactly(show: Open, numbers: Server) -> None:
    page = show("#/topics")
    result = page.evaluate(
        """async () => {
      const n = await import("/static/lib/numbers.js");
      const [a, b] = ["9007199254740993", "9007199254740992"].map(n.numberOf);
      return {
        order: [[a, b], [b, a], [a, a], [1, a]].map(([x, y]) => n.compareNumbers(x, y)),
        sum: [String(n.addIntegers(a, 1)), n.addIntegers(1, 2)],
        counted: ["1.50", "1.5", "1e1", "10", "1e400", "0.10000000000000000555"].map((text) =>
          n.countedNumber(n.numberOf(text))),
        reply: n.parseReply('{"share":1.0,"rate":0.50,"ms":9007199254740993,"list":[0.0,-0,1e2]}'),
        kept: String(n.parseReply('{"value_encoding":"json","value":1.50,"offset":1.0}').value),
        equal: ["1.50", "15e-1", "0.15e1", "001.5"].map(n.canonicalNumber),
      };
    }"""
    )
    assert result == {
        "order": [1, -1, 0, -1],
        "sum": ["9007199254740994", 3],
        "counted": ["1.5", "1.5", "10", "10", "1e400", "0.10000000000000000555"],
        "reply": {"share": 1, "rate": 0.5, "ms": {"text": "9007199254740993"}, "list": [0, 0, 100]},
        "kept": "1.50",
        "equal": ["15e-1"] * 4,
    }
