"""A channel between a recording connection and a virtual host of a few lines, for tests of channels.

The virtual host has the default exchange, and queues that are lists; the engine keeps what is attached and
answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from itertools import count
from typing import Any

from mainstem.access_contract import ANONYMOUS, Requester
from mainstem.amqp.errors import AmqpError, amqp_error
from mainstem.amqp.messages import AmqpMessage
from mainstem.amqp.properties import Properties
from mainstem.amqp.topology import QueueFigures
from mainstem.attach_contract import AttachRequest, ConsumerClash, OnDeliveries, OnEnded
from mainstem.doors.amqp091.channel import AmqpChannel
from mainstem.doors.amqp091.channel_scope import ChannelScope
from mainstem.doors.amqp091.direct_replies import DirectReplies
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import decode_method
from mainstem.doors.amqp091.methods import BasicPublish
from mainstem.doors.net.throttle import ByteThrottle
from mainstem.queue_answers import Outcome
from mainstem.queue_contract import NoSuchSubscription
from mainstem.quota_contract import NoQuotas
from tests.support.clock import SimClock


def fail() -> None:
    """Nothing is muted where there are no quotas."""
    raise AssertionError("there are no quotas")


def in_loop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The test that runs a scenario in an event loop."""

    @wraps(scenario)
    def test() -> None:
        asyncio.run(scenario())

    return test


class RecordingConnection:
    """Keeps what a channel sends."""

    name = "127.0.0.1:40112 -> 127.0.0.1:5672"
    user = "guest"
    requester = Requester(principal=ANONYMOUS, host="127.0.0.1")
    frame_max = 131_072
    is_sending_blocked = False
    swept_at = 0.0
    throttle = ByteThrottle(
        NoQuotas(),
        SimClock(),
        requester,
        pause_reading=fail,
        resume_reading=fail,
        pause_sending=fail,
        resume_sending=fail,
    )
    client_capabilities = frozenset({"consumer_cancel_notify"})

    def __init__(self) -> None:
        self.sent: list[Any] = []
        """Methods; of messages, the method and the body."""
        self.failures: list[AmqpError] = []
        self.waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, data: bytes) -> None:
        """Keep the method of a frame that was made by hand."""
        self.sent.append(decode_method(data[7 : 7 + int.from_bytes(data[3:7], "big")]))

    def send_method(self, channel: int, method: Method) -> None:
        self.sent.append(method)

    def send_message(self, channel: int, method: Method, properties_raw: bytes, body: bytes) -> None:
        self.sent.append((method, body))

    def fail(self, channel: int, error: AmqpError, method: Method | None) -> None:
        self.failures.append(error)

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hold(self, count: int) -> None:
        self.waiting_bytes += count

    def release(self, count: int) -> None:
        self.waiting_bytes -= count
        assert self.waiting_bytes >= 0

    async def idle(self) -> None:
        """Return when no task runs."""
        while self._tasks:
            await asyncio.gather(*self._tasks)


