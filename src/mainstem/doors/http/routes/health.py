"""Liveness and readiness, for supervisors and load balancers."""

from __future__ import annotations

from starlette.responses import Response

from mainstem.access_contract import Operation, ResourceType
from mainstem.contract import ReportsMetrics
from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.rights import OPEN
from mainstem.http_api.health import DamagedOffsetsJson, LiveJson, ReadyJson

DAMAGED_MAX = 100
"""Damaged ranges in a reply: a probe reads it every few seconds."""


async def livez(call: Call) -> Response:
    """Report that the process responds. Restart it when it does not."""
    return json_response(LiveJson(True))


async def readyz(call: Call) -> Response:
    """Report whether events can be written and read: 503 with the reasons if not.

    Reasons, notes, damage and doors are for those who may DESCRIBE the cluster."""
    shows_all = call.caller.is_known and (
        not call.is_limited or call.rights.allows(Operation.DESCRIBE, ResourceType.CLUSTER)
    )
    health = await call.engine.health()
    reasons = list(health.problems)
    statuses = call.context.door_statuses()
    reasons += [f"{status.title} door: {problem}" for status in statuses for problem in status.problems]
    if call.context.closing.is_set():
        reasons.append("the server is stopping")
    if not shows_all:
        return _reply(ReadyJson(not reasons, ["there is a problem"] if reasons else [], [], [], {}))
    doors = {status.name: status.text for status in statuses}
    notes = _notes(call) + [f"{status.title} door: {note}" for status in statuses for note in status.notes]
    damaged = [DamagedOffsetsJson(*offsets) for offsets in health.damaged[:DAMAGED_MAX]]
    return _reply(ReadyJson(not reasons, reasons, notes, damaged, doors))


def _reply(ready: ReadyJson) -> Response:
    return json_response(ready, 200 if ready.ready else 503)


def _notes(call: Call) -> list[str]:
    """Notes on what the last start moved to quarantine, of which no event was acknowledged, and on damage of
    the journal, one line each: an administrator should look at it."""
    if not isinstance(call.engine, ReportsMetrics):
        return []
    values = call.engine.metric_values()
    notes = []
    if cut_bytes := int(values.get("mainstem_recovery_quarantined_bytes", 0)):
        notes.append(
            f"the last start cut off {cut_bytes:,} bytes of writes that a crash had interrupted; none of them"
            " was acknowledged, and they are kept in *.quarantine files"
        )
    if places := int(values.get("mainstem_recovery_journal_damage", 0)):
        count = "1 place" if places == 1 else f"{places:,} places"
        notes.append(
            f"the last start found the journal damaged in {count}: events that were acknowledged just before"
            " the stop may be lost; the server's log names them, and `mainstem doctor` what follows"
        )
    if partitions := int(values.get("mainstem_recovery_quarantined_partitions", 0)):
        count = "1 partition" if partitions == 1 else f"{partitions:,} partitions"
        notes.append(f"the last start moved {count} to quarantine/, because no topic has their id")
    return notes


ENDPOINTS = (
    Endpoint(method="GET", path="/livez", handle=livez, rights=OPEN, tag="health", reply=LiveJson),
    Endpoint(
        method="GET",
        path="/readyz",
        handle=readyz,
        rights=OPEN,
        tag="health",
        reply=ReadyJson,
        other_replies={503: ReadyJson},
    ),
)
