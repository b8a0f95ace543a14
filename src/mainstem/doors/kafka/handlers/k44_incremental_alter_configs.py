"""44 IncrementalAlterConfigs.

Versions: 0-1.
Behaviour: sets, deletes, appends to or subtracts from single settings of topics and groups (KIP-339). Append
and subtract are for lists; they start from the default if nothing is set. The changes of a topic are made
together or not at all; the reply waits until they are durable. A resource or a setting named twice is
refused with INVALID_REQUEST, and so is a change of the server's own settings, which are read-only while it
runs. To delete one of those is no change, for none is set.
Notes: v1 is flexible.
Left out: client metrics and loggers (INVALID_REQUEST).
"""

from __future__ import annotations

from typing import Literal

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.topics import ConfigChange, TopicMetadata
from mainstem.doors.kafka.configs import DELETE, SET, ConfigResourceType, alter_resources, rights_to_configs
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

OPERATIONS: dict[int, Literal["set", "delete", "append", "subtract"]] = {
    SET: "set",
    DELETE: "delete",
    2: "append",
    3: "subtract",
}


RIGHTS = rights_to_configs(Operation.ALTER_CONFIGS)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    def change(resource: Message) -> Promise[TopicMetadata] | Promise[None]:
        unknown = [config for config in resource.configs if config.config_operation not in OPERATIONS]
        if unknown:
            text = f"Unknown operation type {unknown[0].config_operation} for {unknown[0].name}"
            return Promise.failed(InvalidRequest(text))
        changes = [
            ConfigChange(config.name, OPERATIONS[config.config_operation], config.value)
            for config in resource.configs
        ]
        validate_only = request.body.validate_only
        if resource.resource_type == ConfigResourceType.GROUP:
            return context.node.group_settings.alter(
                resource.resource_name, changes, validate_only=validate_only
            )
        return context.topics.alter_config(resource.resource_name, changes, validate_only=validate_only)

    return alter_resources(context, request, RIGHTS, change)


HANDLER = Handler(key=44, versions=(0, 1), handle=handle, rights=tuple(RIGHTS.values()))
