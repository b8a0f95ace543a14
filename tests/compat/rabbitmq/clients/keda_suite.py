"""What KEDA's scaler for RabbitMQ asks (v2.21), by its two protocols, and what it makes of the answers.

    COMPAT_MANAGEMENT=HOST:PORT python -m tests.compat.rabbitmq.clients.keda_suite HOST:PORT [CASE…]

KEDA itself runs in Kubernetes only. Its requests are sent here as it builds them: the login in the URL, the
virtual host as the last part of the URL's path or by itself, names escaped as in a query. Of the answers it
has the members that the scaler decodes, in the types it decodes them to.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, quote_plus, urlsplit
from urllib.request import Request, urlopen

import pika

from tests.compat.cases import case, eventually, main, same
from tests.compat.rabbitmq.clients.pika_session import ORDER, BlockingSession, host_and_port

MANAGEMENT = os.environ.get("COMPAT_MANAGEMENT", "")
LOGIN = "Basic " + b64encode(b"guest:guest").decode()
WAIT_S_MAX = 45


class SeveralPages(Exception):
    """A regular expression matches more queues than a page has: the scaler gives up."""


@dataclass(frozen=True, slots=True)
class ScalerFigures:
    """What the scaler decodes of a queue, or makes of several."""

    messages: int
    ready: int
    publish_rate: float
    deliver_rate: float


def request(method: str, url: str, body: bytes | None = None) -> Any:
    sent = Request(url, body, {"Authorization": LOGIN, "Content-Type": "application/json"}, method=method)
    with urlopen(sent, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


def decoded(item: dict[str, Any]) -> ScalerFigures:
    messages, ready, unacknowledged = (
        item.get(name, 0) for name in ("messages", "messages_ready", "messages_unacknowledged")
    )
    assert all(type(count) is int for count in (messages, ready, unacknowledged)), item
    assert isinstance(item["name"], str)
    stats = item.get("message_stats", {})
    rates = (stats.get(name, {}).get("rate", 0.0) for name in ("publish_details", "deliver_get_details"))
    return ScalerFigures(messages, ready, *map(float, rates))


def figures(
    queue: str, *, path: str = "/", vhost: str = "", use_regex: bool = False, page_size: int = 100
) -> list[ScalerFigures]:
    """The queues that a trigger with these settings looks at. HTTPError: the server says no."""
    parts = urlsplit(f"http://{MANAGEMENT}{path}").path.split("/")
    names = "/" + (quote_plus(vhost) if vhost else parts[-1])
    names = "/%2F" if names == "/" else names
    below = "/".join(part for part in parts[:-1] if part)
    root = f"http://{MANAGEMENT}{'/' + below if below else ''}/api/queues{names}"
    if not use_regex:
        return [decoded(request("GET", f"{root}/{quote_plus(queue)}"))]
    query = f"page=1&use_regex=true&pagination=false&name={quote_plus(queue)}&page_size={page_size}"
    answer = request("GET", f"{root}?{query}")
    if answer["page_count"] > 1:
        raise SeveralPages
    return [decoded(item) for item in answer["items"]]


def seen(what: str, check: Callable[[], object]) -> None:
    """Wait for it: RabbitMQ's figures are some seconds old."""
    eventually(check, what, WAIT_S_MAX)


def publish(channel: Any, queue: str, count: int) -> None:
    channel.confirm_delivery()
    for _ in range(count):
        channel.basic_publish("", queue, ORDER)


@case("queue-length")
def queue_length() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("keda-orders", exclusive=True)
        publish(channel, "keda-orders", 10)
        for _ in range(3):
            assert channel.basic_get("keda-orders")[0] is not None

        def counts(**given: Any) -> list[tuple[int, int]]:
            return [(item.messages, item.ready) for item in figures("keda-orders", **given)]

        seen("ten, three of them unacknowledged", lambda: counts() == [(10, 7)])
        same(counts(path=""), [(10, 7)], "without a path")
        same(counts(path="/%2f"), [(10, 7)], "the virtual host in the path")
        same(counts(path="/other", vhost="/"), [(10, 7)], "the virtual host by itself")


def has_a_message(queue: str) -> bool:
    return [item.messages for item in figures(queue)] == [1]


@case("names")
def names() -> None:
    with BlockingSession() as channel:
        for name in ("keda/slash", "keda+plus%", "keda.Zürich"):
            channel.queue_declare(name, exclusive=True)
            publish(channel, name, 1)
            seen(name, partial(has_a_message, name))


@case("several-queues")
def several_queues() -> None:
    with BlockingSession() as channel:
        for name, count in (("keda-many-1", 3), ("keda-many-2", 5), ("keda-few", 1)):
            channel.queue_declare(name, exclusive=True)
            publish(channel, name, count)

        def counts(pattern: str) -> list[int]:
            return sorted(item.messages for item in figures(pattern, use_regex=True))

        seen("both", lambda: counts("^keda-many-[0-9]+$") == [3, 5])
        seen("all three", lambda: counts("keda-(many|few).*") == [1, 3, 5])
        same(counts("^keda-none$"), [], "no queue")
        try:
            figures("^keda-many", use_regex=True, page_size=1)
        except SeveralPages:
            return
        raise AssertionError("no second page")


@case("virtual-host")
def virtual_host() -> None:
    vhost = "keda shop"
    request("PUT", f"http://{MANAGEMENT}/api/vhosts/{quote(vhost)}", b"{}")
    try:
        request("PUT", f"http://{MANAGEMENT}/api/permissions/{quote(vhost)}/guest",
                json.dumps({"configure": ".*", "write": ".*", "read": ".*"}).encode())  # fmt: skip
        with BlockingSession(virtual_host=vhost) as channel:
            channel.queue_declare("keda-shop", exclusive=True)
            publish(channel, "keda-shop", 2)
            path = "/" + quote(vhost)
            seen("its queue", lambda: figures("keda-shop", path=path)[0].messages == 2)
            same(len(figures("shop$", path=path, use_regex=True)), 1, "by a regular expression")
    finally:
        request("DELETE", f"http://{MANAGEMENT}/api/vhosts/{quote(vhost)}")


@case("rates")
def rates() -> None:
    with BlockingSession() as channel:
        channel.queue_declare("keda-rates", exclusive=True)

        def have_risen() -> bool:
            publish(channel, "keda-rates", 5)
            channel.basic_get("keda-rates", auto_ack=True)
            (queue,) = figures("keda-rates")
            return queue.publish_rate > 0 and queue.deliver_rate > 0

        seen("rates of publishing and delivering", have_risen)


@case("unknown-queue")
def unknown_queue() -> None:
    try:
        figures("keda-no-such")
    except HTTPError as error:
        same(error.code, 404, "status")
    else:
        raise AssertionError("an answer for a queue that is not there")


@case("by-amqp")
def by_amqp() -> None:
    """KEDA's other protocol: a passive declaration, on a connection that stays."""
    host, port = host_and_port()
    with BlockingSession() as channel:
        channel.queue_declare("keda-passive", durable=True)
        try:
            publish(channel, "keda-passive", 4)
            url = f"amqp://guest:guest@{host}:{port}/%2f"
            scaler = pika.BlockingConnection(pika.URLParameters(url))
            asked = scaler.channel()
            for _ in range(3):
                same(asked.queue_declare("keda-passive", passive=True).method.message_count, 4, "messages")
            scaler.close()
        finally:
            channel.queue_delete("keda-passive")


if __name__ == "__main__":
    main()
