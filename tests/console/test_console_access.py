"""The console in front of a real Apache Kafka, with logins, rights, masks and an audit of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cli.conftest import command
from tests.console.conftest import fill_login, opened_page
from tests.support.console_process import console_process

pytestmark = pytest.mark.slow
CARD = "4111111111111111"


@pytest.fixture(scope="module")
def topic(real_kafka: str) -> str:
    """A topic with a card number."""
    name = f"paid-{uuid4().hex[:8]}"
    assert command("topics", "create", name, address=real_kafka).code == 0
    event = json.dumps({"id": "1", "card": CARD})
    assert command("produce", name, stdin=f"{event}\n", address=real_kafka).code == 0
    return name


@pytest.fixture(scope="module")
def console(real_kafka: str, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a console with root, who may do everything, and anna, who may read the topic, masked. The
    password of each is the name."""
    folder = tmp_path_factory.mktemp("console")
    data = ("--data", str(folder / "own"))
    for user in ("root", "anna"):
        password = folder / user
        password.write_text(user)
        password.chmod(0o600)
        assert command("users", "add", user, "--new-password-file", str(password), *data).code == 0
    for arguments in (
        ("acls", "add", "--allow", "anna", "--operation", "read", "--topic", topic),
        ("masking-rules", "add", "cards", "--topic", topic, "--path", "card", "--kind", "hidden"),
    ):
        done = command(*arguments, *data)
        assert done.code == 0, done.err
    options = ("--super-users", "User:root")
    http = "SASL_PLAINTEXT://127.0.0.1:0"
    with console_process(real_kafka, folder / "own", *options, http=http) as (_, address):
        yield address
    assert Path(folder / "own" / "meta.properties").exists()


@pytest.fixture
def page(console: str, browser: Any) -> Iterator[Any]:
    """A new browser at the console; an error of a script fails the test, a refused request is none."""
    with opened_page(browser, expected="40[13]|net::ERR", timeout_ms=60_000) as new:
        new.goto(f"http://{console}/")
        yield new


def log_in(page: Any, user: str) -> None:
    fill_login(page, user, user)
    page.get_by_role("heading", name="Overview").wait_for()


def test_a_reader_sees_their_topic_masked_and_nothing_else(page: Any, console: str, topic: str) -> None:
    log_in(page, "anna")
    page.goto(f"http://{console}/#/topics")
    page.get_by_role("option", name=topic).wait_for()
    assert page.get_by_role("option").count() == 1
    page.goto(f"http://{console}/#/event/{topic}/0/0")
    page.get_by_text("[hidden]").first.wait_for()
    assert CARD not in page.content()
    page.goto(f"http://{console}/#/access")
    page.get_by_role("tab", name="API tokens").wait_for()
    assert page.get_by_role("tab").count() == 1


def test_an_administrator_sees_who_did_what(page: Any, console: str, topic: str) -> None:
    log_in(page, "root")
    page.goto(f"http://{console}/#/access?tab=audit")
    page.get_by_role("cell", name="User:root").first.wait_for()
    page.goto(f"http://{console}/#/access?tab=users")
    page.get_by_role("cell", name="anna").wait_for()
    page.goto(f"http://{console}/#/access?tab=masking")
    page.get_by_role("cell", name="cards").wait_for()
    page.goto(f"http://{console}/#/event/{topic}/0/0")
    page.get_by_text(CARD).first.wait_for()
