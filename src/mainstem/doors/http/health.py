"""Whether it lives, and whether it is ready: for supervisors and load balancers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, Endpoint, answer


class LiveJson(msgspec.Struct):
    """It answers."""

    live: bool


class ReadyJson(msgspec.Struct):
    """Whether events are taken and given."""

    ready: bool
    reasons: Annotated[list[str], Meta(description="Why not; empty when it is.")]


async def livez(call: Call) -> Response:
    """Tell that the server lives: restart it when this does not answer."""
    return answer(LiveJson(True))


async def readyz(call: Call) -> Response:
    """Tell whether the server takes and gives events: 503 with the reasons when not."""
    health = await call.engine.health()
    reasons = list(health.problems)
    if call.context.closing.is_set():
        reasons.append("the server is stopping")
    return answer(ReadyJson(not reasons, reasons), 503 if reasons else 200)


ENDPOINTS = (
    Endpoint(method="GET", path="/livez", handle=livez, tag="health", reply=LiveJson),
    Endpoint(
        method="GET", path="/readyz", handle=readyz, tag="health", reply=ReadyJson, also={503: ReadyJson}
    ),
)
