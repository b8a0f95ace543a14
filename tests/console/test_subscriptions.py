"""Subscriptions in a browser: what they have, why an event is not delivered, and every action."""

from __future__ import annotations

import re
import time

import pytest

from tests.console.conftest import Open
from tests.console.workers import Workers
from tests.doors.http.door_kit import until
from tests.support.server import Server

pytestmark = pytest.mark.slow


def test_the_list_shows_what_is_outstanding_and_is_reached_from_a_topic(show: Open) -> None:
    page = show("#/topics/flights")
    page.locator("main").get_by_role("link", name="Subscriptions", exact=True).click()
    page.wait_for_url("**/#/subscriptions?topic=flights")
    row = page.get_by_role("option").filter(has_text="fees")
    assert "ready" in (row.get_by_role("img").get_attribute("aria-label") or "")
    page.get_by_label("Filter subscriptions by name").fill("rebook")
    page.get_by_role("option").filter(has_text="fees").wait_for(state="detached")
    page.get_by_role("option").filter(has_text="rebooking").click()
    page.wait_for_url("**/#/subscriptions/rebooking")
    page.get_by_role("heading", name="rebooking").wait_for()


def test_a_page_says_why_each_event_is_not_delivered(show: Open) -> None:
    page = show("#/subscriptions/fees?tab=events&state=leased")
    page.get_by_text(re.compile("leased by fees-[12]")).first.wait_for()
    page.get_by_text(re.compile("lock ends in [1-9]")).first.wait_for()
    page.get_by_role("button", name=re.compile("^waiting")).click()
    page.get_by_text(re.compile("delayed, due in 2[0-9] min")).first.wait_for()
    page.get_by_text("no tariff for US").first.wait_for()
    page.get_by_text("1 failed").first.wait_for()
    page.get_by_role("tab", name="Consumers").click()
    page.get_by_role("link", name="fees-2").click()
    page.get_by_role("button", name="of fees-2").wait_for()
    page.get_by_text("leased by fees-2").first.wait_for()
    assert page.get_by_text("leased by fees-1").count() == 0
    assert page.locator("tbody tr").count() == 5


def test_events_that_wait_are_woken_and_cancelled(show: Open) -> None:
    page = show("#/subscriptions/fees?state=waiting")
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    before = rows.count()
    rows.nth(0).get_by_role("checkbox").check()
    page.get_by_role("button", name="Wake 1").click()
    page.get_by_text("1 event will be ready").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Send now").click()
    page.get_by_text("Sent 1 event").wait_for()
    until(lambda: rows.count() == before - 1)
    rows.nth(0).get_by_role("checkbox").check()
    page.get_by_role("button", name="Cancel 1").click()
    page.get_by_text("1 event will be done").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Cancel events").click()
    until(lambda: rows.count() == before - 2)


def test_dead_letters_are_filtered_and_redriven_at_a_rate(show: Open) -> None:
    page = show("#/subscriptions/fees?tab=dead")
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    page.get_by_text("it has no departure time").first.wait_for()
    page.get_by_label("Reason").select_option("expired")
    page.get_by_text("No dead letter matches").wait_for()
    page.get_by_label("Reason").select_option("rejected")
    rows.first.wait_for()
    page.get_by_role("button", name="Redrive filtered").click()
    page.get_by_text("will be delivered again").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    rows.first.get_by_role("checkbox").check()
    page.get_by_role("button", name="Redrive 1").click()
    page.get_by_label("Events per second").fill("10")
    page.get_by_text("1 event will be delivered again").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Redrive").click()
    page.get_by_text("Redrove 1 event").wait_for()


def test_an_event_shows_its_state_in_each_subscription(show: Open) -> None:
    page = show("#/subscriptions/fees?state=leased")
    page.locator("tbody tr").first.get_by_role("link").click()
    page.get_by_role("tab", name="Subscriptions").click()
    row = page.locator("tr").filter(has_text="fees")
    row.get_by_text("leased", exact=True).wait_for()
    page.locator("tr").filter(has_text="archive").get_by_text("ready").wait_for()
    row.get_by_role("link", name="fees").click()
    page.wait_for_url("**/#/subscriptions/fees")


def test_a_subscription_is_created_changed_moved_purged_and_deleted(show: Open) -> None:
    page = show("#/subscriptions")
    page.get_by_role("button", name="New subscription").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("made")
    dialog.get_by_label("Topics").fill("refunds")
    dialog.get_by_role("button", name="Create").click()
    page.wait_for_url("**/#/subscriptions/made")
    page.get_by_role("tab", name="Settings").click()
    page.get_by_label("Failures until it is given up").fill("7")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved").wait_for()
    page.get_by_role("button", name="Purge…").click()
    page.get_by_text("will be done").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Purge").click()
    page.get_by_text("Purged").wait_for()
    page.get_by_role("button", name="Seek…").click()
    page.get_by_text("follow that place; now 0 are outstanding").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Seek").click()
    page.get_by_text("made continues with").wait_for()
    page.get_by_role("button", name="Delete…").click()
    delete = page.get_by_role("dialog").get_by_role("button", name="Delete subscription")
    page.get_by_text("will not be delivered").wait_for()
    assert delete.is_disabled()
    page.get_by_label(re.compile("Type the name")).fill("made")
    page.wait_for_timeout(400)
    delete.click()
    page.wait_for_url("**/#/subscriptions")


def test_hostile_text_of_workers_is_only_text(show: Open, server: Server) -> None:
    evil = "<img src=x onerror='window.pwned=1'>\u202e"
    workers = Workers(str(server.http))
    settings = {"dead_letter_topic": "again", "failures_max": 1}
    workers.post("subscriptions", subscription="hostile", topics=["strange"], settings=settings)
    (first, second) = workers.post("subscriptions/hostile:pull", consumer=evil, max_events=2, wait_ms=5_000)[
        "deliveries"
    ]
    workers.post("subscriptions/hostile:reject", tokens=[first["token"]], reason=evil)
    assert second["token"]
    time.sleep(0.5)
    for tab in ("dead", "consumers", "events"):
        page = show(f"#/subscriptions/hostile?tab={tab}")
        page.get_by_text("<img src=x").first.wait_for()
