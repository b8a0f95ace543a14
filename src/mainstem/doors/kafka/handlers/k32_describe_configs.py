"""32 DescribeConfigs.

Versions: 1-4. Behaviour: the settings of topics, and those of this server under Kafka's names, with value,
source, type and, when asked for, synonyms and texts. Names asked for that do not exist are left out of the
reply, as Kafka does. Notes: v3 has types and texts (KIP-569). Left out: settings of groups and client
metrics (there are none: an empty list); a broker's default for the whole cluster (the empty name: an empty
list); broker loggers (INVALID_REQUEST).
"""

from __future__ import annotations

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import unknown_topic_error
from mainstem.doors.kafka.configs import ResourceType, broker_entries, check_broker, topic_entry
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import error_text
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Show settings."""
    body = request.body
    results = [_one(context, asked, body) for asked in body.resources]
    return context.node.runtime.read(Message(results=results))


def _one(context: HandlerContext, asked: Message, body: Message) -> Message:
    what = {"resource_type": asked.resource_type, "resource_name": asked.resource_name}
    try:
        return Message(configs=_entries(context, asked, body), error_message=None, **what)
    except Exception as error:
        return Message(error_code=int(code_of(error)), error_message=error_text(error), configs=[], **what)


def _entries(context: HandlerContext, asked: Message, body: Message) -> list[Message]:
    name, names = asked.resource_name, asked.configuration_keys
    synonyms, documentation = body.include_synonyms, body.include_documentation
    match asked.resource_type:
        case ResourceType.TOPIC:
            topic = context.topics.get(name)
            if topic is None:
                raise unknown_topic_error(name)
            entries = context.topics.describe_config(topic, names)
            return [topic_entry(one, synonyms=synonyms, documentation=documentation) for one in entries]
        case ResourceType.BROKER:
            check_broker(name, context.node_id)
            if not name:
                return []
            return broker_entries(
                context.settings, context.node_id, names, synonyms=synonyms, documentation=documentation
            )
        case ResourceType.CLIENT_METRICS | ResourceType.GROUP:
            return []
        case ResourceType.BROKER_LOGGER:
            raise InvalidRequest("Loggers have no settings here: see the server's --log-level.")
        case other:
            raise InvalidRequest(f"Unsupported resource type: {other}")


def on_error(request: Request, code: int) -> Message:
    """The reply has no place for an error of its own: each resource gets it, as in Kafka."""
    results = [
        Message(resource_type=one.resource_type, resource_name=one.resource_name, error_code=code, configs=[])
        for one in request.body.resources
    ]
    return Message(results=results)


HANDLER = Handler(key=32, versions=(1, 4), handle=handle, on_error=on_error)
