"""A member of a group, and the decision that a request or a timer makes about a group.

Owns: a member's recorded facts and its soft state (a waiting join or sync, the deadline of its session).
Refuses: rules; those are in `rebalancer.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from mainstem.clock import Timer
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.types import (
    CONSUMER_PROTOCOL,
    JoinReply,
    JoinRequest,
    MemberRecord,
    Protocols,
    SyncReply,
)
from mainstem.kafka_protocol.subscription import EMPTY_ASSIGNMENT
from mainstem.promise import Promise

T = TypeVar("T")

NAME_MAX = 249
"""Most characters of a client id that are kept, and that begin a member id. A client id may have 32,767."""
MEMBER_BYTES = 2_000
PROTOCOL_BYTES = 200
"""Approximate bytes of memory of a member without its names, protocols and assignment, and of each
protocol."""


def empty_assignment(protocol_type: str | None) -> bytes:
    """The encoded assignment for a member that the leader left out. A consumer decodes it, so it gets a valid
    one without topics. (Kafka sends no bytes, on which some clients fail or join again for ever.) For other
    protocol types the encoding is not known, so it is no bytes."""
    return EMPTY_ASSIGNMENT if protocol_type == CONSUMER_PROTOCOL else b""


class Decision:
    """What a request or a timer decided: records to write, and replies to send when these are durable."""

    __slots__ = ("records", "replies")

    def __init__(self) -> None:
        self.records: list[msgspec.Struct] = []
        self.replies: list[PendingReply[JoinReply] | PendingReply[SyncReply]] = []


class PendingReply(Generic[T]):
    """The reply to a client's request, sent when the records of the decision are durable."""

    __slots__ = ("error", "promise", "value")

    def __init__(self, promise: Promise[T], value: T | None, error: CoordinatorError | None) -> None:
        self.promise = promise
        self.value = value
        self.error = error

    def send(self, failure: CoordinatorError | None) -> None:
        """Send the reply, or `failure` if the decision did not become durable."""
        error = failure or self.error
        if self.promise.done:
            # The request's own decision failed, and then its group was dropped while the request waited.
            return
        if error is not None:
            self.promise.fail(error)
        else:
            assert self.value is not None
            self.promise.resolve(self.value)


class GroupMember:
    """A member of a group, compared by identity: a static member that was replaced is another object."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "deadline",
        "instance_id",
        "is_new",
        "member_id",
        "pending_join",
        "pending_sync",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "timer",
        "timer_due",
    )

    def __init__(self, record: MemberRecord) -> None:
        self.member_id = record.member_id
        self.instance_id = record.instance_id
        self.client_id = record.client_id
        self.client_host = record.client_host
        self.session_timeout_ms = record.session_timeout_ms
        self.rebalance_timeout_ms = record.rebalance_timeout_ms
        self.protocols = record.protocols
        self.assignment = record.assignment
        self.is_new = False
        """Whether the member has no reply to its first join yet; until then it cannot send heartbeats."""
        self.pending_join: Promise[JoinReply] | None = None
        self.pending_sync: Promise[SyncReply] | None = None
        self.deadline = 0.0
        """When the member's session ends, monotonic seconds. A heartbeat moves only the deadline; the timer
        checks the deadline when it fires."""
        self.timer_due = 0.0
        """When the timer of the session fires, monotonic seconds; never after `deadline`."""
        self.timer: Timer | None = None

    @classmethod
    def from_request(cls, member_id: str, request: JoinRequest, assignment: bytes) -> GroupMember:
        """A new member with the attributes of its join request."""
        return cls(
            MemberRecord(
                member_id=member_id,
                instance_id=request.instance_id,
                client_id=request.client_id[:NAME_MAX],
                client_host=request.client_host,
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=request.rebalance_timeout_ms,
                protocols=request.protocols,
                assignment=assignment,
            )
        )

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of memory that the member takes."""
        names = len(self.member_id) + len(self.instance_id or "") + len(self.client_id)
        protocols = sum(len(name) + len(metadata) for name, metadata in self.protocols)
        return MEMBER_BYTES + names + protocols + PROTOCOL_BYTES * len(self.protocols) + len(self.assignment)

    def record(self) -> MemberRecord:
        """The member's part of the group's state record."""
        return MemberRecord(
            member_id=self.member_id,
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            session_timeout_ms=self.session_timeout_ms,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            protocols=self.protocols,
            assignment=self.assignment,
        )

    def metadata(self, protocol: str | None) -> bytes:
        """The member's metadata for an assignor; empty if it does not offer that one."""
        return next((data for name, data in self.protocols if name == protocol), b"")

    def vote(self, candidates: Iterable[str]) -> str:
        """The assignor among `candidates` that the member prefers. It offers all of them."""
        return next(name for name, _ in self.protocols if name in candidates)

    def offers(self, protocols: Protocols) -> bool:
        """Whether the member already offers exactly these protocols."""
        return self.protocols == protocols

    def session_suspended(self) -> bool:
        """Whether the session cannot end now, because the member waits for a reply. The session of a new
        member can always end; otherwise clients that left during a long rebalance would accumulate."""
        return not self.is_new and (self.pending_join is not None or self.pending_sync is not None)

    def reply_to_join(
        self, decision: Decision, value: JoinReply | None, error: CoordinatorError | None = None
    ) -> None:
        """Reply to the waiting join, if there is one."""
        if self.pending_join is not None:
            decision.replies.append(PendingReply(self.pending_join, value, error))
            self.pending_join = None

    def reply_to_sync(
        self, decision: Decision, value: SyncReply | None, error: CoordinatorError | None = None
    ) -> bool:
        """Reply to the waiting sync. False if there is none."""
        if self.pending_sync is None:
            return False
        decision.replies.append(PendingReply(self.pending_sync, value, error))
        self.pending_sync = None
        return True

    def reject(self, decision: Decision, error: CoordinatorError) -> None:
        """Fail the waiting join and sync of the client with `error`, because it is not a member any more."""
        self.reply_to_join(decision, None, error)
        self.reply_to_sync(decision, None, error)

    def cancel_timer(self) -> None:
        """Cancel the timer that ends the session if no heartbeat arrives in time."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
