"""Fixtures: a server with events, and a browser in which every error fails the test."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.console.workers import Workers
from tests.scenarios import flights
from tests.support.interfaces import interfaces
from tests.support.server import Server

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EVENTS = 4_000
EVIL = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">\'"&lt;'
BIDI = "user\u202egpj.exe\u200b"
EVIL_GROUP = f"{EVIL}/group{BIDI}"

Open = Callable[..., Any]


def fill(bootstrap: str) -> None:
    """Create topics with flights, refunds of cancelled ones and hostile events, and groups that lag."""
    names = [
        NewTopic("flights", num_partitions=3),
        NewTopic("refunds"),
        NewTopic("strange"),
        NewTopic("again"),
        NewTopic("late"),
        NewTopic("silent"),  # stays without events
    ]
    admin = AdminClient(
        {"bootstrap.servers": bootstrap}
    )  # keep a reference: a collected client drops its requests
    for creation in admin.create_topics(names).values():
        creation.result()
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "log_level": 0})
    for line in flights.sample()[:EVENTS]:
        row = json.loads(line)
        time_ms = int(datetime.fromisoformat(row["time_hour"]).timestamp() * 1000)
        producer.produce(
            "flights", line, key=row["tailnum"], timestamp=time_ms, headers=[("carrier", row["carrier"])]
        )
        if row["dep_time"] is None:
            refund = json.dumps({"refund": row["flight"], "tailnum": row["tailnum"]})
            producer.produce("refunds", refund, key=row["tailnum"], timestamp=time_ms + 60_000)
    for key, value in hostile_events():
        producer.produce("strange", value, key=key, headers=[(EVIL, EVIL), ("bidi", BIDI)])
    assert producer.flush(60) == 0
    for group, client in ((EVIL_GROUP, EVIL), ("billing", "billing-1")):
        consume(bootstrap, group, client, 500)


def hostile_events() -> list[tuple[str | bytes, str | bytes | None]]:
    """Keys and values that attack a page which takes them for more than text."""
    return [
        (EVIL, EVIL),
        (
            "json",
            json.dumps(
                {EVIL: EVIL, "__proto__": {"x": EVIL}, "big": 12345678901234567890, BIDI: [BIDI, None]}
            ),
        ),
        (BIDI, BIDI + "\x1b[31m\x00\x07"),
        (b"\xff\xfe\x00", bytes(range(256))),
        ("nothing", None),
        ("long", "x" * 100_000),
    ]


def consume(bootstrap: str, group: str, client: str, count: int) -> None:
    """Read `count` flights as a member of the group, and commit."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "client.id": client,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    consumer.subscribe(["flights"])
    assert len(consumer.consume(count, 30)) == count
    consumer.commit(asynchronous=False)
    consumer.close()


def newest_events(bootstrap: str, topic: str, count: int) -> list[Any]:
    """The last events of a topic with one partition, oldest first."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "look", "log_level": 0})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
        consumer.assign([TopicPartition(topic, 0, end - count)])
        return list(consumer.consume(count, 20))
    finally:
        consumer.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("console")
    with Server(folder / "data", http="127.0.0.1:0", log_level="warning") as running:
        fill(running.address)
        workers = Workers(str(running.http))
        workers.create()
        workers.work("fees-3", 300)
        workers.leave()
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # of the dependency group `console`

    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def collect_errors(page: Any, errors: list[str]) -> None:
    """Append each error that the browser reports: in scripts, of the security policy, about missing files."""

    def on_message(message: Any) -> None:
        if message.type == "error":
            errors.append(f"{page.url}: {message.text}")

    page.on("console", on_message)
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    page.on("dialog", lambda dialog: errors.append(f"{page.url}: dialog {dialog.message}"))


@contextmanager
def opened_page(browser: Any, *, expected: str | None = None, timeout_ms: int = 15_000) -> Iterator[Any]:
    """An empty page in a new browser. An error that it reports fails the test, unless `expected` is found in
    it."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1300, "height": 850})
    page = context.new_page()
    page.set_default_timeout(timeout_ms)
    collect_errors(page, errors)
    yield page
    context.close()
    assert [error for error in errors if expected is None or not re.search(expected, error)] == []


def fill_login(page: Any, user: str, password: str) -> None:
    """Send the form of the login."""
    page.get_by_label("User").fill(user)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


@pytest.fixture
def show(server: Server, browser: Any) -> Iterator[Open]:
    """`show("#/topics", width=400)` returns a page of the console. An error in the browser fails the test."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_page(where: str, *, width: int = 1300, height: int = 850, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(15_000)
        collect_errors(page, errors)
        page.goto(f"http://{server.http}/{where}")
        return page

    with interfaces(change=False):
        yield open_page
        for context in contexts:
            for page in context.pages:
                assert page.evaluate("window.pwned") is None, "text of an event was executed"
            context.close()
    assert errors == []
