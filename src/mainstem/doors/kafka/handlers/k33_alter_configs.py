"""33 AlterConfigs.

Versions: 0-2. Behaviour: replaces all that is set of a topic by what the request says; what it leaves out
goes back to the default. The reply leaves when the change is durable. A resource named twice is refused
with INVALID_REQUEST, and so is the server itself: its settings are given at the start. Notes: v2 is
flexible. Deprecated by Kafka in favour of 44. Left out: groups, client metrics and loggers
(INVALID_REQUEST).
"""

from __future__ import annotations

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.configs import alter_resources
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Replace settings."""

    def change(asked: Message) -> Promise[TopicMetadata]:
        missing = [config.name for config in asked.configs if config.value is None]
        if missing:
            return Promise.failed(InvalidRequest(f"Null value not supported for : {','.join(missing)}"))
        config = {config.name: config.value for config in asked.configs}
        if len(config) != len(asked.configs):
            return Promise.failed(InvalidRequest("Error due to duplicate config keys"))
        return context.topics.set_config(
            asked.resource_name, config, validate_only=request.body.validate_only
        )

    return alter_resources(request.body.resources, context.node_id, change)


HANDLER = Handler(key=33, versions=(0, 2), handle=handle)
