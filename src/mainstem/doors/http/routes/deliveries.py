"""Working on the events of a subscription: pull them, then settle each of them.

Owns: the JSON of deliveries and of outstanding events, and giving deliveries back that no client has
received. Refuses: to lease anything for a client that has left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import msgspec
from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.contract import Position, StreamError
from mainstem.doors.http.endpoint import (
    JSON,
    Call,
    Endpoint,
    StreamedResponse,
    json_response,
    start_stream,
    while_wanted,
)
from mainstem.doors.http.queues import (
    SUBSCRIPTION_PATH,
    SUBSCRIPTION_PROBLEMS,
    format_position,
    parse_position,
    queues_of,
)
from mainstem.doors.http.requesters import PEER_KEY, HttpPeer
from mainstem.doors.http.rights import RECEIVED, on_subscription
from mainstem.http_api.deliveries import (
    AckJson,
    DeliveryJson,
    ExtendJson,
    NackJson,
    PulledJson,
    PullJson,
    RejectJson,
    VerdictsJson,
)
from mainstem.http_api.event_encoding import LARGE_BYTES, event_to_json, event_to_json_in_slices
from mainstem.http_api.subscriptions import BrowsedEventJson, BrowsedPageJson, BrowseQuery
from mainstem.queue_contract import Ack, Delivery, Extend, Nack, Outcome, Queues, Reject
from mainstem.timespec import format_iso

SLICE_BYTES = 64 << 10
"""A slice of a reply is sent when it has this many bytes of JSON; then other tasks may run."""
BROWSED_AT_ONCE = 20
"""Outstanding events that are read at once."""
BROWSED_BYTES_MAX = 4 << 20
"""A page of outstanding events ends when keys, values and headers have this many bytes."""


# ----------------------------------------------------------------------------------------------------------
# pull


class _PulledReply:
    """The reply with some deliveries. Unless the operating system has taken all of it before the connection
    ended, they are given back."""

    def __init__(self, call: Call, queues: Queues, name: str, deliveries: Sequence[Delivery]) -> None:
        self._call = call
        self._queues = queues
        self._name = name
        self._deliveries = deliveries
        self._sent = False
        peer: HttpPeer = call.request.scope["state"][PEER_KEY]
        self._writes = peer.writes
        self._writes.watch()

    async def parts(self, *, exact: bool) -> AsyncGenerator[bytes, None]:
        """A PulledJson, encoded in slices."""
        part, encode = bytearray(b'{"deliveries":['), msgspec.json.Encoder().encode
        for number, delivery in enumerate(self._deliveries):
            if len(delivery.event.value or b"") < LARGE_BYTES:
                event = event_to_json(delivery.event, exact=exact)
            else:
                event = await event_to_json_in_slices(
                    delivery.event, self._call.context.yield_to_loop, exact=exact
                )
            deadline = format_iso(delivery.deadline_ms)
            row = DeliveryJson(event, delivery.token, delivery.attempt, deadline, delivery.deadline_ms)
            if number:
                part += b","
            part += encode(row)
            if len(part) >= SLICE_BYTES:
                yield bytes(part)
                part.clear()
                await self._call.context.yield_to_loop()
        if await self._call.request.is_disconnected() or not self._writes.is_open:
            return
        yield bytes(part) + b"]}"
        self._sent = True

    async def give_back(self) -> None:
        """Give the deliveries back untried if the client left before it had the reply."""
        try:
            if not self._deliveries or (self._sent and await self._writes.when_taken()):
                return
        finally:
            self._writes.unwatch()
        with suppress(StreamError):  # then they are delivered again when their locks expire
            unread = [Nack(delivery.token, delivered=False) for delivery in self._deliveries]
            await self._queues.settle(self._name, unread)


async def pull_events(call: Call) -> Response:
    """Receive the next events of a subscription; waits for the first one. Each of them must be settled before
    its deadline. While too many requests wait, one that finds no event is refused with `Retry-After`."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    body = await call.json_body(PullJson)
    waiting = call.context.waiting
    end_wait = waiting.take("pull") if body.wait_ms else None
    try:
        pulling = queues.pull(
            name,
            body.consumer,
            max_events=body.max_events,
            wait_ms=body.wait_ms if end_wait is not None else 0,
            max_bytes=body.max_bytes,
            lock_ms=body.lock_ms,
        )
        deliveries = await while_wanted(call, pulling) or ()
    finally:
        if end_wait is not None:
            end_wait()
    if not deliveries and body.wait_ms and end_wait is None:
        raise waiting.refusal("pull")
    reply = _PulledReply(call, queues, name, deliveries)
    parts, end = await start_stream(call, reply.parts(exact=body.encoding == "base64"), reply.give_back)
    return StreamedResponse(parts, JSON, end)


