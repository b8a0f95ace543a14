"""The page of users, rights, masked fields, quotas, API tokens and the audit in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.console.conftest import EVIL, Open, collect_errors, fill
from tests.support.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with access control, on which everybody is a super user."""
    folder = tmp_path_factory.mktemp("access")
    with Server(
        folder / "data",
        http="127.0.0.1:0",
        log_level="warning",
        access_control=True,
        super_users="User:ANONYMOUS",
    ) as running:
        fill(running.address)
        yield running


@pytest.fixture
def show_access(guarded: Server, browser: Any) -> Iterator[Open]:
    errors: list[str] = []
    contexts: list[Any] = []

    def open_page(tab: str, *, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": 1300, "height": 850}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        collect_errors(page, errors)
        page.goto(f"http://{guarded.http}/#/access?tab={tab}")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.pwned") is None, "text of a user was executed"
        context.close()
    assert errors == []


def api(server: Server, method: str, path: str, body: Any = None) -> Any:
    reply = httpx.request(
        method, f"http://{server.http}/api/v1/{path}", json=body, timeout=30, trust_env=False
    )
    reply.raise_for_status()
    return reply.json()


def test_users_are_added_get_another_password_and_are_deleted(show_access: Open, guarded: Server) -> None:
    page = show_access("users")
    page.get_by_text("No users yet").wait_for()
    page.get_by_role("button", name="Add user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("alice")
    dialog.get_by_label("Password").fill("correct horse")
    dialog.get_by_label("Once more").fill("correct house")
    dialog.get_by_role("button", name="Add").click()
    dialog.get_by_text("The two passwords differ.").wait_for()
    dialog.get_by_label("Once more").fill("correct horse")
    dialog.get_by_role("button", name="Add").click()
    page.get_by_text("Added alice").wait_for()
    page.get_by_role("cell", name="alice").wait_for()
    (user,) = api(guarded, "GET", "users")["users"]
    assert [item["mechanism"] for item in user["mechanisms"]] == ["SCRAM-SHA-256", "SCRAM-SHA-512"]
    page.get_by_role("button", name="Delete…").click()
    page.get_by_text("Their connections are closed.").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No users yet").wait_for()


def test_the_verifiers_of_the_browser_are_those_of_the_server(show_access: Open) -> None:
    from mainstem.access_contract import ScramMechanism
    from mainstem.authentication.scram import make_verifier
    from mainstem.http_api.access import VerifierJson, verifier_of

    page = show_access("users")
    for password in ("pencil", "p\u00e4ss\u00a0w\u00adort", "\u2168"):
        made = page.evaluate(
            "password => import('/static/lib/scram.js').then((m) => m.passwordVerifiers(password))", password
        )
        for row in made:
            verifier = verifier_of(VerifierJson(**row))
            assert verifier == make_verifier(
                ScramMechanism(verifier.mechanism), password, verifier.salt, verifier.iterations
            )


def test_an_entry_is_added_decides_and_is_deleted(show_access: Open, guarded: Server) -> None:
    page = show_access("rights")
    question = page.locator("form.question")
    question.get_by_label("User or role").fill("User:alice")
    question.get_by_label("Name").fill("flights")
    question.get_by_role("button", name="Ask").click()
    question.get_by_text(re.compile("^No")).wait_for()
    page.get_by_role("button", name="Add entry").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("User or role").fill("User:alice")
    dialog.get_by_label("Name", exact=True).fill("fli")
    dialog.get_by_label("all names that begin so").check()
    dialog.get_by_text("New:").wait_for()
    dialog.get_by_role("button", name="Add").click()
    page.get_by_text("Added the entry").wait_for()
    question.get_by_role("button", name="Ask").click()
    question.get_by_text(re.compile("^Yes")).wait_for()
    question.get_by_text("fli…").wait_for()
    page.get_by_label("Filter entries").fill("bob")
    page.get_by_text("No entry contains this text").wait_for()
    page.get_by_label("Filter entries").fill("alice")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No entries yet").wait_for()
    assert api(guarded, "GET", "acls")["acls"] == []


def test_a_masking_rule_is_previewed_put_and_deleted(show_access: Open, guarded: Server) -> None:
    page = show_access("masking")
    page.get_by_text("No masked fields").wait_for()
    page.get_by_role("button", name="Add rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill("aircraft")
    dialog.get_by_label("Topic", exact=True).fill("flights")
    dialog.get_by_label("Field").fill("tail")
    dialog.get_by_text("is the path right?").wait_for()
    dialog.get_by_label("Field").fill("tailnum")
    dialog.get_by_text("It masks 5 events of the newest 5.").wait_for()
    dialog.get_by_text("[hidden]").first.wait_for()
    dialog.get_by_role("button", name="Add").click()
    page.get_by_text("aircraft masks from now on").wait_for()
    page.get_by_role("button", name="Change…").click()
    page.get_by_role("dialog").get_by_label("Shown in its place").select_option("last4")
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    page.get_by_role("cell", name="last4").wait_for()
    assert [row["kind"] for row in api(guarded, "GET", "masking-rules")["rules"]] == ["last4"]
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No masked fields").wait_for()


def test_quotas_are_added_changed_and_deleted(show_access: Open, guarded: Server) -> None:
    api(guarded, "POST", "quotas", {"user": EVIL, "client_id": "", "consumer_byte_rate": 2e6})
    page = show_access("quotas")
    page.get_by_role("cell", name="2 MB/s").wait_for()
    page.get_by_role("button", name="Add quota").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("button", name="Add").is_disabled()
    dialog.get_by_label("Name of the user").fill("alice")
    dialog.get_by_label("Publish, bytes a second").fill("1048576")
    dialog.get_by_text("Now: no quota. Then: publish 1.05 MB/s.").wait_for()
    dialog.get_by_role("button", name="Add").click()
    page.get_by_text("The quotas hold from now on").wait_for()
    page.get_by_role("cell", name="user alice").wait_for()
    page.get_by_label("Filter quotas").fill("alice")
    page.get_by_role("button", name="Change…").click()
    dialog.get_by_label("Publish, bytes a second").fill("")
    dialog.get_by_label("Requests, percent").fill("12.5")
    dialog.get_by_text("Then: requests 12.5 %.").wait_for()
    dialog.get_by_role("button", name="Change").click()
    page.get_by_role("cell", name="12.5 %").wait_for()
    (row,) = api(guarded, "GET", "quotas?user=alice")["quotas"]
    assert (row["producer_byte_rate"], row["request_percentage"]) == (None, 12.5)
    page.get_by_role("button", name="Delete…").click()
    page.get_by_text("It holds no longer: requests 12.5 %.").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No quota is for that").wait_for()
    assert api(guarded, "GET", "quotas?user=alice")["quotas"] == []


def test_the_quota_of_an_address_asks_for_connections_alone(show_access: Open, guarded: Server) -> None:
    page = show_access("quotas")
    page.get_by_role("button", name="Add quota").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Quota of").select_option("addresses")
    assert not dialog.get_by_label("Publish, bytes a second").is_visible()
    dialog.get_by_label("New connections a second").fill("5")
    dialog.get_by_label("Address", exact=True).select_option("every")
    dialog.get_by_text("Then: connect 5/s.").wait_for()
    dialog.get_by_role("button", name="Add").click()
    page.get_by_role("cell", name="every address").wait_for()
    assert api(guarded, "POST", "quotas:delete", {"ip": ""})["before"]["connection_creation_rate"] == 5


def test_a_token_is_made_shown_once_and_revoked(show_access: Open, guarded: Server) -> None:
    verifier = {
        "mechanism": "SCRAM-SHA-256",
        "salt": "c2FsdA==",
        "iterations": 4096,
        **dict.fromkeys(("stored_key", "server_key"), "a" * 43 + "="),
    }
    api(guarded, "POST", "users", {"user": "bob", "verifiers": [verifier]})
    page = show_access("tokens")
    page.get_by_text("No API tokens yet").wait_for()
    page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What it is for").fill(EVIL)
    dialog.get_by_role("button", name="Make token").click()
    dialog.get_by_text("Say what it is for, and whose it is.").wait_for()
    dialog.get_by_label("User").fill("bob")
    dialog.get_by_label("Only to read").check()
    dialog.get_by_label("Only topics that begin with").fill("fli, refunds")
    dialog.get_by_role("button", name="Make token").click()
    page.get_by_text("Copy it now").wait_for()
    token = page.get_by_label("Token", exact=True).input_value()
    assert token.startswith("mst_")
    page.mouse.click(5, 5)
    assert page.get_by_label("Token", exact=True).is_visible(), "a click beside the dialog loses nothing"
    page.keyboard.press("Escape")
    page.get_by_role("cell", name="topics:fli").wait_for()
    assert token not in page.content()
    (row,) = api(guarded, "GET", "tokens")["tokens"]
    assert (row["user"], set(row["scopes"])) == ("bob", {"read-only", "topics:fli", "topics:refunds"})
    page.get_by_role("button", name="Revoke…").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.get_by_text("No API tokens yet").wait_for()
    assert api(guarded, "GET", "tokens")["tokens"] == []
    api(guarded, "DELETE", "users/bob")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_quotas_and_tokens(show_access: Open, guarded: Server, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    api(guarded, "POST", "quotas", {"user": "alice", "producer_byte_rate": 1})
    for tab, button in (("quotas", "Add quota"), ("tokens", "New token")):
        page = show_access(tab, scheme=scheme)
        page.get_by_role("button", name=button).wait_for()
        page.get_by_role("button", name=button).click()
        page.get_by_role("dialog").wait_for()
        assert Axe().run(page).response["violations"] == []
    api(guarded, "POST", "quotas:delete", {"user": "alice"})


def test_the_audit_shows_changes_and_is_searched(show_access: Open, guarded: Server) -> None:
    entry = {
        "resource_type": "TOPIC",
        "name": EVIL,
        "principal": f"User:{EVIL}",
        "operation": "READ",
        "permission": "DENY",
    }
    api(guarded, "POST", "acls", {"acls": [entry]})
    page = show_access("audit")
    page.get_by_label("Show").select_option("Changes")
    page.get_by_role("cell", name="alter", exact=True).first.wait_for()
    page.get_by_label("Show").select_option("Everything")
    page.get_by_role("cell", name="add-acls").first.wait_for()
    page.get_by_role("link", name="Search the audit").click()
    page.wait_for_url("**/#/search?**")
    page.goto(f"http://{guarded.http}/#/access?tab=rights")
    page.get_by_role("cell").filter(has_text=EVIL).first.wait_for()
    api(guarded, "POST", "acls:delete", {"acls": [entry]})
