"""What the routes of subscriptions share: the engine's queues, and positions as text.

Owns: the problem if the engine has no queues, and reading which events the letters of a dead-letter topic are
copies of. Refuses: requests and replies, which the routes have.
"""

from __future__ import annotations

from mainstem.contract import Position
from mainstem.doors.http.endpoint import Call
from mainstem.doors.http.problem import Problem
from mainstem.queue_contract import NoSuchSnapshot, Queues, SnapshotInfo

SUBSCRIPTION_PATH = "/api/v1/subscriptions/{subscription:word}"
SUBSCRIPTION_PROBLEMS = ("unknown-subscription", "not-offered")


def queues_of(call: Call) -> Queues:
    """The queues of the engine. Raises the problem `not-offered` if it has none."""
    if not isinstance(call.engine, Queues):
        raise Problem("not-offered", "this event log has no subscriptions")
    return call.engine


async def snapshot_of(queues: Queues, name: str, snapshot: str) -> SnapshotInfo:
    """A snapshot of a subscription. NoSuchSnapshot."""
    for info in await queues.snapshots(name):
        if info.name == snapshot:
            return info
    raise NoSuchSnapshot(f"subscription {name} has no snapshot {snapshot}")


def parse_position(text: str) -> Position:
    """The position of `topic/partition/offset`. Raises Problem."""
    topic, partition, offset = text.split("/")
    position = Position(topic, int(partition), int(offset))
    if position.partition > 2**31 - 1 or position.offset > 2**63 - 1:
        raise Problem("unfit", f"{text}: no partition or offset is as large as this")
    return position


def format_position(position: Position) -> str:
    """The position as `topic/partition/offset`."""
    return f"{position.topic}/{position.partition}/{position.offset}"
