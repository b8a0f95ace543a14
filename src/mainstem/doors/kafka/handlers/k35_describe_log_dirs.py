"""35 DescribeLogDirs.

Versions: 1-5.
Behaviour: describes the one data folder, with the size of each requested partition or of all (null). Topics
and partitions that do not exist are left out, as in Kafka.
Notes: v2 is flexible; v3 adds an error code for the whole reply, v4 the size of the volume (KIP-827), v5
`is_cordoned`.
Left out: the total and usable size of the volume, which are always -1 (unknown).
"""

from __future__ import annotations

import os

from mainstem.access_contract import Operation
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message


def _sizes(context: HandlerContext, topic: TopicMetadata, indexes: list[int] | range) -> Message:
    partitions = []
    for index in indexes:
        if 0 <= index < topic.partitions:
            size = context.node.partition(topic, index).size_bytes()
            partitions.append(Message(partition_index=index, partition_size=size, offset_lag=0))
    return Message(name=topic.name, partitions=partitions)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    requested = request.body.topics
    if requested is None:
        topics = [_sizes(context, topic, range(topic.partitions)) for topic in context.topics.all()]
    else:
        topics = [
            _sizes(context, topic, topic_request.partitions)
            for topic_request in requested
            if (topic := context.topics.get(topic_request.topic)) is not None
        ]
    folder = Message(
        error_code=0,
        log_dir=os.path.abspath(context.settings.data),
        topics=[topic for topic in topics if topic.partitions],
    )
    return Message(results=[folder])


def on_error(request: Request, code: int) -> Message:
    """The reply with an error code, which versions before 3 lack: they show no folder, as in Kafka."""
    return Message(error_code=code, results=[])


HANDLER = Handler(
    key=35, versions=(1, 5), handle=handle, rights=(of_cluster(Operation.DESCRIBE),), on_error=on_error
)
