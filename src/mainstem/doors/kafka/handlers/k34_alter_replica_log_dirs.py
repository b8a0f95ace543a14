"""34 AlterReplicaLogDirs.

Versions: 1-2.
Behaviour: there is one data folder. Moving a partition to where it is succeeds; any other path is
LOG_DIR_NOT_FOUND.
Notes: v2 is flexible.
Left out: nothing.
"""

from __future__ import annotations

import os

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    folder = os.path.abspath(context.settings.data)
    by_topic: dict[str, list[Message]] = {}
    for target in request.body.dirs:
        for topic_request in target.topics:
            partitions = by_topic.setdefault(topic_request.name, [])
            for index in topic_request.partitions:
                code = ErrorCode.NONE
                if target.path != folder:
                    code = ErrorCode.LOG_DIR_NOT_FOUND
                elif not context.has_partition(topic_request.name, index):
                    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                partitions.append(Message(partition_index=index, error_code=code))
    return Message(
        results=[Message(topic_name=name, partitions=partitions) for name, partitions in by_topic.items()]
    )


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition."""
    return Message(
        results=[
            Message(
                topic_name=topic.name,
                partitions=[Message(partition_index=index, error_code=code) for index in topic.partitions],
            )
            for target in request.body.dirs
            for topic in target.topics
        ]
    )


HANDLER = Handler(
    key=34, versions=(1, 2), handle=handle, rights=(of_cluster(Operation.ALTER),), on_error=on_error
)
