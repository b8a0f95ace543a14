"""The console's pages in a browser: topics, live tail, settings, groups, keys, narrow screens, hostile
text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.console.conftest import BIDI, EVIL, EVIL_GROUP, Open
from tests.support.server import Server

pytestmark = pytest.mark.slow


def text_of(page: Any, selector: str) -> str:
    """What a reader sees of the first such element."""
    return str(page.locator(selector).first.inner_text())


def test_topics_are_filtered_sorted_and_opened_by_keys(show: Open) -> None:
    page = show("#/topics")
    page.get_by_role("option").first.wait_for()
    page.get_by_role("button", name="Events").click()
    assert text_of(page, "[role=option]").startswith("flights")
    assert "sort=events" in page.url
    page.keyboard.press("/")
    page.keyboard.type("REFU")
    page.get_by_text("1 of").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/#/topics/refunds")
    assert "refunds" in text_of(page, "h1")


def test_thousands_of_topics_are_a_few_rows(show: Open, server: Server) -> None:
    names = [f"many.{number:05}" for number in range(1_500)]
    admin = AdminClient({"bootstrap.servers": server.address})
    for creation in admin.create_topics([NewTopic(name, num_partitions=1) for name in names]).values():
        creation.result()
    try:
        page = show("#/topics?q=many")
        page.get_by_text("1,500 of").wait_for()
        assert page.get_by_role("option").count() < 60
        page.locator(".rows").focus()
        page.keyboard.press("End")
        page.get_by_text("many.01499").wait_for()
        assert page.get_by_role("option").count() < 60
    finally:
        for deletion in admin.delete_topics(names).values():
            deletion.result()


def test_a_topic_is_created_published_to_tailed_and_deleted(show: Open) -> None:
    page = show("#/topics")
    page.get_by_role("button", name="New topic").click()
    page.get_by_label("Name", exact=True).fill("created.here")
    page.get_by_role("button", name="Create topic").click()
    page.wait_for_url("**/#/topics/created.here")
    page.get_by_text("Waiting for events").wait_for()
    other = show("#/topics/created.here?tab=publish")
    other.get_by_role("textbox", name="Key").fill("order-1")
    other.get_by_role("textbox", name="Value").fill('{"total": 12345678901234567890}')
    other.get_by_role("button", name="Publish event").click()
    other.get_by_text("Published as").wait_for()
    page.get_by_role("option").first.wait_for()
    assert "order-1" in text_of(page, "[role=option]")
    page.get_by_role("option").first.click()
    assert "12345678901234567890" in text_of(page, ".detail .payload")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_label("Type the name").fill("created.here")
    page.get_by_role("button", name="Delete topic").click()
    page.wait_for_url("**/#/topics")


def test_a_change_of_retention_shows_first_what_it_deletes(show: Open) -> None:
    page = show("#/topics/flights?tab=settings")
    row = page.locator("tr", has=page.locator("code", has_text="retention.ms")).filter(
        has_not_text=".retention.ms"
    )
    row.get_by_role("button", name="Change").click()
    page.get_by_role("button", name="30 days").click()
    page.get_by_text("This deletes nothing").wait_for()
    page.get_by_role("button", name="Change", exact=True).click()
    row.get_by_text("set here").wait_for()
    assert "30 d" in row.inner_text()


def test_an_event_is_shown_as_it_is(show: Open) -> None:
    page = show("#/event/flights/0/0")
    page.get_by_role("tab", name="Hex").click()
    assert page.locator(".hexdump").inner_text().startswith("00000000  7b 22 79 65")
    page.get_by_role("tab", name="Headers 1").click()
    assert "carrier" in text_of(page, ".headers")
    page.get_by_role("button", name="kcat").click()
    assert page.evaluate("navigator.clipboard.readText()").endswith("-t 'flights' -p 0 -o 0 -c 1 -e -J")
    page.keyboard.press("j")
    page.wait_for_url("**/#/event/flights/0/1")


def test_the_properties_of_a_stream_message_are_shown_by_their_names(show: Open, server: Server) -> None:
    topic = "stream.orders"
    admin = AdminClient({"bootstrap.servers": server.address})
    for creation in admin.create_topics([NewTopic(topic, num_partitions=1)]).values():
        creation.result()
    try:
        properties = bytes.fromhex("005373 c00a 01 a107") + b"order-1"
        maps = bytes.fromhex("005374 c110 02 a106") + b"region\xa1\x05north"
        producer = Producer({"bootstrap.servers": server.address})
        producer.produce(topic, b"paid", headers=[("mainstem-amqp", properties + maps), ("source", b"shop")])
        assert producer.flush(30) == 0
        page = show(f"#/event/{topic}/0/0")
        page.get_by_role("tab", name="Headers 2").click()
        shown = text_of(page, ".headers").split("\n")
        assert "mainstem-amqp" not in shown
        for name, value in (("message-id", "order-1"), ("application-properties.region", "north")):
            assert shown[shown.index(name) + 1] == value
        assert "source" in shown
    finally:
        for deletion in admin.delete_topics([topic]).values():
            deletion.result()


def test_a_group_is_reset_after_a_dry_run(show: Open) -> None:
    page = show("#/groups")
    page.get_by_role("option", name="billing").click()
    page.get_by_text(re.compile(r"\d events behind")).wait_for()
    page.get_by_role("button", name="Reset…").click()
    page.get_by_text("500 events will be read again").wait_for()
    page.get_by_label("Move to").select_option("latest")
    page.get_by_text(re.compile(r"\d events will not be read")).wait_for()
    page.get_by_role("button", name="Reset", exact=True).click()
    page.get_by_text("up to date").first.wait_for()


def test_every_section_has_a_keyboard_shortcut(show: Open) -> None:
    page = show("#/topics")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("g")
    page.keyboard.press("g")
    page.wait_for_url("**/#/groups")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url("**/#/overview")
    page.get_by_text("reading and writing").wait_for()
    page.keyboard.press("?")
    assert "Go to Topics" in text_of(page, "dialog")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


@pytest.mark.parametrize(
    "where", ["overview", "topics", "topics/flights", "topics/flights?tab=settings", "groups"]
)
def test_a_narrow_screen_shows_all_without_scrolling_sideways(show: Open, where: str) -> None:
    page = show(f"#/{where}", width=400, height=800, scheme="dark")
    page.wait_for_load_state("networkidle") if "flights" not in where else page.wait_for_timeout(800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    outside = page.evaluate(
        """[...document.querySelectorAll("button, input, a")].filter((element) => {
          const box = element.getBoundingClientRect();
          const isOutside = box.width && (box.right > 401 || box.left < -1);
          return isOutside && !element.closest(".table-box, .tabs, .skip");
        }).map((element) => element.outerHTML)"""
    )
    assert [html for html in outside if "skip" not in html] == []


def test_the_choice_of_theme_and_zone_stays(show: Open) -> None:
    page = show("#/topics")
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Local").click()
    page.reload()
    page.get_by_role("button", name="UTC").wait_for()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("offset", range(6))
def test_hostile_events_do_nothing(show: Open, offset: int) -> None:
    page = show(f"#/event/strange/0/{offset}")
    page.get_by_role("tab").first.wait_for()
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.locator("[role=tabpanel] > *").first.wait_for()
        page.wait_for_timeout(150)
    assert page.locator("main script, main img, main iframe").count() == 0
    assert "\u202e" not in page.locator("body").inner_text()


def test_hostile_text_is_shown_and_not_run(show: Open) -> None:
    page = show("#/event/strange/0/0")
    page.get_by_role("tab", name="Text").click()
    assert EVIL in text_of(page, ".payload")
    page = show("#/event/strange/0/2")
    assert text_of(page, ".payload").startswith(
        BIDI.replace("\u202e", "U+202E").replace("\u200b", "U+200B") + "ESC[31mNULBEL"
    )


def test_hostile_groups_and_clients_do_nothing(show: Open, server: Server) -> None:
    page = show("#/groups")
    shown = EVIL_GROUP.replace("\u202e", "U+202E").replace("\u200b", "U+200B")
    page.get_by_role("option").filter(has_text=shown).click()
    page.get_by_text("Positions").first.wait_for()
    assert shown in text_of(page, "h1")
    page.get_by_role("button", name="Reset…").click()
    page.get_by_text("will be read again").wait_for()
    assert page.locator("main script, main img, dialog script, dialog img").count() == 0


def test_a_hostile_address_does_nothing(show: Open) -> None:
    for where in (
        "#/topics?q=%3Cimg%20src=x%20onerror=window.pwned=1%3E",
        "#/%3Cscript%3E/x",
        "#/topics?q=%E0%A4%A",
    ):
        page = show(where)
        page.locator("main > *").first.wait_for()
        assert page.locator("main script, main img").count() == 0
