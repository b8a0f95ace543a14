"""What the probes of the comparison with RabbitMQ are made of: registering one, and a script that plays the
client and writes down the answers.

Owns: the transcript of a probe. A probe uses names that begin with its own name, so that probes do not meet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from pamqp import commands
from pamqp.base import Frame

from tests.compat.rabbitmq.peer import Closed, Peer, ReceivedFrame, method_text, text_of

Basic, Channel, Connection, Confirm = (
    commands.Basic,
    commands.Channel,
    commands.Connection,
    commands.Confirm,
)
Exchange, Queue, Tx = commands.Exchange, commands.Queue, commands.Tx
Probe = Callable[["Script"], None]
PROBES: dict[str, Probe] = {}


def probe(function: Probe) -> Probe:
    name = function.__name__
    assert name not in PROBES, name
    PROBES[name] = function
    return function


class Script:
    """One connection of a probe. After an error of a channel the next call opens a new one; after an error of
    the connection, a new connection."""

    def __init__(self, address: str, lines: list[str] | None = None) -> None:
        self.address = address
        self.lines: list[str] = [] if lines is None else lines
        self.peer = self._connect()
        self.channel = 0
        self._open_channel()
        self._others: list[Script] = []

    def _connect(self) -> Peer:
        peer = Peer(self.address)
        opened = peer.log_in()
        assert isinstance(opened.method, Connection.OpenOk), text_of(opened)
        return peer

    def _open_channel(self) -> None:
        self.channel += 1
        self.peer.send(self.channel, Channel.Open())
        opened = self.peer.receive()
        assert isinstance(opened.method, Channel.OpenOk), text_of(opened)

    def other(self) -> Script:
        """A second connection that writes to the same transcript."""
        other = Script(self.address, self.lines)
        self._others.append(other)
        return other

    def note(self, text: str) -> None:
        self.lines.append(text)

    def hear(self, wait_s: float | None = None) -> ReceivedFrame | None:
        """Write down the next frame; answers the server's close. None when the connection is at its end."""
        try:
            received = self.peer.receive() if wait_s is None else self.peer.receive(wait_s)
        except Closed as end:
            self.lines.append(f"  connection {end}")
            self._renew()
            return None
        except TimeoutError:
            self.lines.append("  nothing")
            return None
        self.lines.append(f"  {text_of(received)}")
        if isinstance(received.method, Channel.Close):
            self.peer.send(received.channel, Channel.CloseOk())
            self._open_channel()
        elif isinstance(received.method, Connection.Close):
            self.peer.send(0, Connection.CloseOk())
            self._renew()
        return received

    def _renew(self) -> None:
        self.peer.close()
        self.peer, self.channel = self._connect(), 0
        self._open_channel()

    def call(self, method: Frame) -> Any:
        """Send a method and write down frames up to its answer, or to an error."""
        self.send(method)
        return self._hear_answer(method)

    def _hear_answer(self, method: Frame) -> Any:
        while True:
            received = self.hear()
            if received is None or isinstance(received.method, Channel.Close | Connection.Close):
                return None
            if received.method is not None and received.method.name in {*method.valid_responses}:
                return received.method

    def send(self, method: Frame) -> None:
        """Send, and write down that it was sent."""
        self.lines.append(method_text(method))
        self.peer.send(self.channel, method)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: str | bytes = b"body",
        *,
        mandatory: bool = False,
        immediate: bool = False,
        **properties: Any,
    ) -> None:
        body = body.encode() if isinstance(body, str) else body
        shown = "".join(f" {name}={value!r}" for name, value in properties.items())
        self.lines.append(f"publish {exchange!r} {routing_key!r}{shown}{' mandatory' if mandatory else ''}")
        self.peer.publish(
            self.channel,
            exchange,
            routing_key,
            body,
            mandatory=mandatory,
            immediate=immediate,
            **properties,
        )

    def barrier(self) -> None:
        """Until the server has answered all that was sent; what came is written down."""
        self.peer.send(self.channel, Basic.Qos(prefetch_count=0))
        while True:
            received = self.peer_next()
            if received is None or isinstance(received.method, Basic.QosOk):
                return

    def peer_next(self) -> ReceivedFrame | None:
        """The next frame; written down unless it answers `barrier`."""
        try:
            received = self.peer.receive()
        except Closed as end:
            self.lines.append(f"  connection {end}")
            self._renew()
            return None
        if isinstance(received.method, Basic.QosOk):
            return received
        self.lines.append(f"  {text_of(received)}")
        if isinstance(received.method, Channel.Close):
            self.peer.send(received.channel, Channel.CloseOk())
            self._open_channel()
            return None
        if isinstance(received.method, Connection.Close):
            self.peer.send(0, Connection.CloseOk())
            self._renew()
            return None
        return received

    def confirmed(self, count: int, already: int = 0) -> None:
        """Write down all confirms of the publishes up to `count`, each by itself: servers gather them
        differently. Other frames are written down as they come."""
        waiting = set(range(already + 1, count + 1))
        results: dict[int, str] = {}
        while waiting:
            received = self.peer.receive()
            method = received.method
            if isinstance(method, Basic.Ack | Basic.Nack):
                last = method.delivery_tag or 0
                tags = {tag for tag in waiting if tag <= last} if method.multiple else {last}
                assert tags <= waiting, f"confirmed twice: {tags - waiting}"
                results |= dict.fromkeys(tags, "ack" if isinstance(method, Basic.Ack) else "nack")
                waiting -= tags
            else:
                self.lines.append(f"  {text_of(received)}")
        self.lines.append(f"  confirms: {' '.join(results[tag] for tag in sorted(results))}")

    def declare(self, queue: str, **given: Any) -> Any:
        arguments = {key.replace("_", "-"): value for key, value in given.items() if key.startswith("x_")}
        others = {key: value for key, value in given.items() if not key.startswith("x_")}
        return self.call(Queue.Declare(queue=queue, arguments=arguments, **others))

    def exchange(self, name: str, kind: str = "direct", **given: Any) -> Any:
        arguments = given.pop("arguments", {})
        return self.call(Exchange.Declare(exchange=name, exchange_type=kind, arguments=arguments, **given))

    def bind(self, queue: str, exchange: str, key: str = "", **arguments: Any) -> Any:
        return self.call(Queue.Bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments))

    def get(self, queue: str, *, no_ack: bool = True) -> Any:
        return self.call(Basic.Get(queue=queue, no_ack=no_ack))

    def get_soon(self, queue: str) -> None:
        """Get the next message, waiting for it up to 10 s."""
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            self.peer.send(self.channel, Basic.Get(queue=queue, no_ack=True))
            received = self.peer.receive()
            if not isinstance(received.method, Basic.GetEmpty):
                self.lines.append(f"get {queue}\n  {text_of(received)}")
                return
            time.sleep(0.02)
        self.lines.append(f"get {queue}\n  nothing in 10 s")

    def drain(self, queue: str) -> None:
        """Get until the queue is empty."""
        while isinstance(self.get(queue), Basic.GetOk):
            pass

    def consume(self, queue: str, tag: str = "tag", **given: Any) -> Any:
        return self.call(Basic.Consume(queue=queue, consumer_tag=tag, **given))

    def depth(self, queue: str, expected: int) -> None:
        """Wait until the queue has that many messages ready, at most 10 s, and write down how many."""
        deadline, count = time.monotonic() + 10.0, -1
        while count != expected and time.monotonic() < deadline:
            self.peer.send(self.channel, Queue.Declare(queue=queue, passive=True))
            answer = self.peer.receive().method
            assert isinstance(answer, Queue.DeclareOk), answer
            count = answer.message_count or 0
            time.sleep(0.02)
        self.lines.append(f"{queue} has {count}")

    def close(self) -> None:
        for other in self._others:
            other.close()
        with contextlib.suppress(Closed, TimeoutError, OSError):
            self.peer.send(0, Connection.Close(reply_code=200, reply_text="bye", class_id=0, method_id=0))
            while not isinstance(self.peer.receive().method, Connection.CloseOk):
                pass
        self.peer.close()


@contextlib.contextmanager
def script(address: str) -> Iterator[Script]:
    """A script whose connections are closed at the end."""
    running = Script(address)
    try:
        yield running
    finally:
        running.close()


def transcript(address: str, name: str) -> list[str]:
    """Play one probe. What goes wrong with it is its last line."""
    with script(address) as running:
        try:
            PROBES[name](running)
        except Exception as error:  # the other probes go on
            running.note(f"probe failed: {type(error).__name__}: {error}")
        return [line for entry in running.lines for line in entry.split("\n")]
