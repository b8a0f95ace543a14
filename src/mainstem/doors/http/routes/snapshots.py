"""Named snapshots of subscriptions: take, list and delete them. A seek goes to one (`subscriptions.py`).

Owns: their JSON. Refuses: nothing itself; the engine refuses names, and its errors become problems.
"""

from __future__ import annotations

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.queues import SUBSCRIPTION_PATH, SUBSCRIPTION_PROBLEMS, queues_of, snapshot_of
from mainstem.doors.http.rights import on_subscription
from mainstem.http_api.subscriptions import (
    DeletedSnapshotJson,
    NewSnapshotJson,
    SnapshotJson,
    SnapshotsJson,
)
from mainstem.http_api.topics import DryRunQuery
from mainstem.queue_contract import SnapshotInfo
from mainstem.timespec import format_iso


def _json(info: SnapshotInfo) -> SnapshotJson:
    return SnapshotJson(info.name, format_iso(info.created_ms), info.events)


async def list_snapshots(call: Call) -> Response:
    """List the snapshots of a subscription."""
    infos = await queues_of(call).snapshots(call.path_parameter("subscription"))
    return json_response(SnapshotsJson([_json(info) for info in infos]))


async def take_snapshot(call: Call) -> Response:
    """Keep under a name which events of a subscription are done now, to seek there later."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    body = await call.json_body(NewSnapshotJson)
    with audit.action(call, "snapshot", subscription=name, snapshot=body.snapshot):
        info = await queues.take_snapshot(name, body.snapshot)
    return json_response(_json(info), 201)


async def delete_snapshot(call: Call) -> Response:
    """Delete a snapshot of a subscription."""
    queues, name = queues_of(call), call.path_parameter("subscription")
    snapshot, dry_run = call.path_parameter("snapshot"), call.query.dry_run
    with audit.action(call, "delete-snapshot", dry_run=dry_run, subscription=name, snapshot=snapshot):
        await snapshot_of(queues, name, snapshot)
        if not dry_run:
            await queues.delete_snapshot(name, snapshot)
    return json_response(DeletedSnapshotJson(name, snapshot, dry_run))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=SUBSCRIPTION_PATH + "/snapshots",
        handle=list_snapshots,
        rights=on_subscription(Operation.DESCRIBE),
        tag="subscriptions",
        reply=SnapshotsJson,
        problems=SUBSCRIPTION_PROBLEMS,
        link_sources={"snapshot": "/snapshots/0/snapshot"},
    ),
    Endpoint(
        method="POST",
        path=SUBSCRIPTION_PATH + ":snapshot",
        handle=take_snapshot,
        rights=on_subscription(Operation.ALTER),
        tag="subscriptions",
        bodies={JSON: NewSnapshotJson},
        reply=SnapshotJson,
        status=201,
        problems=(*SUBSCRIPTION_PROBLEMS, "snapshot-exists"),
        link_sources={"snapshot": "/snapshot"},
    ),
    Endpoint(
        method="DELETE",
        path=SUBSCRIPTION_PATH + "/snapshots/{snapshot:word}",
        handle=delete_snapshot,
        rights=on_subscription(Operation.ALTER),
        tag="subscriptions",
        query=DryRunQuery,
        reply=DeletedSnapshotJson,
        problems=(*SUBSCRIPTION_PROBLEMS, "unknown-snapshot"),
    ),
)
