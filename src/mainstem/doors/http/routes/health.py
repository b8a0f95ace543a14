"""Whether it lives, and whether it is ready: for supervisors and load balancers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.routes.metrics import ReportsMetrics


class LiveJson(msgspec.Struct):
    """It answers."""

    live: bool


class ReadyJson(msgspec.Struct):
    """Whether events are taken and given."""

    ready: bool
    reasons: Annotated[list[str], Meta(description="Why not; empty when it is.")]
    notes: Annotated[list[str], Meta(description="What to know of the last start, though all is well.")]


async def livez(call: Call) -> Response:
    """Tell that the server lives: restart it when this does not answer."""
    return json_response(LiveJson(True))


async def readyz(call: Call) -> Response:
    """Tell whether the server takes and gives events: 503 with the reasons when not."""
    health = await call.engine.health()
    reasons = list(health.problems)
    if call.context.closing.is_set():
        reasons.append("the server is stopping")
    return json_response(ReadyJson(not reasons, reasons, _notes(call)), 503 if reasons else 200)


def _notes(call: Call) -> list[str]:
    """What the last start put aside: nothing that was acknowledged, but somebody should look at it once."""
    if not isinstance(call.engine, ReportsMetrics):
        return []
    figures = call.engine.metric_values()
    notes = []
    if cut := int(figures.get("mainstem_recovery_quarantined_bytes", 0)):
        notes.append(
            f"the last start cut {cut:,} bytes off that a crash had left unfinished, never acknowledged; they"
            " are kept in *.quarantine files"
        )
    if folders := int(figures.get("mainstem_recovery_quarantined_partitions", 0)):
        many = "1 partition" if folders == 1 else f"{folders:,} partitions"
        notes.append(f"the last start put {many} aside into quarantine/: no topic has their id")
    return notes


ENDPOINTS = (
    Endpoint(method="GET", path="/livez", handle=livez, tag="health", reply=LiveJson),
    Endpoint(
        method="GET",
        path="/readyz",
        handle=readyz,
        tag="health",
        reply=ReadyJson,
        other_replies={503: ReadyJson},
    ),
)
