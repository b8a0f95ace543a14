"""One member of a consumer group, and what is in the bytes that Kafka's consumers put there.

Owns: a member's facts and its soft state (a parked join or sync, its session's deadline), and the reading of
the consumer protocol's subscription. Refuses: decisions; those are `rebalancer.py`. Called by the group
modules only.
"""

from __future__ import annotations

import struct
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
from mainstem.promise import Promise

T = TypeVar("T")

EMPTY_CONSUMER_ASSIGNMENT = b"\x00\x00" + b"\x00\x00\x00\x00" + b"\xff\xff\xff\xff"
"""ConsumerProtocolAssignment v0: no topics, null user data."""


def empty_assignment(protocol_type: str | None) -> bytes:
    """What a member gets that its leader forgot. Consumers decode it, so it must be whole (Kafka gives no
    bytes, on which some clients fail or join again for ever); what other protocols would decode is not known:
    no bytes."""
    return EMPTY_CONSUMER_ASSIGNMENT if protocol_type == CONSUMER_PROTOCOL else b""


def subscribed(metadata: bytes) -> frozenset[str] | None:
    """Topics of a consumer's subscription (ConsumerProtocolSubscription); None if the bytes are something
    else.

    Only version and topics are read: every version starts with them.
    """
    try:
        (count,) = struct.unpack_from(">i", metadata, 2)
        position = 6
        if count < 0 or count * 2 > len(metadata) - position:
            return None
        topics = []
        for _ in range(count):
            (length,) = struct.unpack_from(">h", metadata, position)
            position += 2
            if length < 0 or length > len(metadata) - position:
                return None
            topics.append(metadata[position : position + length].decode())
            position += length
    except (struct.error, UnicodeDecodeError):
        return None
    return frozenset(topics)


class Decision:
    """What one request or timer decided: records to write, and answers to give when they are durable."""

    __slots__ = ("records", "replies")

    def __init__(self) -> None:
        self.records: list[msgspec.Struct] = []
        self.replies: list[PendingReply[JoinReply] | PendingReply[SyncReply]] = []


class PendingReply(Generic[T]):
    """A reply to a parked request, given once the step is durable."""

    __slots__ = ("error", "promise", "value")

    def __init__(self, waiting: Promise[T], value: T | None, error: CoordinatorError | None) -> None:
        self.promise = waiting
        self.value = value
        self.error = error

    def send(self, failure: CoordinatorError | None) -> None:
        """Answer, with `failure` if the step did not become durable."""
        error = failure or self.error
        if self.promise.done:
            # It was told already that its own step failed, and then its group was thrown away with it parked.
            return
        if error is not None:
            self.promise.fail(error)
        else:
            assert self.value is not None
            self.promise.resolve(self.value)


class GroupMember:
    """A member of a group. Identity counts: a static member that was replaced is another object."""

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

    def __init__(self, saved: MemberRecord) -> None:
        self.member_id = saved.member_id
        self.instance_id = saved.instance_id
        self.client_id = saved.client_id
        self.client_host = saved.client_host
        self.session_timeout_ms = saved.session_timeout_ms
        self.rebalance_timeout_ms = saved.rebalance_timeout_ms
        self.protocols = saved.protocols
        self.assignment = saved.assignment
        self.is_new = False
        """Has never had an answer to its first join: it cannot send heartbeats yet."""
        self.pending_join: Promise[JoinReply] | None = None
        self.pending_sync: Promise[SyncReply] | None = None
        self.deadline = 0.0
        """When its session ends (monotonic seconds). A heartbeat moves only this; the timer looks when it
        fires."""
        self.timer_due = 0.0
        self.timer: Timer | None = None

    @classmethod
    def from_request(cls, member_id: str, request: JoinRequest, assignment: bytes) -> GroupMember:
        """The member that this request makes."""
        return cls(
            MemberRecord(
                member_id=member_id,
                instance_id=request.instance_id,
                client_id=request.client_id,
                client_host=request.client_host,
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=request.rebalance_timeout_ms,
                protocols=request.protocols,
                assignment=assignment,
            )
        )

    def record(self) -> MemberRecord:
        """What is recorded of it."""
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
        """Its metadata for an assignor."""
        return next((data for name, data in self.protocols if name == protocol), b"")

    def vote(self, candidates: Iterable[str]) -> str:
        """Its favourite among these, all of which it supports."""
        return next(name for name, _ in self.protocols if name in candidates)

    def offers(self, protocols: Protocols) -> bool:
        """It already said exactly this."""
        return self.protocols == protocols

    def session_suspended(self) -> bool:
        """Its session cannot end now: it waits for us. A new member has no such excuse, or clients that went
        away during a long rebalance would pile up."""
        return not self.is_new and (self.pending_join is not None or self.pending_sync is not None)

    def reply_to_join(
        self, step: Decision, value: JoinReply | None, error: CoordinatorError | None = None
    ) -> None:
        """Answer its parked join, if any."""
        if self.pending_join is not None:
            step.replies.append(PendingReply(self.pending_join, value, error))
            self.pending_join = None

    def reply_to_sync(
        self, step: Decision, value: SyncReply | None, error: CoordinatorError | None = None
    ) -> bool:
        """Answer its parked sync; False if there is none."""
        if self.pending_sync is None:
            return False
        step.replies.append(PendingReply(self.pending_sync, value, error))
        self.pending_sync = None
        return True

    def reject(self, step: Decision, error: CoordinatorError) -> None:
        """It is not a member any more: tell whatever waits for it."""
        self.reply_to_join(step, None, error)
        self.reply_to_sync(step, None, error)

    def cancel_timer(self) -> None:
        """No session any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
