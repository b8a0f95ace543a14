"""StreamingPull: messages of a subscription are sent as they become ready, as fast as the client answers.

Every response says the properties of the subscription, for clients take their absence as False. An empty
request is a ping, which is answered at once where the client's protocol version asks for it. A stream never
ends with OK, after which two of the clients open no other. When it ends, what was sent belongs to the client
until its deadlines.

Owns: one stream: its requests, its deliveries, its flow control. Refuses: answers (`acknowledging.py`), and
who may have the messages, which the engine checks. Source: google/pubsub/v1/pubsub.proto, and the clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from mainstem.attach_contract import AttachesConsumers
from mainstem.contract import Engine
from mainstem.doors.pubsub.acknowledging import Acknowledging, AckOutcome
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcRequests, RpcResponses
from mainstem.doors.pubsub.outstanding import OutstandingMessages, StreamWindow
from mainstem.doors.pubsub.received_messages import MessageMaker
from mainstem.doors.pubsub.seeking import without_discarded
from mainstem.doors.pubsub.subscription_catalog import PubsubSubscription, SubscriptionCatalog, queues_of
from mainstem.doors.pubsub.subscription_fields import ACK_DEADLINE_RANGE_S, invalid
from mainstem.pubsub.messages import message
from mainstem.queue_contract import Delivery

if TYPE_CHECKING:
    from mainstem.clock import Clock

PULL_EVENTS_MAX = 1_000
PULL_BYTES_MAX = 3 << 20
RESPONSE_BYTES_MAX = (4 << 20) - (64 << 10)
"""Bytes of a response, but for a single message that is larger: clients refuse more than 4 MiB or 20."""
PULL_WAIT_MS = 5_000
"""After this time without a message the subscription is looked at anew: it may have been detached."""
FULL_WAIT_S = 0.25
"""While a window is full, the engine is asked this often which deadlines are over."""
REPLIES_BYTES_MAX = 1 << 20
"""Bytes of answers to requests that a client may leave unread before no more requests are taken."""
REPLY_BYTES = 128
"""Memory of an answer beside its bytes."""
EARLY_WAIT_S = 0.25
"""When a pull ends early without a message, because the server is about to stop, the next one waits."""


class DeliveryStream:
    """One stream."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        catalog: SubscriptionCatalog,
        outstanding: OutstandingMessages,
        acknowledging: Acknowledging,
        maker: MessageMaker,
        responses: RpcResponses,
        consumer: str,
        find_first: Callable[[str], Awaitable[PubsubSubscription]],
    ) -> None:
        """`find_first`: the subscription of a name, for who may know that it exists."""
        self._engine = engine
        self._clock = clock
        self._catalog = catalog
        self._outstanding = outstanding
        self._acknowledging = acknowledging
        self._maker = maker
        self._responses = responses
        self._consumer = consumer
        self._find_first = find_first
        self._name = ""
        self._deadline_s = 0
        self._answers_pings = False
        self._replies_bytes = 0
        """Of answers to requests since the client had read all."""
        self._window = StreamWindow(0, 0)
        self._response = message("google.pubsub.v1.StreamingPullResponse")

    async def run(self, requests: RpcRequests) -> None:
        """Serve the stream until the client ends it. RpcError: why the server does."""
        first = await anext(aiter(requests), None)
        if first is None:
            raise invalid("the first request of a stream names the subscription")
        self._begin(_request(first))
        subscription = await self._find_first(self._name)
        check_attached(subscription)
        await self._answer(subscription, _request(first))
        reading = asyncio.ensure_future(self._read(requests))
        delivering = asyncio.ensure_future(self._deliver())
        try:
            await asyncio.wait((reading, delivering), return_when=asyncio.FIRST_COMPLETED)
            for task in (delivering, reading):
                if task.done():
                    task.result()
        finally:
            reading.cancel()
            delivering.cancel()
            await asyncio.gather(reading, delivering, return_exceptions=True)
            self._outstanding.forget(self._window)
        raise RpcError(Code.UNAVAILABLE, "the client has ended its half of the stream")

    # --- requests -------------------------------------------------------------------------------------------

    def _begin(self, request: Any) -> None:
        self._name = request.subscription
        self._set_deadline(request.stream_ack_deadline_seconds)
        self._answers_pings = request.protocol_version >= 1
        self._window = StreamWindow(request.max_outstanding_messages, request.max_outstanding_bytes)

    def _set_deadline(self, seconds: int) -> None:
        least, most = ACK_DEADLINE_RANGE_S
        if not least <= seconds <= most:
            raise invalid(
                f"Invalid stream_ack_deadline_seconds given (seconds={seconds}): it must be from {least} to"
                f" {most} seconds."
            )
        self._deadline_s = seconds

    async def _read(self, requests: RpcRequests) -> None:
        """Take what the client sends after its first request."""
        async for data in requests:
            await self._wait_for_reading()
            request = _request(data)
            if not request.ByteSize():
                if self._answers_pings:
                    self._reply(self._response(), await self._subscription())
                continue
            if request.subscription or request.max_outstanding_messages or request.max_outstanding_bytes:
                raise invalid("only the first request of a stream names the subscription and limits")
            if request.stream_ack_deadline_seconds:
                self._set_deadline(request.stream_ack_deadline_seconds)
            await self._answer(await self._subscription(), request)

    async def _answer(self, subscription: PubsubSubscription, request: Any) -> None:
        """Take the acknowledgements and deadlines of a request."""
        ids, seconds = request.modify_deadline_ack_ids, request.modify_deadline_seconds
        if len(ids) != len(seconds):
            raise invalid("modify_deadline_ack_ids and modify_deadline_seconds have the same length")
        if not ids and not request.ack_ids:
            return
        acked = await self._acknowledging.acknowledge(self._engine, subscription, request.ack_ids)
        modified = await self._acknowledging.modify(self._engine, subscription, ids, seconds)
        for outcome in (acked, modified):
            if outcome.invalid and not subscription.stored.is_exactly_once:
                raise invalid(f"You have passed an invalid ack ID to the service: {outcome.invalid[0][:100]}")
        if subscription.stored.is_exactly_once:
            response = self._response()
            _confirm(response.acknowledge_confirmation, request.ack_ids, acked)
            _confirm(response.modify_ack_deadline_confirmation, ids, modified)
            self._reply(response, subscription)

    async def _wait_for_reading(self) -> None:
        """Wait while the client leaves too many answers to its requests unread."""
        if self._replies_bytes > REPLIES_BYTES_MAX:
            await self._responses.ready()
        if self._responses.is_ready:
            self._replies_bytes = 0

    def _reply(self, response: Any, subscription: PubsubSubscription) -> None:
        """Send an answer to a request."""
        self._replies_bytes += REPLY_BYTES + int(response.ByteSize())
        self._send(response, subscription)

    # --- deliveries -----------------------------------------------------------------------------------------

    async def _subscription(self) -> PubsubSubscription:
        """The subscription as it is now. RpcError: nothing can be received from it any more."""
        subscription = await self._catalog.find(self._name)
        check_attached(subscription)
        return subscription

    async def _deliver(self) -> None:
        while True:
            await self._responses.ready()
            subscription = await self._subscription()
            window = self._window
            room = window.messages_left
            if not room:
                await self._wait_for_room(subscription)
                continue
            asked_at = self._clock.monotonic()
            deliveries = await queues_of(self._engine).pull(
                subscription.queue,
                self._consumer,
                max_events=min(room, PULL_EVENTS_MAX),
                wait_ms=PULL_WAIT_MS,
                max_bytes=min(window.bytes_left, PULL_BYTES_MAX),
                lock_ms=self._deadline_s * 1000,
            )
            if deliveries:
                subscription = await self._subscription()
                wanted = await without_discarded(self._engine, subscription, deliveries)
                if wanted:
                    await self._send_messages(subscription, wanted)
            elif self._clock.monotonic() - asked_at < EARLY_WAIT_S:
                await self._wait(asyncio.Event(), EARLY_WAIT_S)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, or for this time."""
        timer = self._clock.call_later(seconds, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()

    async def _wait_for_room(self, subscription: PubsubSubscription) -> None:
        """Wait until something was answered, or its deadline is over."""
        changed = asyncio.Event()
        self._window.on_room = changed.set
        await self._wait(changed, FULL_WAIT_S)
        if not self._window.messages_left:
            assert isinstance(self._engine, AttachesConsumers)
            tokens = list(self._window.sizes)
            states = self._engine.attached.delivery_states(subscription.queue, tokens)
            over = [token for token, state in zip(tokens, states, strict=True) if state != "leased"]
            self._outstanding.answered(over)

    async def _send_messages(self, subscription: PubsubSubscription, deliveries: Sequence[Delivery]) -> None:
        """Send messages, in as many responses as their size needs."""
        response = self._response()
        await self._maker.add(response.received_messages, subscription, deliveries)
        sizes = [received.ByteSize() for received in response.received_messages]
        for delivery, size in zip(deliveries, sizes, strict=True):
            self._outstanding.sent(self._window, delivery.token, size)
        if sum(sizes) <= RESPONSE_BYTES_MAX:
            self._send(response, subscription)
            return
        part, total = self._response(), 0
        for received, size in zip(response.received_messages, sizes, strict=True):
            if total and total + size > RESPONSE_BYTES_MAX:
                self._send(part, subscription)
                part, total = self._response(), 0
            part.received_messages.append(received)
            total += size
        self._send(part, subscription)

    def _send(self, response: Any, subscription: PubsubSubscription) -> None:
        properties = response.subscription_properties
        properties.SetInParent()
        properties.exactly_once_delivery_enabled = subscription.stored.is_exactly_once
        properties.message_ordering_enabled = subscription.stored.is_ordered
        self._responses.send(response.SerializeToString())


def check_attached(subscription: PubsubSubscription) -> None:
    """RpcError if no messages can be received from a subscription."""
    if subscription.stored.is_detached:
        raise RpcError(
            Code.FAILED_PRECONDITION,
            f"Subscription is detached (resource={subscription.stored.id}): it receives no messages.",
        )
    if subscription.stored.push is not None:
        raise RpcError(
            Code.FAILED_PRECONDITION,
            f"This method is not supported for this subscription type (resource={subscription.stored.id}).",
        )


def consumer_of(call: RpcCall, number: int) -> str:
    """The name of the consumer that a stream is, as the log and the console show it."""
    return f"{call.principal[:100]} {call.peer[:100]} {number}"


def _request(data: bytes) -> Any:
    return message("google.pubsub.v1.StreamingPullRequest").FromString(data)


def _confirm(target: Any, ack_ids: Sequence[str], outcome: AckOutcome) -> None:
    if ack_ids:
        target.SetInParent()
        target.ack_ids.extend(outcome.taken)
        target.invalid_ack_ids.extend([*outcome.invalid, *outcome.failed])
