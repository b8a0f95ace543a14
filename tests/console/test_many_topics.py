"""Ten thousand topics: the browser creates few elements and sends few requests. Prints times with `-s`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.console.test_unavailable import page as page  # a fixture
from tests.support.server import Server

pytestmark = pytest.mark.slow

TOPICS = 10_000
BATCH = 1_000
ROWS_MAX = 60
REQUESTS_MAX = 12


@pytest.fixture(scope="module")
def large_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with `TOPICS` topics."""
    folder = tmp_path_factory.mktemp("large_server")
    with Server(folder / "data", http="127.0.0.1:0", log_level="warning", durability="os") as server:
        admin = AdminClient({"bootstrap.servers": server.address})
        for first in range(0, TOPICS, BATCH):
            names = [f"shop.{number % 40:02}.orders.{number:05}" for number in range(first, first + BATCH)]
            topics = [NewTopic(name, num_partitions=1) for name in names]
            for creation in admin.create_topics(topics, operation_timeout=60, request_timeout=60).values():
                creation.result()
        yield server


def api_requests(page: Any, name: str) -> list[dict[str, Any]]:
    """The requests to the API until now. Prints them, and the time of the first paint."""
    entries: list[dict[str, Any]] = page.evaluate(
        """performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/api/"))
          .map((entry) => ({ where: entry.name.split("/api/v1/")[1], ms: Math.round(entry.duration),
            wait_ms: Math.round(entry.responseStart - entry.requestStart), bytes: entry.encodedBodySize }))"""
    )
    paint = page.evaluate(
        "Math.round(performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1)"
    )
    print(f"\n{name}: first paint {paint} ms")
    for entry in entries:
        print("  {ms:>5} ms ({wait_ms} to the first byte) {bytes:>9,} B  {where}".format(**entry))
    return entries


@pytest.mark.parametrize("where", ["overview", "topics", "search", "groups"])
def test_pages_draw_and_fetch_little(large_server: Server, page: Any, where: str) -> None:
    page.goto(f"http://{large_server.http}/#/{where}")
    page.wait_for_timeout(1_500)
    if where == "topics":
        page.get_by_text("10,000 topics").wait_for()
    assert len(api_requests(page, where)) <= REQUESTS_MAX
    assert page.get_by_role("option").count() <= ROWS_MAX
    assert page.evaluate("document.querySelectorAll('*').length") < 1_500


def test_the_list_is_filtered_sorted_and_scrolled_without_more_elements(
    large_server: Server, page: Any
) -> None:
    page.goto(f"http://{large_server.http}/#/topics")
    page.get_by_text("10,000 topics").wait_for()
    before = len(api_requests(page, "topics"))
    page.keyboard.press("/")
    page.keyboard.type("shop.07 09")
    page.get_by_text("of 10,000").wait_for()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Partitions").click()
    page.locator(".rows").focus()
    page.keyboard.press("End")
    assert page.get_by_role("option").count() <= ROWS_MAX
    assert len(api_requests(page, "filtered")) == before


def test_the_menu_of_topics_is_bounded(large_server: Server, page: Any) -> None:
    page.goto(f"http://{large_server.http}/#/search")
    page.get_by_role("button", name="Topics").click()
    page.get_by_role("searchbox", name="Topic name or glob").fill("shop.07")
    page.get_by_text("There are more topics: type a part of the name.").wait_for()
    page.wait_for_timeout(400)
    api_requests(page, "menu of topics")
    assert page.get_by_role("checkbox").count() <= 200
