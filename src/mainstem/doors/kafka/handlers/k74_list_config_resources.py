"""74 ListConfigResources.

Versions: 0-1.
Behaviour: lists the resources that have settings: the topics, the node, and the names of groups for which
something is set. Client metrics have none here.
Notes: v0 (ListClientMetricsResources) lists client metrics only, so the list is empty. v1 filters by type,
and no type means all; an unknown type is UNSUPPORTED_VERSION, as in Kafka (KIP-1142).
Left out: broker loggers.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.doors.kafka.configs import ConfigResourceType
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    if request.version == 0:
        return Message(config_resources=[])
    types = set(request.body.resource_types) or set(ConfigResourceType)
    if not types <= set(ConfigResourceType):
        return Message(error_code=ErrorCode.UNSUPPORTED_VERSION, config_resources=[])
    resources = []
    if ConfigResourceType.TOPIC in types:
        resources += [
            Message(resource_name=topic.name, resource_type=ConfigResourceType.TOPIC)
            for topic in context.topics.all()
        ]
    if ConfigResourceType.BROKER in types:
        resources.append(Message(resource_name=str(context.node_id), resource_type=ConfigResourceType.BROKER))
    if ConfigResourceType.GROUP in types:
        resources += [
            Message(resource_name=name, resource_type=ConfigResourceType.GROUP)
            for name in context.node.group_settings.configured()
        ]
    read = context.node.runtime.read(Message(config_resources=resources))
    return read.chain(context.node.queue_runtime.read)


HANDLER = Handler(key=74, versions=(0, 1), handle=handle, rights=(of_cluster(Operation.DESCRIBE_CONFIGS),))
