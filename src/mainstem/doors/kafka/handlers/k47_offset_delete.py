"""47 OffsetDelete.

Versions: 0.
Behaviour: forgets a group's offsets of some partitions; answered when that is durable. Topics that a member
reads are refused (GROUP_SUBSCRIBED_TO_TOPIC), and so is the whole group (NON_EMPTY_GROUP) if its members are
no consumers.
Notes: there is one version (KIP-496).
Left out: nothing.
"""

from __future__ import annotations

from mainstem.coordinator.groups.offsets import PartitionErrors
from mainstem.coordinator.groups.types import TopicRef
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Delete offsets."""
    topics = request.body.topics
    wanted = [(TopicRef(topic.name), [one.partition_index for one in topic.partitions]) for topic in topics]

    def done(verdicts: PartitionErrors) -> Message:
        return Message(
            topics=[
                Message(
                    name=ref.name,
                    partitions=[
                        Message(partition_index=index, error_code=0 if error is None else code_of(error))
                        for index, error in zip(partitions, errors, strict=True)
                    ],
                )
                for (ref, partitions), errors in zip(wanted, verdicts, strict=True)
            ]
        )

    return context.groups.delete_offsets(request.body.group_id, wanted).map(done)


HANDLER = Handler(key=47, versions=(0, 0), handle=handle)
