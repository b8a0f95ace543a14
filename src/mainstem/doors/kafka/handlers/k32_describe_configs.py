"""32 DescribeConfigs.

Versions: 1-4.
Behaviour: describes the settings of topics and groups, and those of this server under Kafka's names: value,
source, type and, if requested, synonyms and documentation. Requested names that do not exist are left out of
the reply, as in Kafka.
Notes: v3 has types and documentation (KIP-569).
Left out: settings of client metrics, and a broker's defaults for the whole cluster (the empty name): an
empty list; of groups, those of consumer and streams groups; broker loggers (INVALID_REQUEST).
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import unknown_topic_error
from mainstem.doors.kafka.configs import (
    ConfigResourceType,
    broker_entries,
    check_broker,
    check_right,
    config_entry,
    rights_to_configs,
)
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import error_text
from mainstem.kafka_protocol.message import Message

RIGHTS = rights_to_configs(Operation.DESCRIBE_CONFIGS)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    results = [_resource(context, request, resource) for resource in body.resources]
    read = context.node.runtime.read(Message(results=results))
    if any(resource.resource_type == ConfigResourceType.GROUP for resource in body.resources):
        return read.chain(context.node.queue_runtime.read)
    return read


def _resource(context: HandlerContext, request: Request, requested: Message) -> Message:
    resource = {"resource_type": requested.resource_type, "resource_name": requested.resource_name}
    try:
        check_right(context, request, RIGHTS, requested)
        return Message(configs=_entries(context, requested, request.body), error_message=None, **resource)
    except Exception as error:
        return Message(
            error_code=int(code_of(error)), error_message=error_text(error), configs=[], **resource
        )


def _entries(context: HandlerContext, requested: Message, body: Message) -> list[Message]:
    name, names = requested.resource_name, requested.configuration_keys
    synonyms, documentation = body.include_synonyms, body.include_documentation
    match requested.resource_type:
        case ConfigResourceType.TOPIC:
            topic = context.topics.get(name)
            if topic is None:
                raise unknown_topic_error(name)
            entries = context.topics.describe_config(topic, names)
            return [config_entry(entry, synonyms=synonyms, documentation=documentation) for entry in entries]
        case ConfigResourceType.BROKER:
            check_broker(name, context.node_id)
            if not name:
                return []
            return broker_entries(
                context.settings, context.node_id, names, synonyms=synonyms, documentation=documentation
            )
        case ConfigResourceType.GROUP:
            if not name:
                raise InvalidRequest("Group name must not be empty")
            entries = context.node.group_settings.describe(name, names)
            return [config_entry(entry, synonyms=synonyms, documentation=documentation) for entry in entries]
        case ConfigResourceType.CLIENT_METRICS:
            return []
        case ConfigResourceType.BROKER_LOGGER:
            raise InvalidRequest(
                "Loggers have no settings: the server's flag --log-level sets the level of all of them."
            )
        case other:
            raise InvalidRequest(f"Unsupported resource type: {other}")


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every resource, as in Kafka: it has no error code of its own."""
    results = [
        Message(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            error_code=code,
            configs=[],
        )
        for resource in request.body.resources
    ]
    return Message(results=results)


HANDLER = Handler(key=32, versions=(1, 4), handle=handle, rights=tuple(RIGHTS.values()), on_error=on_error)
