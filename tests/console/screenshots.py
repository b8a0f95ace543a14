"""Takes the screenshots of docs/CONSOLE.md from a real server while events are published.

Owns: the data in the screenshots (flights, weather, webhooks, consumers of which one hangs) and the state in
which each is taken. Refuses: invented events. `serve` uses the sample of flights in `examples/`, or the whole
files `flights.jsonl.zst`, `weather.jsonl.zst` and `github-webhooks.jsonl.zst` of a folder.

    python -m tests.console.screenshots serve DATA [FOLDER]      runs until Ctrl-C, and prints its address
    python -m tests.console.screenshots shoot ADDRESS OUT [NAME…]

Let the server run for four minutes before taking screenshots: charts of rates and lags need a history.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cramjam
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.console.conftest import CHROMIUM, FLAGS
from tests.console.workers import Workers
from tests.scenarios import flights
from tests.support.server import Server

TAIL = "N730MQ"
"""An aircraft with cancelled flights: its events are in two topics."""
SIZE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 800}

# ----------------------------------------------------------------------------------------------------------
# the server and what happens in it


def lines(folder: Path | None, name: str) -> list[bytes]:
    """The events of a file of the folder; none without a folder."""
    if folder is None:
        return []
    return bytes(cramjam.zstd.decompress((folder / f"{name}.jsonl.zst").read_bytes())).splitlines()


def epoch_ms(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def fill(bootstrap: str, folder: Path | None) -> list[bytes]:
    """Create topics with past events. Returns the webhooks, which `feed` publishes."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    small = {"segment.bytes": str(1 << 20)}  # retention deletes whole segments: make several
    topics = [NewTopic(name, 3, config=small) for name in ("flights", "webhooks")]
    topics += [NewTopic(name, 1) for name in ("weather", "refunds", "refunds.retry")]
    for creation in admin.create_topics(topics).values():
        creation.result()
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 50})
    for line in lines(folder, "flights") or flights.sample():
        row = json.loads(line)
        when, key = epoch_ms(row["time_hour"]), row["tailnum"]
        send(producer, "flights", line, key, when, [("carrier", row["carrier"])])
        if row["dep_time"] is None:
            refund = {"tailnum": key, "flight": f"{row['carrier']}{row['flight']}", "reason": "cancelled"}
            headers = [("source", "flights"), ("trace", f"{row['carrier']}{row['flight']}-{row['day']}")]
            send(producer, "refunds", json.dumps(refund).encode(), key, when + 5_400_000, headers)
    for line in lines(folder, "weather"):
        row = json.loads(line)
        send(producer, "weather", line, row["origin"], epoch_ms(row["time_hour"]), [])
    assert producer.flush(120) == 0
    return lines(folder, "github-webhooks") or flights.sample()[:300]


def send(
    producer: Producer, topic: str, value: bytes, key: str, when: int, headers: list[tuple[str, str]]
) -> None:
    """One event, waiting while the queue is full."""
    while True:
        try:
            producer.produce(topic, value, key=key, timestamp=when, headers=headers)
            return
        except BufferError:
            producer.poll(0.5)


def feed(bootstrap: str, webhooks: list[bytes], stop: threading.Event) -> None:
    """Publish webhooks, about ten per second at a changing rate."""
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 20})
    count = 0
    while not stop.wait(0.2):
        minute = time.time() / 60
        for _ in range(round(6 + 3 * math.sin(minute / 2) + 2 * math.sin(minute * 3))):
            value = webhooks[count % len(webhooks)]
            key = str(json.loads(value).get("event", "webhook"))
            headers = [("delivery", f"{count:08x}"), ("source", "github")]
            send(producer, "webhooks", value, key, int(time.time() * 1000), headers)
            count += 1
        producer.poll(0)
    producer.flush(10)


def consume(
    bootstrap: str, group: str, topics: list[str], stop: threading.Event, *, per_s: int, commits: int = 0
) -> None:
    """Run a member of a group that reads `per_s` events per second and commits. After `commits` commits it
    keeps reading but stops committing (0: never)."""
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "client.id": f"{group}-1"}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(topics)
    done = 0
    while not stop.wait(1.0):
        if consumer.consume(per_s, 1.0) and (not commits or done < commits):
            consumer.commit(asynchronous=False)
            done += 1
    consumer.close()


