"""A real server with real events, and a real browser that tells every error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.scenarios import flights
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


def fill(at: str) -> None:
    """Flights, what follows from cancelled ones, hostile events, and groups that are behind."""
    names = [
        NewTopic("flights", num_partitions=3),
        NewTopic("refunds"),
        NewTopic("strange"),
        NewTopic("again"),
        NewTopic("late"),
        NewTopic("silent"),  # stays without events
    ]
    admin = AdminClient({"bootstrap.servers": at})  # held: without it what it was asked is given up
    for each in admin.create_topics(names).values():
        each.result()
    producer = Producer({"bootstrap.servers": at, "compression.type": "zstd", "log_level": 0})
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
        consume(at, group, client, 500)


def hostile_events() -> list[tuple[str | bytes, str | bytes | None]]:
    """Keys and values that would like to be more than text."""
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


def consume(at: str, group: str, client: str, count: int) -> None:
    """Read some flights as this group, and remember how far."""
    consumer = Consumer(
        {
            "bootstrap.servers": at,
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


def newest(at: str, topic: str, count: int) -> list[Any]:
    """The last events of a topic of one partition, the oldest first."""
    consumer = Consumer({"bootstrap.servers": at, "group.id": "look", "log_level": 0})
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
        fill(running.at)
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # of the dependency group `console`

    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def show(server: Server, browser: Any) -> Iterator[Open]:
    """`show("#/topics", width=400)`: a page of the console. Fails the test in the end if the browser told an
    error: a script that failed, what the content security policy forbade, a file that is missing."""
    errors: list[str] = []
    contexts: list[Any] = []

    def open_page(where: str, *, width: int = 1300, height: int = 850, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: errors.append(f"{where}: {error}"))
        page.on(
            "console", lambda told: errors.append(f"{where}: {told.text}") if told.type == "error" else None
        )
        page.on("dialog", lambda dialog: errors.append(f"{where}: dialog {dialog.message}"))
        page.goto(f"http://{server.http}/{where}")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.pwned") is None, "text of an event was run"
        context.close()
    assert errors == []
