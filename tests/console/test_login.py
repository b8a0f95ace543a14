"""The console of a server that asks for a login, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.net.security import SecurityProtocol
from tests.console.conftest import fill_login, opened_page
from tests.doors.http.door_kit import RunningHttpDoor, add_user, create_orders, running_door

pytestmark = pytest.mark.slow

PASSWORD = "wörd of alice"
TOPIC, GROUP, SUBSCRIPTION = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.SUBSCRIPTION


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    """A door with alice, who may do everything, and reader, who may read `orders`."""
    folder = tmp_path_factory.mktemp("console") / "data"
    with running_door(folder, security=SecurityProtocol.SASL_PLAINTEXT) as door:
        for user in ("alice", "reader"):
            add_user(door, user, PASSWORD)
        for resource_type in (TOPIC, GROUP, SUBSCRIPTION):
            door.rules.allow(resource_type, "*", Operation.ALL, user="alice")
        door.rules.allow_cluster(Operation.ALL, user="alice")
        door.rules.allow(TOPIC, "orders", Operation.READ, user="reader")
        door.http.auth = ("alice", PASSWORD)
        create_orders(door)
        create_orders(door, "secrets")
        yield door


@pytest.fixture
def page(secured: RunningHttpDoor, browser: Any) -> Iterator[Any]:
    """A new browser; errors of scripts fail the test, a refused login is none."""
    with opened_page(browser, expected="401|net::ERR") as new:
        yield new


def open_page(page: Any, door: RunningHttpDoor, where: str) -> None:
    page.goto(f"http://{door.address}/{where}")


def log_in(page: Any, user: str, password: str = PASSWORD) -> None:
    fill_login(page, user, password)


def test_the_login_leads_to_where_one_wanted_to_be(page: Any, secured: RunningHttpDoor) -> None:
    open_page(page, secured, "#/topics/orders?tab=partitions")
    page.get_by_role("heading", name="Log in").wait_for()
    assert page.title() == "Log in · mainstem"
    assert page.evaluate("document.activeElement.name") == "username"
    assert not page.locator("nav.side").is_visible()
    log_in(page, "alice", "wrong")
    page.get_by_text("User or password is wrong.").wait_for()
    assert page.evaluate("document.activeElement.name") == "password"
    log_in(page, "alice")
    page.get_by_role("tab", name="Partitions").wait_for()
    assert page.url.endswith("#/topics/orders?tab=partitions")
    page.get_by_text("alice", exact=True).wait_for()
    assert page.evaluate("document.cookie") == ""
    page.reload()
    page.get_by_role("tab", name="Partitions").wait_for()


def test_logging_out_leaves_nothing(page: Any, secured: RunningHttpDoor) -> None:
    open_page(page, secured, "#/topics")
    log_in(page, "alice")
    page.get_by_text("secrets").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    assert "secrets" not in page.content()
    assert page.context.cookies() == []


def test_a_session_that_ended_is_asked_for_in_place(page: Any, secured: RunningHttpDoor) -> None:
    open_page(page, secured, "#/groups")
    log_in(page, "alice")
    page.get_by_role("heading", name="Groups").wait_for()
    secured.loop.call_soon_threadsafe(secured.door._sessions.end_of, "alice")
    page.get_by_role("heading", name="Log in").wait_for()
    log_in(page, "alice")
    page.get_by_role("heading", name="Groups").wait_for()
    assert page.url.endswith("#/groups")


def test_what_one_may_not_do_is_not_offered(page: Any, secured: RunningHttpDoor) -> None:
    open_page(page, secured, "#/topics")
    log_in(page, "reader")
    page.get_by_role("option").first.wait_for()
    assert page.get_by_role("option").count() == 1
    assert "secrets" not in page.content()
    assert page.get_by_role("button", name="New topic").count() == 0
    open_page(page, secured, "#/access?tab=users")
    page.get_by_role("tab", name="API tokens").wait_for()
    assert page.get_by_role("tab").count() == 1, "one's own tokens, and nothing that an admin sees"
    page.get_by_role("button", name="New token").click()
    assert page.get_by_role("dialog").get_by_label("User").count() == 0
    page.get_by_label("What it is for").fill("by hand")
    page.get_by_role("button", name="Make token").click()
    page.get_by_text("Copy it now").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("cell", name="by hand").wait_for()
    open_page(page, secured, "#/topics/orders")
    page.get_by_role("tab", name="Live tail").wait_for()
    assert page.get_by_role("tab", name="Publish").count() == 0
    assert page.get_by_role("button", name="Delete").count() == 0
    open_page(page, secured, "#/search?q=city:Bern")
    page.get_by_role("option").first.wait_for()
    assert page.get_by_role("button", name="Replay").count() == 0
    open_page(page, secured, "#/")
    page.get_by_role("heading", name="Overview").wait_for()
    page.wait_for_timeout(300)
    assert "secrets" not in page.content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_page_meets_the_guidelines(secured: RunningHttpDoor, browser: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": 360, "height": 700}, color_scheme=scheme)
    page = context.new_page()
    open_page(page, secured, "#/topics")
    page.get_by_role("heading", name="Log in").wait_for()
    violations = Axe().run(page).response["violations"]
    assert [violation["id"] for violation in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()
