"""Converts settings of topics, groups and the server to entries of Kafka's messages, and applies changes.

Owns: the numbers of resource types, value types and sources, and the reply to a change of settings. Refuses:
to change the server's own settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum

from mainstem.access_contract import CLUSTER_NAME, Operation, ResourceType
from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.config_types import ConfigSource, ConfigType
from mainstem.coordinator.topics.topic_configs import BROKER_NAMES_WITHOUT_DEFAULT, TOPIC_CONFIGS, ConfigEntry
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.handler import HandlerContext, Request
from mainstem.doors.kafka.per_item import attempt, duplicates, gather_replies, reply_for
from mainstem.doors.kafka.rights import Right, RightDenied, of_each
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise
from mainstem.settings import Settings


class ConfigResourceType(IntEnum):
    """Kafka's `ConfigResource.Type`."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


SOURCES: dict[ConfigSource, int] = {"topic": 1, "static": 4, "default": 5, "group": 8}
"""The number of each source of a value: Kafka's `DescribeConfigsResponse.ConfigSource`."""

TYPES: dict[ConfigType, int] = {"boolean": 1, "string": 2, "int": 3, "long": 5, "double": 6, "list": 7}
"""The number of each type of a value: Kafka's `DescribeConfigsResponse.ConfigType`."""

FIXED = {
    "default.replication.factor": (
        "1",
        "Replicas of a topic that is created without this number: there is one node.",
    ),
    "delete.topic.enable": ("true", "Topics can be deleted."),
    "log.retention.hours": ("168", "The default of log.retention.ms, in hours. Set log.retention.ms."),
    "log.roll.hours": ("168", "The default of log.roll.ms, in hours."),
    "offsets.topic.replication.factor": ("1", "Replicas of committed offsets: there is one node."),
}
"""Kafka's broker settings that tools request and that can have only one value here: name -> (value,
documentation)."""

SET, DELETE = 0, 1
"""Operations of IncrementalAlterConfigs; all of AlterConfigs set."""

LONG_NAMES = frozenset(
    {"connections.max.idle.ms", "log.retention.check.interval.ms", "queued.max.request.bytes"}
)
"""The numbers among the server's own settings that are of type long in Kafka; the others are int."""


def check_broker(name: str, node_id: int) -> None:
    """Raise InvalidRequest unless `name` is the id of this broker, or empty, which means all brokers."""
    if name in ("", str(node_id)):
        return
    if not name.isascii() or not name.isdigit():
        raise InvalidRequest(f"Broker id must be an integer, but it is: {name[:100]}")
    raise InvalidRequest(
        f"Unexpected broker id, expected {node_id} or empty string, but received {name[:100]}"
    )


def created_entry(entry: ConfigEntry) -> Message:
    """One setting of a topic in a reply to CreateTopics."""
    return Message(
        name=entry.config.name,
        value=entry.value,
        read_only=False,
        config_source=SOURCES[entry.source],
        is_sensitive=False,
    )


def config_entry(entry: ConfigEntry, *, synonyms: bool, documentation: bool) -> Message:
    """One setting of a topic or group in a reply to DescribeConfigs."""
    values = [
        Message(name=name, value=value, source=SOURCES[source]) for name, value, source in entry.synonyms
    ]
    return Message(
        **vars(created_entry(entry)),
        synonyms=values if synonyms else [],
        config_type=TYPES[entry.config.type],
        documentation=entry.config.documentation if documentation else None,
    )


def broker_entries(
    settings: Settings, node_id: int, names: Iterable[str] | None, *, synonyms: bool, documentation: bool
) -> list[Message]:
    """The server's settings under Kafka's names, sorted: all, or those of `names` that exist. They are
    read-only while the server runs."""
    requested = None if names is None else set(names)
    entries = []
    for name, (value, default, kind, text) in sorted(_broker_settings(settings, node_id).items()):
        if requested is not None and name not in requested:
            continue
        source = SOURCES["static" if value != default else "default"]
        values = []
        if value != default:
            values.append(Message(name=name, value=value, source=source))
        if default is not None:
            values.append(Message(name=name, value=default, source=SOURCES["default"]))
        entries.append(
            Message(
                name=name,
                value=value,
                read_only=True,
                config_source=source,
                is_sensitive=False,
                synonyms=values if synonyms else [],
                config_type=TYPES[kind],
                documentation=text if documentation else None,
            )
        )
    return entries


BrokerSetting = tuple[str | None, str | None, ConfigType, str]
"""(value, default, type, documentation)"""


