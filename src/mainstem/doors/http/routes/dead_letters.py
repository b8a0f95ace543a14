"""The dead letters of a subscription: why each event was given up, and where it is.

Owns: their JSON, in pages whose size and work are bounded. Refuses: to redrive (`subscriptions`).
"""

from __future__ import annotations

from contextlib import aclosing

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.doors.http.dead_letters import LetterFilter, NoDeadLetterTopic, read_letters
from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.queues import (
    SUBSCRIPTION_PATH,
    SUBSCRIPTION_PROBLEMS,
    format_position,
    parse_position,
    queues_of,
)
from mainstem.doors.http.rights import on_subscription
from mainstem.http_api.dead_letters import DeadLetterJson, DeadLettersJson, DeadLettersQuery
from mainstem.http_api.event_encoding import event_to_json_in_slices
from mainstem.timespec import format_iso

PAGES_MAX = 20
"""Pages of letters that are read for a reply; if few of them are wanted, it has fewer than its limit."""
LETTERS_BYTES_MAX = 4 << 20
"""A reply ends when keys, values and headers have this many bytes."""


async def list_dead_letters(call: Call) -> Response:
    """List the dead letters of a subscription that the server has written: reason, attempts and origin."""
    try:
        return json_response(await _read(call))
    except NoDeadLetterTopic:
        return json_response(DeadLettersJson([], None))


async def _read(call: Call) -> DeadLettersJson:
    query: DeadLettersQuery = call.query
    wanted = LetterFilter.of(query.since_ms, query.reason, query.q, call.context.clock.wall_ms())
    after = None if query.after is None else parse_position(query.after)
    rows: list[DeadLetterJson] = []
    next_after, left_bytes, pages = None, LETTERS_BYTES_MAX, 0
    name = call.path_parameter("subscription")
    async with aclosing(read_letters(queues_of(call), name, wanted, after)) as reading:
        async for letters, following in reading:
            pages += 1
            next_after = None if following is None else format_position(following)
            for number, letter in enumerate(letters, 1):
                event = await event_to_json_in_slices(letter.letter, call.context.yield_to_loop, exact=False)
                rows.append(
                    DeadLetterJson(
                        event,
                        format_position(letter.origin),
                        letter.reason,
                        letter.detail,
                        letter.attempts,
                        format_iso(letter.time_ms),
                        letter.is_redriven,
                    )
                )
                left_bytes -= event.size
                is_full = len(rows) >= query.limit or left_bytes <= 0
                if is_full and (number < len(letters) or following is not None):
                    place = f"{event.topic}/{event.partition}/{event.offset}"
                    return DeadLettersJson(rows, place)
            await call.context.yield_to_loop()
            if pages >= PAGES_MAX:
                break
    return DeadLettersJson(rows, next_after)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=SUBSCRIPTION_PATH + ":dead-letters",
        handle=list_dead_letters,
        rights=on_subscription(Operation.READ, also="READ on its dead-letter topic"),
        tag="subscriptions",
        query=DeadLettersQuery,
        reply=DeadLettersJson,
        problems=(*SUBSCRIPTION_PROBLEMS, "unknown-topic", "query"),
    ),
)
