"""33 AlterConfigs.

Versions: 0-2.
Behaviour: replaces all settings of a topic or a group; those that the request leaves out return to their
defaults. The reply waits until the change is durable. A resource named twice is refused with
INVALID_REQUEST, and so is the server itself: its settings are read-only while it runs.
Notes: v2 is flexible. Kafka has deprecated this key in favour of 44.
Left out: client metrics and loggers (INVALID_REQUEST).
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.configs import ConfigResourceType, alter_resources, rights_to_configs
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

RIGHTS = rights_to_configs(Operation.ALTER_CONFIGS)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    def change(resource: Message) -> Promise[TopicMetadata] | Promise[None]:
        missing = [config.name for config in resource.configs if config.value is None]
        if missing:
            return Promise.failed(InvalidRequest(f"Null value not supported for : {','.join(missing)}"))
        config = {config.name: config.value for config in resource.configs}
        if len(config) != len(resource.configs):
            return Promise.failed(InvalidRequest("Error due to duplicate config keys"))
        validate_only = request.body.validate_only
        if resource.resource_type == ConfigResourceType.GROUP:
            return context.node.group_settings.replace(
                resource.resource_name, config, validate_only=validate_only
            )
        return context.topics.set_config(resource.resource_name, config, validate_only=validate_only)

    return alter_resources(context, request, RIGHTS, change)


HANDLER = Handler(key=33, versions=(0, 2), handle=handle, rights=tuple(RIGHTS.values()))