# ----------------------------------------------------------------------------------------------------------
# settle


async def ack_events(call: Call) -> Response:
    """Acknowledge events: their work is done. The reply is sent when that is durable."""
    body = await call.json_body(AckJson)
    return await _settle(call, [Ack(token) for token in body.tokens])


async def nack_events(call: Call) -> Response:
    """Let events be delivered again, at once or after a delay."""
    body = await call.json_body(NackJson)
    outcomes = [Nack(token, body.delay_ms, body.counts, body.reason, body.delivered) for token in body.tokens]
    return await _settle(call, outcomes)


async def reject_events(call: Call) -> Response:
    """Give events up: they are dead letters now."""
    body = await call.json_body(RejectJson)
    return await _settle(call, [Reject(token, body.reason) for token in body.tokens])


async def extend_leases(call: Call) -> Response:
    """Keep events for longer: move their deadlines."""
    body = await call.json_body(ExtendJson)
    return await _settle(call, [Extend(token, body.lock_ms) for token in body.tokens])


async def _settle(call: Call, outcomes: Sequence[Outcome]) -> Response:
    verdicts = await queues_of(call).settle(call.path_parameter("subscription"), outcomes)
    return json_response(VerdictsJson(list(verdicts)))


# ----------------------------------------------------------------------------------------------------------
# browse


async def browse_events(call: Call) -> Response:
    """Show the outstanding events of a subscription, and why each is not delivered now. Changes nothing."""
    slices = _browsed_slices(call, queues_of(call), call.path_parameter("subscription"), call.query)
    parts, end = await start_stream(call, slices, slices.aclose)
    return StreamedResponse(parts, JSON, end)


async def _browsed_slices(
    call: Call, queues: Queues, name: str, query: BrowseQuery
) -> AsyncGenerator[bytes, None]:
    """A BrowsedPageJson, read and encoded in slices: only one of them is in memory."""
    part = bytearray(b'{"events":[')
    after = None if query.after is None else parse_position(query.after)
    separator, left, left_bytes, is_last = b"", query.limit, BROWSED_BYTES_MAX, False
    while left > 0 and left_bytes > 0 and not is_last:
        count = min(left, BROWSED_AT_ONCE)
        events = await queues.browse(
            name, query.state, after=after, max_events=count, consumer=query.consumer
        )
        is_last = len(events) < count
        left -= len(events)
        for browsed in events:
            event = await event_to_json_in_slices(
                browsed.event, call.context.yield_to_loop, exact=query.encoding == "base64"
            )
            until = None if browsed.until_ms is None else format_iso(browsed.until_ms)
            row = BrowsedEventJson(
                event,
                browsed.state,
                browsed.attempts,
                browsed.failures,
                browsed.why,
                browsed.reason,
                browsed.consumer,
                until,
            )
            part += separator + msgspec.json.encode(row)
            separator, after = b",", Position(event.topic, event.partition, event.offset)
            left_bytes -= event.size
        if len(part) >= SLICE_BYTES:
            yield bytes(part)
            part.clear()
        await call.context.yield_to_loop()
    next_after = None if is_last or after is None else format_position(after)
    yield bytes(part) + b"]," + msgspec.json.encode({"next": next_after})[1:]


_PROBLEMS = SUBSCRIPTION_PROBLEMS

ENDPOINTS = (
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":pull",
        handle=pull_events,
        rights=RECEIVED,
        tag="subscriptions",
        bodies={JSON: PullJson},
        reply=PulledJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":ack",
        handle=ack_events,
        rights=on_subscription(Operation.READ),
        tag="subscriptions",
        bodies={JSON: AckJson},
        reply=VerdictsJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":nack",
        handle=nack_events,
        rights=on_subscription(Operation.READ),
        tag="subscriptions",
        bodies={JSON: NackJson},
        reply=VerdictsJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":reject",
        handle=reject_events,
        rights=on_subscription(Operation.READ),
        tag="subscriptions",
        bodies={JSON: RejectJson},
        reply=VerdictsJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":extend",
        handle=extend_leases,
        rights=on_subscription(Operation.READ),
        tag="subscriptions",
        bodies={JSON: ExtendJson},
        reply=VerdictsJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="GET",
        path=SUBSCRIPTION_PATH + ":browse",
        handle=browse_events,
        rights=RECEIVED,
        tag="subscriptions",
        query=BrowseQuery,
        reply=BrowsedPageJson,
        problems=_PROBLEMS,
    ),
)
