"""The console in front of a real Apache Kafka: its pages work, and what cannot work is not offered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.console.conftest import fill, opened_page
from tests.console.test_search import cancelled, search
from tests.support.console_process import console_process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def console(real_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a console in front of it."""
    fill(real_kafka)
    admin = AdminClient({"bootstrap.servers": real_kafka})
    forever = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
    for name in ("flights", "refunds"):  # events of 2013, which Kafka would delete soon
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[forever])
        admin.incremental_alter_configs([resource])[resource].result()
    data = tmp_path_factory.mktemp("filters")
    with console_process(real_kafka, data) as (_, address):
        yield address
    assert Path(data).is_dir()


@pytest.fixture
def page(console: str, browser: Any) -> Iterator[Any]:
    """A page of it. An error in the browser fails the test."""
    with opened_page(browser) as page:
        page.goto(f"http://{console}/")
        page.get_by_role("heading", name="Overview").wait_for()
        yield page


def go(page: Any, console: str, where: str) -> None:
    page.goto(f"http://{console}/{where}")


def test_every_page_works_or_is_not_offered(page: Any, console: str) -> None:
    go(page, console, "#/topics")
    page.get_by_role("option", name="flights").wait_for()
    go(page, console, "#/topics/flights")
    for tab in ("Partitions", "Settings"):
        page.get_by_role("tab", name=tab).click()
        page.locator("main table").first.wait_for()
    go(page, console, "#/groups")
    page.get_by_role("option", name="billing").click()
    page.get_by_text(re.compile(r"events behind")).wait_for()
    assert page.locator(".problem").count() == 0


def test_events_are_found_opened_and_traced(page: Any, console: str) -> None:
    go(page, console, "#/search")
    tail = cancelled()["tailnum"]
    assert search(page, f"tailnum:{tail} AND dep_time:null AND topic:flights") >= 1
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.locator(".detail .payload").wait_for()
    assert f'"tailnum": "{tail}"' in page.locator(".detail .payload").inner_text()
    page.get_by_role("tab", name="Key timeline").click()
    page.get_by_text("events with this key").wait_for()
    page.locator(".facts").get_by_role("link", name="trace").click()
    page.get_by_text(re.compile(r"events in [23] topics")).wait_for()
