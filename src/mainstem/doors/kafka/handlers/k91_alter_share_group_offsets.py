"""91 AlterShareGroupOffsets.

Versions: 0.
Behaviour: lets a share group without members begin anew at offsets: earlier records are done, later ones are
delivered as if they never were. A group that does not exist is created, as in Kafka; a group with members is
NON_EMPTY_GROUP. -1 is where `share.auto.offset.reset` says.
Notes: there is one version.
Left out: offsets before the first record or beyond the end, which Kafka takes: the group begins at the
nearest that there is.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import InvalidGroupId
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each, of_group
from mainstem.doors.kafka.share_requests import sessions_of
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import NO_UUID
from mainstem.promise import Promise
from mainstem.share_contract import PartitionKey

READ = of_each(Operation.READ, ResourceType.TOPIC)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body, queues = request.body, sessions_of(context).queues
    group_id = body.group_id
    if not group_id:
        raise InvalidGroupId("the name of the group is empty")
    offsets: dict[PartitionKey, int] = {}
    names: list[str] = []
    denied = {
        topic.topic_name for topic in body.topics if not context.allows(request, READ, topic.topic_name)
    }
    for topic in body.topics:
        known = None if topic.topic_name in denied else context.topics.get(topic.topic_name)
        if known is not None:
            names.append(known.name)
            for partition in topic.partitions:
                if 0 <= partition.partition_index < known.partitions:
                    offsets[known.id, partition.partition_index] = partition.start_offset

    def seek(_: None) -> Promise[dict[PartitionKey, BaseException]]:
        return queues.seek_partitions(group_id, offsets)

    begun = context.node.share_groups.begin_without_members(group_id, names)
    return begun.chain(seek).map(lambda errors: _reply(context, body, offsets, errors, denied))


def _reply(
    context: HandlerContext,
    body: Message,
    offsets: dict[PartitionKey, int],
    errors: dict[PartitionKey, BaseException],
    denied: set[str],
) -> Message:
    responses = []
    for topic in body.topics:
        is_denied = topic.topic_name in denied
        known = None if is_denied else context.topics.get(topic.topic_name)
        topic_id = NO_UUID if known is None else known.id
        partitions = []
        for partition in topic.partitions:
            key = topic_id, partition.partition_index
            code, text = 0, None
            if is_denied:
                code, text = int(READ.code), READ.text
            elif key not in offsets:
                code = int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                text = "This server does not host this topic-partition."
            elif (error := errors.get(key)) is not None:
                code = int(code_of(error))
                text = str(error) if is_refusal(error) else None
            partitions.append(
                Message(partition_index=partition.partition_index, error_code=code, error_message=text)
            )
        responses.append(Message(topic_name=topic.topic_name, topic_id=topic_id, partitions=partitions))
    return Message(responses=responses)


HANDLER = Handler(key=91, versions=(0, 0), handle=handle, rights=(of_group(Operation.READ), READ))