def _broker_settings(settings: Settings, node_id: int) -> dict[str, BrokerSetting]:
    """The server's settings by Kafka's names."""
    broker_settings: dict[str, BrokerSetting] = {
        name: (value, value, _type_of(name, value), documentation)
        for name, (value, documentation) in FIXED.items()
    }
    for name in ("broker.id", "node.id"):
        broker_settings[name] = (str(node_id), None, "int", "The number of this node.")
    for config in TOPIC_CONFIGS.values():
        if config.broker_name is not None:
            broker_settings[config.broker_name] = (
                config.default,
                config.default,
                config.type,
                config.documentation,
            )
    for definition, value in settings.entries():
        if definition.kafka is not None:
            text = _text(value)
            of_topics = broker_settings.get(definition.kafka)
            kind = _type_of(definition.kafka, text) if of_topics is None else of_topics[2]
            broker_settings[definition.kafka] = (text, definition.shown_default, kind, definition.doc)
    for name in ("advertised.listeners", *BROKER_NAMES_WITHOUT_DEFAULT):
        value_shown, default, kind, documentation = broker_settings[name]
        broker_settings[name] = (None if value_shown == default else value_shown, None, kind, documentation)
    return broker_settings


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _type_of(name: str, value: str) -> ConfigType:
    if value in ("true", "false"):
        return "boolean"
    if not value.lstrip("-").isdigit():
        return "list" if name.endswith(("listeners", "dirs")) else "string"
    return "long" if name in LONG_NAMES else "int"


def rights_to_configs(operation: Operation) -> Mapping[ResourceType, Right]:
    """The right to an operation on the settings of topics, of groups and, for everything else, of the
    cluster, by the type of the resource that it is for."""
    return {
        ResourceType.TOPIC: of_each(operation, ResourceType.TOPIC),
        ResourceType.GROUP: of_each(operation, ResourceType.GROUP),
        ResourceType.CLUSTER: of_each(
            operation, ResourceType.CLUSTER, when="for the server, loggers and client metrics"
        ),
    }


def check_right(
    context: HandlerContext, request: Request, rights: Mapping[ResourceType, Right], resource: Message
) -> None:
    """Raise RightDenied unless the requester has the right to the settings of a resource."""
    of_type = {
        ConfigResourceType.TOPIC: ResourceType.TOPIC,
        ConfigResourceType.GROUP: ResourceType.GROUP,
    }.get(resource.resource_type, ResourceType.CLUSTER)
    right = rights[of_type]
    name = CLUSTER_NAME if of_type is ResourceType.CLUSTER else resource.resource_name
    if not context.allows(request, right, name):
        raise RightDenied(right)


def alter_resources(
    context: HandlerContext,
    request: Request,
    rights: Mapping[ResourceType, Right],
    change: Callable[[Message], Promise[TopicMetadata] | Promise[None]],
) -> Promise[Message]:
    """The reply to AlterConfigs and IncrementalAlterConfigs, with one result for each resource. `change`
    changes one topic or group; every other resource is refused."""
    resources, node_id = request.body.resources, context.node_id
    repeated = duplicates((resource.resource_type, resource.resource_name) for resource in resources)

    def start(resource: Message) -> Promise[TopicMetadata] | Promise[None]:
        if (resource.resource_type, resource.resource_name) in repeated:
            raise InvalidRequest("Each resource must appear at most once.")
        check_right(context, request, rights, resource)
        if resource.resource_type in (ConfigResourceType.TOPIC, ConfigResourceType.GROUP):
            return change(resource)
        if resource.resource_type == ConfigResourceType.BROKER:
            check_broker(resource.resource_name, node_id)
            if all(getattr(config, "config_operation", SET) == DELETE for config in resource.configs):
                return Promise.resolved(None)  # tools delete limits that they may have set; there are none
            raise InvalidRequest(
                "The server's settings are read-only while it runs: set them when you start `mainstem serve`."
            )
        raise InvalidRequest(
            f"Unsupported resource type: {resource.resource_type};"
            " only settings of topics and of groups can be changed"
        )

    def item(resource: Message) -> Promise[Message]:
        identity = {"resource_type": resource.resource_type, "resource_name": resource.resource_name}
        return reply_for(
            attempt(lambda: start(resource)),
            lambda _: Message(error_message=None, **identity),
            lambda code, text: Message(error_code=code, error_message=text, **identity),
        )

    return gather_replies([item(resource) for resource in resources]).map(
        lambda responses: Message(responses=responses)
    )