def serve(data: str, folder: str = "") -> None:
    """Fill a server and keep it busy until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # a background job ignores Ctrl-C otherwise
    with Server(data, http="127.0.0.1:0", log_level="warning") as server:
        stop = threading.Event()
        webhooks = fill(server.address, Path(folder) if folder else None)
        work: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]] = [
            (feed, (server.address, webhooks, stop), {}),
            (consume, (server.address, "dashboard", ["webhooks"], stop), {"per_s": 2_000}),
            (consume, (server.address, "billing", ["flights"], stop), {"per_s": 60}),
            (consume, (server.address, "notifier", ["webhooks"], stop), {"per_s": 40, "commits": 30}),
            (consume, (server.address, "refunds", ["refunds"], stop), {"per_s": 5_000}),
            (Workers(str(server.http)).run, (stop,), {}),
        ]
        threads = [threading.Thread(target=run, args=args, kwargs=more) for run, args, more in work]
        for thread in threads:
            thread.start()
        print(f"http://{server.http}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threads[0].join()
        stop.set()
        for thread in threads:
            thread.join()


# ----------------------------------------------------------------------------------------------------------
# the screenshots

Take = Callable[[Any], None]


def search_ended(page: Any) -> None:
    """Wait until a search has ended."""
    page.locator(".results[aria-busy=false]").wait_for()
    page.wait_for_timeout(400)


def first_opened(page: Any) -> None:
    """Open the first result."""
    search_ended(page)
    page.keyboard.press("Escape")
    page.locator("[role=option]").first.click()
    page.locator(".detail .event").wait_for()
    page.wait_for_timeout(300)


def with_tab(name: str) -> Take:
    """Open the first result and one of its tabs."""

    def take(page: Any) -> None:
        first_opened(page)
        page.locator(".detail").get_by_role("tab", name=name).click()
        page.wait_for_timeout(1_000)

    return take


def three_selected(page: Any) -> None:
    """Three selected matches, and what a replay of them would do."""
    search_ended(page)
    page.keyboard.press("Escape")
    for key in ("j", "x", "j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Replay selected…").click()
    page.get_by_label("Target topic").fill("refunds.retry")
    page.get_by_text("will be published").wait_for()
    page.wait_for_timeout(300)


def edited(page: Any) -> None:
    """An event that is changed before it is published again."""
    page.get_by_role("button", name="Edit and publish…").click()
    dialog = page.get_by_role("dialog")
    value = dialog.get_by_label("Value", exact=True)
    text = value.input_value()
    dialog.get_by_label("Target topic").fill("refunds.retry")
    value.fill(json.dumps(json.loads(text) | {"reason": "rebooked"}, indent=2))
    dialog.locator(".diff-add").first.wait_for()
    dialog.locator(".dialog-body").evaluate("(body) => { body.scrollTop = 0; }")
    page.wait_for_timeout(300)


def exported(page: Any) -> None:
    """All matches into a file, counted first."""
    search_ended(page)
    page.get_by_role("button", name="Export…").click()
    page.get_by_text("will be exported").wait_for()
    page.wait_for_timeout(300)


def waiting(ms: int) -> Take:
    """Take it after a while."""
    return lambda page: page.wait_for_timeout(ms)


def retention(page: Any) -> None:
    """A smaller size to keep, and what it would delete."""
    page.wait_for_timeout(700)
    row = page.locator("tr", has=page.get_by_text("retention.bytes", exact=True)).first
    row.get_by_role("button", name="Change").click()
    page.get_by_label("Value").fill("2000000")
    page.wait_for_timeout(900)


CANCELLED = quote("dep_time:null AND origin:JFK")
LATE = quote("carrier:B6 AND dep_delay:>180")
SCREENSHOTS: dict[str, tuple[str, str, dict[str, int], Take]] = {
    "overview": ("#/overview", "light", SIZE, waiting(1_500)),
    "topics": ("#/topics", "light", SIZE, waiting(900)),
    "topic-tail": ("#/topics/webhooks?tab=tail", "dark", SIZE, waiting(6_000)),
    "topic-partitions": ("#/topics/flights?tab=partitions", "light", SIZE, waiting(900)),
    "topic-settings": ("#/topics/flights?tab=settings", "light", SIZE, waiting(900)),
    "topic-publish": ("#/topics/refunds?tab=publish", "light", SIZE, waiting(900)),
    "retention": ("#/topics/flights?tab=settings", "light", SIZE, retention),
    "search": (f"#/search?q={LATE}&topics=flights", "light", SIZE, search_ended),
    "search-dark": (f"#/search?q={CANCELLED}&topics=flights", "dark", SIZE, first_opened),
    "replay": (f"#/search?q={CANCELLED}&topics=flights", "light", SIZE, three_selected),
    "resend": ("#/event/refunds/0/4711", "light", SIZE, edited),
    "export": (f"#/search?q={LATE}&topics=flights", "dark", SIZE, exported),
    "event-timeline": (f"#/search?q=tailnum:{TAIL}&topics=flights", "light", SIZE, with_tab("Key timeline")),
    "event-diff": (f"#/search?q=tailnum:{TAIL}&topics=flights", "dark", SIZE, with_tab("Diff")),
    "trace": (f"#/trace?value={TAIL}&since=2013-02-01T00:00:00Z", "light", SIZE, waiting(3_000)),
    "groups": ("#/groups", "light", SIZE, waiting(1_500)),
    "group": ("#/groups/notifier", "dark", SIZE, waiting(1_500)),
    "subscription": ("#/subscriptions/fees", "light", SIZE, waiting(4_500)),
    "dead-letters": ("#/subscriptions/fees?tab=dead", "dark", SIZE, waiting(4_500)),
    "narrow": (f"#/search?q={LATE}&topics=flights", "dark", NARROW, search_ended),
}


def shoot(address: str, out: str, *names: str) -> None:
    """Take the named screenshots, or all of them."""
    from PIL import Image  # in the dependency group `console`, like the next
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in names or SCREENSHOTS:
            where, scheme, size, take = SCREENSHOTS[name]
            context = browser.new_context(
                viewport=size, color_scheme=scheme, reduced_motion="reduce", timezone_id="America/New_York"
            )
            page = context.new_page()
            page.goto(f"{address}/{where}")
            take(page)
            raw = Image.open(io.BytesIO(page.screenshot()))
            file = Path(out) / f"{name}.png"
            # 255 colours, not dithered: sharp text in a third of the bytes.
            raw.convert("RGB").quantize(255, dither=Image.Dither.NONE).save(file, optimize=True)
            print(f"{file} {file.stat().st_size:,} B")
            context.close()
        browser.close()


def main(arguments: list[str]) -> None:
    """The command line."""
    match arguments:
        case ["serve", data, *folder]:
            serve(data, *folder)
        case ["shoot", address, out, *names]:
            shoot(address, out, *names)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
