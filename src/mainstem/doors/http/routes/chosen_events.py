"""Chosen events of subscriptions: wake or cancel them, and what each subscription knows of an event.

Owns: the JSON of these. Refuses: nothing itself; the engine leaves out what it cannot change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.contract import Position
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.queues import SUBSCRIPTION_PATH, SUBSCRIPTION_PROBLEMS, queues_of
from mainstem.doors.http.rights import on_subscription, on_topic
from mainstem.http_api.field_types import LONG_MAX
from mainstem.http_api.subscriptions import (
    CancelJson,
    EventInSubscriptionJson,
    EventStatesJson,
    PositionJson,
    SettledEventsJson,
    WakeJson,
)
from mainstem.timespec import format_iso

STATES_MAX = 1_000
"""Subscriptions of an event that are shown."""


def _positions(places: Sequence[PositionJson] | None) -> list[Position] | None:
    if places is None:
        return None
    return [Position(place.topic, place.partition, place.offset) for place in places]


async def wake_events(call: Call) -> Response:
    """Deliver events now that wait for a time."""
    return await _change(call, "wake", await call.json_body(WakeJson))


async def cancel_events(call: Call) -> Response:
    """Let events be done that no consumer has, without delivering them. No event is deleted."""
    return await _change(call, "cancel", await call.json_body(CancelJson))


async def _change(call: Call, action: Literal["wake", "cancel"], body: WakeJson | CancelJson) -> Response:
    queues, name = queues_of(call), call.path_parameter("subscription")
    change = queues.wake if action == "wake" else queues.cancel
    with audit.action(call, action, dry_run=body.dry_run, subscription=name) as line:
        events = await change(name, _positions(body.positions), dry_run=body.dry_run)
        line.count(events=events)
    return json_response(SettledEventsJson(name, body.dry_run, events))


async def show_event_states(call: Call) -> Response:
    """Show the state of an event in each subscription of its topic."""
    offset = call.path_parameter("offset")
    if not (offset.isascii() and offset.isdigit() and len(offset) <= 19) or int(offset) > LONG_MAX:
        raise Problem("bad-path", f"{offset!r} is not an offset")
    position = Position(call.path_parameter("topic"), call.path_partition(), int(offset))
    states = await queues_of(call).event_states(position)
    rows = [
        EventInSubscriptionJson(
            state.subscription,
            state.state,
            state.attempts,
            state.failures,
            state.why,
            state.reason,
            state.consumer,
            None if state.until_ms is None else format_iso(state.until_ms),
        )
        for state in states[:STATES_MAX]
    ]
    return json_response(EventStatesJson(rows, len(states)))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":wake",
        handle=wake_events,
        rights=on_subscription(Operation.ALTER),
        tag="subscriptions",
        bodies={JSON: WakeJson},
        reply=SettledEventsJson,
        problems=SUBSCRIPTION_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":cancel",
        handle=cancel_events,
        rights=on_subscription(Operation.ALTER),
        tag="subscriptions",
        bodies={JSON: CancelJson},
        reply=SettledEventsJson,
        problems=SUBSCRIPTION_PROBLEMS,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/topics/{topic}/partitions/{partition}/events/{offset}/subscriptions",
        handle=show_event_states,
        rights=on_topic(Operation.DESCRIBE, also="lists the subscriptions that one may DESCRIBE"),
        tag="subscriptions",
        reply=EventStatesJson,
        problems=("unknown-topic", "out-of-range", "bad-path", "not-offered"),
    ),
)