class QueueOfRig:
    """A queue by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscription = f"%2F/{name}"
        self.kind = "classic"
        self.is_single_active = False
        self.effective: Mapping[str, Any] = {}
        self.place = None


class VhostOfRig:
    """Routes by the default exchange; a queue named `full` refuses everything."""

    name = "/"

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        self.calls: list[int] = []
        """How many messages each call published."""
        self.gate = asyncio.Event()
        """Calls wait for it."""
        self.gate.set()
        self.removed_consumers: list[str] = []

    async def queue_figures(self, name: str, owner: object) -> Any:
        return self._figures(name)

    async def declare_queue(self, declaration: Any, owner: object, engine: object) -> Any:
        await self.gate.wait()
        self.bodies.setdefault(declaration.name, [])
        return self._figures(declaration.name)

    def _figures(self, name: str) -> Any:
        self.queue(name, None)
        return QueueFigures(name, len(self.bodies[name]), 0)

    def queue(self, name: str, owner: object) -> QueueOfRig:
        if name not in self.bodies:
            raise self.no_such_queue(name)
        return QueueOfRig(name)

    def no_such_queue(self, name: str) -> AmqpError:
        return amqp_error(404, f"no queue '{name}' in vhost '/'")

    def is_topic(self, exchange: str) -> bool:
        return False

    def check_publish(self, exchange: str) -> None:
        if exchange:
            raise amqp_error(404, f"no exchange '{exchange}' in vhost '/'")

    async def publish(self, messages: Sequence[AmqpMessage]) -> list[str]:
        self.calls.append(len(messages))
        await self.gate.wait()
        results = []
        for message in messages:
            known = message.routing_key in self.bodies
            if known:
                self.bodies[message.routing_key].append(message.body)
            refused = message.routing_key == "full"
            results.append("refused" if refused else "routed" if known else "unrouted")
        return results

    def consumer_added(self, queue: QueueOfRig) -> None:
        pass

    async def consumer_removed(self, queue: QueueOfRig) -> None:
        self.removed_consumers.append(queue.name)


class AttachmentOfRig:
    """A consumer that the test hands deliveries."""

    is_active = True

    def __init__(self, request: AttachRequest, deliver: OnDeliveries, ended: OnEnded) -> None:
        self.request = request
        self.deliver = deliver
        self.ended = ended
        self.is_detached = False
        self.is_paused = False

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def detach(self, *, requeue: bool) -> None:
        assert not requeue, "what is not answered is given back by the channel, in the order of tags"
        self.is_detached = True


class AttachedOfRig:
    """Keeps what is attached and answered."""

    def __init__(self, vhost: VhostOfRig) -> None:
        self._vhost = vhost
        self.attachments: list[AttachmentOfRig] = []
        self.outcomes: list[tuple[str, Outcome]] = []

    async def attach(self, request: AttachRequest, deliver: OnDeliveries, ended: OnEnded) -> AttachmentOfRig:
        if any(other.request.exclusive and not other.is_detached for other in self.attachments):
            raise ConsumerClash("in use")
        if request.subscription.removeprefix("%2F/") not in self._vhost.bodies:
            raise NoSuchSubscription(request.subscription)
        self.attachments.append(AttachmentOfRig(request, deliver, ended))
        return self.attachments[-1]

    def settle_soon(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += [(subscription, outcome) for outcome in outcomes]

    async def settle(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        self.settle_soon(subscription, outcomes)


class ChannelRig:
    """Channel 1, and what is around it."""

    def __init__(self) -> None:
        self.connection: Any = RecordingConnection()
        self.vhost: Any = VhostOfRig()
        self.attached: Any = AttachedOfRig(self.vhost)
        ids = count(1)
        self.replies = DirectReplies(lambda: f"id{next(ids)}")
        self.channel = self.new_channel()

    def new_channel(self) -> AmqpChannel:
        """Another channel of the connection."""
        allow_all: Any = AllowsAll()
        scope = ChannelScope(
            number=1,
            connection=self.connection,
            vhost=self.vhost,
            attached=self.attached,
            engine=self.vhost,
            permissions=allow_all,
            replies=self.replies,
            user="guest",
            owner=self,
        )
        return AmqpChannel(scope, lambda: "amq.ctag-1")

    async def call(self, *methods: Method) -> list[Any]:
        """Let the client send methods, and return what is sent to it until all of them are done."""
        before = len(self.connection.sent)
        for method in methods:
            self.channel.on_method(method)
        await self.connection.idle()
        return list(self.connection.sent[before:])

    def publish(self, key: str, body: bytes, **more: Any) -> None:
        """Publish to the default exchange."""
        mandatory = more.pop("mandatory", False)
        self.channel.on_message(
            BasicPublish(exchange="", routing_key=key, mandatory=mandatory), Properties(**more), body
        )


class AllowsAll:
    """Permissions of somebody who may do everything."""

    def require_queue(self, operation: object, name: str) -> None:
        pass

    def require_exchange(self, operation: object, name: str) -> None:
        pass

    def require_plain(self, action: str) -> None:
        pass
