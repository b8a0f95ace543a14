"""What ShareFetch and ShareAcknowledge have in common: who asks, and what is acknowledged.

Owns: the checks that need no state, with Kafka's answers. Refuses: sessions, and to acknowledge.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import (
    CoordinatorError,
    InvalidRequest,
    UnknownTopicId,
    UnknownTopicOrPartition,
)
from mainstem.doors.kafka.handler import HandlerContext, Request
from mainstem.doors.kafka.rights import RightDenied, of_each
from mainstem.doors.kafka.share_sessions import ShareSessions
from mainstem.kafka_protocol.message import Message
from mainstem.queues.range_answer import RangeAnswer, RangeVerb
from mainstem.share_contract import PartitionKey

MEMBER_ID_CHARS_MAX = 36
RENEW = 4
RENEW_FROM_VERSION = 2
VERBS: Final[Sequence[RangeVerb]] = ("ack", "ack", "release", "reject", "renew")
"""By acknowledge type: gap, accept, release, reject, renew."""

READ_TOPIC = of_each(Operation.READ, ResourceType.TOPIC)


def sessions_of(context: HandlerContext) -> ShareSessions:
    """The share sessions. InvalidRequest if the engine has no queues."""
    if context.share_sessions is None:
        raise InvalidRequest("this server offers no share groups")
    return context.share_sessions


def member_of(body: Message) -> tuple[str, str]:
    """The group and the member of a request. InvalidRequest."""
    group, member = body.group_id, body.member_id
    if group is None:
        raise InvalidRequest("Invalid group id in the request.")
    if not member or len(member) > MEMBER_ID_CHARS_MAX:
        raise InvalidRequest("Invalid member id in the request.")
    return group, member


def lock_ms_of(context: HandlerContext, group: str) -> int:
    """How long a group's records are locked."""
    subscription = context.node.share_groups.find(group)
    if subscription is not None:
        return subscription.settings.lock_ms
    return context.node.group_settings.of(group).lock_ms


class Acknowledgements:
    """The acknowledgements of a request: what the engine is asked, and what is refused before."""

    def __init__(self, context: HandlerContext, request: Request, renews: bool) -> None:
        self.answers: dict[PartitionKey, list[RangeAnswer]] = {}
        self.errors: dict[PartitionKey, BaseException | None] = {}
        """The partitions that have an answer already; None: there was nothing to acknowledge."""
        for topic in request.body.topics:
            known = context.topics.by_id(topic.topic_id)
            for partition in topic.partitions:
                key = topic.topic_id, partition.partition_index
                try:
                    if known is None:
                        raise UnknownTopicId("there is no topic with this id")
                    parts = answers_of(partition.acknowledgement_batches, request.version, renews)
                    if not context.allows(request, READ_TOPIC, known.name):
                        raise RightDenied(READ_TOPIC)
                    if not 0 <= partition.partition_index < known.partitions:
                        raise UnknownTopicOrPartition("the topic has no such partition")
                except (CoordinatorError, RightDenied) as error:
                    self.errors[key] = error
                else:
                    if parts:
                        self.answers[key] = parts
                    else:
                        self.errors[key] = None
        if not self.answers:  # as Kafka: then it says nothing of partitions without acknowledgements
            self.errors = {key: error for key, error in self.errors.items() if error is not None}


def answers_of(batches: Sequence[Message], version: int, renews: bool) -> list[RangeAnswer]:
    """The acknowledgements of a partition, which name ascending offsets: a type for each offset, or one for
    all. `renews`: the request says that it renews locks. InvalidRequest."""
    types_end = len(VERBS) if version >= RENEW_FROM_VERSION else RENEW
    previous = -1
    answers: list[RangeAnswer] = []
    for batch in batches:
        first, last, types = batch.first_offset, batch.last_offset, batch.acknowledge_types
        if first > last or first < previous:
            raise InvalidRequest("the acknowledged offsets are not ascending")
        if not types or (len(types) > 1 and len(types) != last - first + 1):
            raise InvalidRequest("an acknowledgement has one type, or one for each offset")
        if min(types) < 0 or max(types) >= types_end or (RENEW in types and not renews):
            raise InvalidRequest("an acknowledgement has an invalid type")
        previous = last
        if len(types) == 1:
            answers.append(RangeAnswer(first, last + 1, VERBS[types[0]]))
            continue
        for verb, group in groupby(map(VERBS.__getitem__, types)):
            end = first + sum(1 for _ in group)
            answers.append(RangeAnswer(first, end, verb))
            first = end
    return answers
