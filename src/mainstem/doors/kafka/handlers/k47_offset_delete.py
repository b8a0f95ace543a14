"""47 OffsetDelete.

Versions: 0.
Behaviour: deletes a group's committed offsets of some partitions; the reply waits until that is durable.
Topics that a member subscribes to are refused (GROUP_SUBSCRIBED_TO_TOPIC); the whole group is refused
(NON_EMPTY_GROUP) if its members are not consumers.
Notes: there is one version (KIP-496).
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.groups.offsets import PartitionErrors
from mainstem.coordinator.groups.types import TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each, of_group
from mainstem.kafka_protocol.message import Message

READ = of_each(Operation.READ, ResourceType.TOPIC)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    topics = request.body.topics
    may_read = {topic.name: context.allows(request, READ, topic.name) for topic in topics}
    requested = [
        (TopicRef(topic.name), [partition.partition_index for partition in topic.partitions])
        for topic in topics
        if may_read[topic.name]
    ]
    denied = [
        Message(
            name=topic.name,
            partitions=[
                Message(partition_index=partition.partition_index, error_code=READ.code)
                for partition in topic.partitions
            ],
        )
        for topic in topics
        if not may_read[topic.name]
    ]

    def on_success(topic_errors: PartitionErrors) -> Message:
        return Message(
            topics=denied
            + [
                Message(
                    name=ref.name,
                    partitions=[
                        Message(partition_index=index, error_code=0 if error is None else code_of(error))
                        for index, error in zip(partitions, errors, strict=True)
                    ],
                )
                for (ref, partitions), errors in zip(requested, topic_errors, strict=True)
            ]
        )

    return context.groups.delete_offsets(request.body.group_id, requested).map(on_success)


HANDLER = Handler(key=47, versions=(0, 0), handle=handle, rights=(of_group(Operation.DELETE), READ))
