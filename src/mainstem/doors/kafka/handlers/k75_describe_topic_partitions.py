"""75 DescribeTopicPartitions.

Versions: 0.
Behaviour: describes topics by name, or all if none is named, with their partitions, page by page. A reply has
at most `response_partition_limit` partitions, never more than 2000, and the cursor of the next page
(KIP-966). If the topic of a cursor was deleted, the page begins with the next topic. Unknown names have their
own error code. A page is made in several turns of the event loop.
Notes: the eligible leader replicas are empty, because there is one replica.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mainstem.access_contract import Operation, Resource, ResourceType
from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata, unknown_topic_error
from mainstem.doors.kafka.authorized_operations import authorized_operations
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import ArrayWriter
from mainstem.turns import run_in_turns

PARTITIONS_MAX = 2000
"""Most partitions of one reply: the default of Kafka's `max.request.partition.size.limit`."""
TOPICS_PER_TURN = 100
"""Topics that are described in one turn of the event loop; the operations of each are eight questions."""
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.TOPIC)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    cursor = body.cursor
    if cursor is not None and cursor.partition_index < 0:
        raise InvalidRequest("DescribeTopicPartitionsRequest cursor partition must be valid.")
    page = _Page(context, request)
    return (
        run_in_turns(context.clock, page.encode(), TOPICS_PER_TURN)
        .chain(lambda _: context.node.runtime.read(None))
        .map(lambda _: Message(topics=page.topics.encoded(), next_cursor=page.next_cursor))
    )


class _Page:
    """The topics of one reply."""

    def __init__(self, context: HandlerContext, request: Request) -> None:
        self._context = context
        self._request = request
        self._remaining: int = max(min(PARTITIONS_MAX, request.body.response_partition_limit), 1)
        self._names = sorted({topic.name for topic in request.body.topics})
        """Those that the request names; empty: it asks for all."""
        self.topics = ArrayWriter(75, request.version, "topics")
        self.next_cursor: Message | None = None
        """Where the next page begins; None if this is the last."""

    def encode(self) -> Iterator[int]:
        """Encode topics until the page is full. One that the client may not describe is left out, or refused
        if the request names it."""
        context, cursor = self._context, self._request.body.cursor
        for name in self._names or [topic.name for topic in context.topics.all()]:
            if cursor is not None and name < cursor.topic_name:
                continue
            yield 1
            if not context.allows(self._request, DESCRIBE, name, is_filter=not self._names):
                if self._names:
                    self.topics.add(Message(name=name, error_code=DESCRIBE.code, partitions=[]))
                continue
            start = cursor.partition_index if cursor is not None and cursor.topic_name == name else 0
            if self._add(name, start):
                return

    def _add(self, name: str, start: int) -> bool:
        """Add a topic from this partition on. Whether the page is full before its end."""
        if self._remaining == 0:
            self.next_cursor = Message(topic_name=name, partition_index=0)
            return True
        topic = self._context.topics.get(name)
        if topic is None:
            if not self._names:  # it was deleted meanwhile
                return False
            code = int(code_of(unknown_topic_error(name)))
            self.topics.add(Message(name=name, error_code=code, partitions=[]))
            return False
        until: int = min(topic.partitions, start + self._remaining)
        self.topics.add(_topic(self._context, self._request, topic, range(start, until)))
        self._remaining -= max(until - start, 0)
        if until < topic.partitions:
            self.next_cursor = Message(topic_name=name, partition_index=until)
        return until < topic.partitions


def _topic(
    context: HandlerContext, request: Request, topic: TopicMetadata, indexes: Iterable[int]
) -> Message:
    replicas = [context.node_id]
    return Message(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.internal,
        topic_authorized_operations=authorized_operations(
            context, request, Resource(ResourceType.TOPIC, topic.name)
        ),
        partitions=[
            Message(
                partition_index=index,
                leader_id=context.node_id,
                leader_epoch=context.node.partition(topic, index).epoch,
                replica_nodes=replicas,
                isr_nodes=replicas,
                eligible_leader_replicas=[],
                last_known_elr=[],
                offline_replicas=[],
            )
            for index in indexes
        ],
    )


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every named topic, as in Kafka: it has no error code of its own."""
    return Message(
        topics=[Message(name=topic.name, error_code=code, partitions=[]) for topic in request.body.topics]
    )


HANDLER = Handler(key=75, versions=(0, 0), handle=handle, rights=(DESCRIBE,), on_error=on_error)
