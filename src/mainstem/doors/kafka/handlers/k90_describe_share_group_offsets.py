"""90 DescribeShareGroupOffsets.

Versions: 0-1.
Behaviour: says where share groups begin (the first record that is not done) and their lag: the records that
are not done, whether delivered or not. Without topics, of all partitions that a group knows. A group or a
partition that does not exist has the offset -1, without an error, as in Kafka.
Notes: v1 adds the lag (KIP-1226).
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import NO_UUID

DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.GROUP)
TOPIC = of_each(Operation.DESCRIBE, ResourceType.TOPIC)


class _Offsets:
    """What one group knows of partitions."""

    def __init__(self, context: HandlerContext, group_id: str) -> None:
        self._context = context
        subscription = context.node.share_groups.find(group_id)
        views: Iterable[SubscriptionView] = ()
        if subscription is not None:
            views = context.node.subscriptions.views.of_subscription(subscription.id)
        self._views = {(view.topic_id, view.partition): view for view in views}

    def all(self) -> list[Message]:
        """All partitions that it knows."""
        by_topic: dict[UUID, list[int]] = {}
        for topic_id, index in sorted(self._views, key=lambda key: (key[0].int, key[1])):
            by_topic.setdefault(topic_id, []).append(index)
        return [
            self._topic(topic.name, topic_id, indexes)
            for topic_id, indexes in by_topic.items()
            if (topic := self._context.topics.by_id(topic_id)) is not None
        ]

    def of(self, name: str, indexes: Iterable[int]) -> Message:
        """These partitions of a topic."""
        topic = self._context.topics.get(name)
        return self._topic(name, NO_UUID if topic is None else topic.id, indexes)

    def _topic(self, name: str, topic_id: UUID, indexes: Iterable[int]) -> Message:
        return Message(
            topic_name=name,
            topic_id=topic_id,
            partitions=[self._partition(topic_id, index) for index in indexes],
        )

    def _partition(self, topic_id: UUID, index: int) -> Message:
        view, topic = self._views.get((topic_id, index)), self._context.topics.by_id(topic_id)
        start, lag, epoch = -1, -1, 0
        if view is not None and topic is not None and index < topic.partitions:
            partition = self._context.node.partition(topic, index)
            sequence, end = view.sequence, partition.high_watermark
            ahead, start = sequence.ahead_and_oldest(partition.log_start_offset, end)
            lag, epoch = min(sequence.counts().outstanding + ahead, end - start), partition.epoch
        return Message(
            partition_index=index,
            start_offset=start,
            leader_epoch=epoch,
            lag=lag,
            error_code=0,
            error_message=None,
        )


def _denied(topic: Message) -> Message:
    """The reply for a topic that the requester may not describe."""
    return Message(
        topic_name=topic.topic_name,
        topic_id=NO_UUID,
        partitions=[
            Message(
                partition_index=index,
                start_offset=-1,
                leader_epoch=0,
                lag=-1,
                error_code=TOPIC.code,
                error_message=TOPIC.text,
            )
            for index in topic.partitions
        ],
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    groups = []
    for group in request.body.groups:
        if not context.allows(request, DESCRIBE, group.group_id):
            refused = Message(group_id=group.group_id, error_code=DESCRIBE.code, error_message=DESCRIBE.text)
            groups.append(refused)
            continue
        offsets = _Offsets(context, group.group_id)
        if group.topics is None:
            topics = [
                topic
                for topic in offsets.all()
                if context.allows(request, TOPIC, topic.topic_name, is_filter=True)
            ]
        else:
            topics = [
                offsets.of(topic.topic_name, topic.partitions)
                if context.allows(request, TOPIC, topic.topic_name)
                else _denied(topic)
                for topic in group.topics
            ]
        groups.append(Message(group_id=group.group_id, topics=topics, error_code=0, error_message=None))
    return context.node.queue_runtime.read(Message(groups=groups))


HANDLER = Handler(key=90, versions=(0, 1), handle=handle, rights=(DESCRIBE, TOPIC))
