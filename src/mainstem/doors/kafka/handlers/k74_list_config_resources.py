"""74 ListConfigResources.

Versions: 0-1. Behaviour: the topics and the node, as resources that have settings; groups and client
metrics have none here. Notes: v0 (ListClientMetricsResources) knows client metrics only: an empty list. v1
takes types, none for all; an unknown one is UNSUPPORTED_VERSION, as Kafka says (KIP-1142). Left out: broker
loggers.
"""

from __future__ import annotations

from mainstem.doors.kafka.configs import ResourceType
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """List what has settings."""
    if request.version == 0:
        return Message(config_resources=[])
    asked = set(request.body.resource_types) or set(ResourceType)
    if not asked <= set(ResourceType):
        return Message(error_code=ErrorCode.UNSUPPORTED_VERSION, config_resources=[])
    found = []
    if ResourceType.TOPIC in asked:
        found += [
            Message(resource_name=one.name, resource_type=ResourceType.TOPIC) for one in context.topics.all()
        ]
    if ResourceType.BROKER in asked:
        found.append(Message(resource_name=str(context.node_id), resource_type=ResourceType.BROKER))
    return context.node.runtime.read(Message(config_resources=found))


HANDLER = Handler(key=74, versions=(0, 1), handle=handle)
