"""Ten thousand topics: what the browser draws and fetches stays small. Times are printed (`-s`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.console.test_gone import page as page  # a fixture
from tests.support.server import Server

pytestmark = pytest.mark.slow

TOPICS = 10_000
AT_ONCE = 1_000
ROWS_MAX = 60
REQUESTS_MAX = 12


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with so many topics."""
    folder = tmp_path_factory.mktemp("crowded")
    with Server(folder / "data", http="127.0.0.1:0", log_level="warning", durability="os") as server:
        admin = AdminClient({"bootstrap.servers": server.at})
        for first in range(0, TOPICS, AT_ONCE):
            names = [f"shop.{at % 40:02}.orders.{at:05}" for at in range(first, first + AT_ONCE)]
            topics = [NewTopic(name, num_partitions=1) for name in names]
            for each in admin.create_topics(topics, operation_timeout=60, request_timeout=60).values():
                each.result()
        yield server


def told(page: Any, name: str) -> list[dict[str, Any]]:
    """The requests to the API so far; printed with the first paint."""
    entries: list[dict[str, Any]] = page.evaluate(
        """performance.getEntriesByType("resource").filter((each) => each.name.includes("/api/"))
          .map((each) => ({ where: each.name.split("/api/v1/")[1], ms: Math.round(each.duration),
            wait_ms: Math.round(each.responseStart - each.requestStart), bytes: each.encodedBodySize }))"""
    )
    paint = page.evaluate(
        "Math.round(performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1)"
    )
    print(f"\n{name}: first paint {paint} ms")
    for each in entries:
        print("  {ms:>5} ms ({wait_ms} to the first byte) {bytes:>9,} B  {where}".format(**each))
    return entries


@pytest.mark.parametrize("where", ["overview", "topics", "search", "groups"])
def test_pages_draw_and_fetch_little(crowded: Server, page: Any, where: str) -> None:
    page.goto(f"http://{crowded.http}/#/{where}")
    page.wait_for_timeout(1_500)
    if where == "topics":
        page.get_by_text("10,000 topics").wait_for()
    assert len(told(page, where)) <= REQUESTS_MAX
    assert page.get_by_role("option").count() <= ROWS_MAX
    assert page.evaluate("document.querySelectorAll('*').length") < 1_500


def test_the_list_is_filtered_sorted_and_scrolled_without_more_elements(crowded: Server, page: Any) -> None:
    page.goto(f"http://{crowded.http}/#/topics")
    page.get_by_text("10,000 topics").wait_for()
    before = len(told(page, "topics"))
    page.keyboard.press("/")
    page.keyboard.type("shop.07 09")
    page.get_by_text("of 10,000").wait_for()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Partitions").click()
    page.locator(".rows").focus()
    page.keyboard.press("End")
    assert page.get_by_role("option").count() <= ROWS_MAX
    assert len(told(page, "filtered")) == before


def test_the_menu_of_topics_is_bounded(crowded: Server, page: Any) -> None:
    page.goto(f"http://{crowded.http}/#/search")
    page.get_by_role("button", name="Topics").click()
    page.get_by_role("searchbox", name="Topic name or glob").fill("shop.07")
    page.get_by_text("There are more topics: type a part of the name.").wait_for()
    page.wait_for_timeout(400)
    told(page, "menu of topics")
    assert page.get_by_role("checkbox").count() <= 200
