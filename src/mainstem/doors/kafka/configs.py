"""Settings, as Kafka's messages say them.

Owns: the numbers for resource types, types of values and sources, and how a topic's and the server's
settings become entries. Refuses: to change the server's own settings. Called by the handlers of
CreateTopics, DescribeConfigs and AlterConfigs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.topics.config_types import ConfigSource, ConfigType
from mainstem.coordinator.topics.topic_configs import TOPIC_CONFIGS, ConfigEntry
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.per_item import attempt, duplicates, gather_replies, reply_for
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise
from mainstem.settings import Settings


class ResourceType(IntEnum):
    """Kafka's `ConfigResource.Type`."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


SOURCES: dict[ConfigSource, int] = {"topic": 1, "static": 4, "default": 5}
"""Kafka's `DescribeConfigsResponse.ConfigSource`."""

TYPES: dict[ConfigType, int] = {"boolean": 1, "string": 2, "int": 3, "long": 5, "double": 6, "list": 7}
"""Kafka's `DescribeConfigsResponse.ConfigType`."""

FIXED = {
    "default.replication.factor": (
        "1",
        "Replicas of a topic that is created without a number: there is one node.",
    ),
    "delete.topic.enable": ("true", "Topics can be deleted."),
    "offsets.topic.replication.factor": ("1", "Replicas of what groups have committed: there is one node."),
}
"""Settings of Kafka that tools ask a broker for, and that cannot be other here."""

_LONG_NAME = re.compile(r"\.(ms|bytes)$")


def check_broker(name: str, node_id: int) -> None:
    """Refuse the name of a broker that is not this one. The empty name stands for all. InvalidRequest."""
    if name in ("", str(node_id)):
        return
    if not name.isascii() or not name.isdigit():
        raise InvalidRequest(f"Broker id must be an integer, but it is: {name[:100]}")
    raise InvalidRequest(
        f"Unexpected broker id, expected {node_id} or empty string, but received {name[:100]}"
    )


def created_entry(entry: ConfigEntry) -> Message:
    """One setting of a topic, as CreateTopics tells it."""
    return Message(
        name=entry.config.name,
        value=entry.value,
        read_only=False,
        config_source=SOURCES[entry.source],
        is_sensitive=False,
    )


def topic_entry(entry: ConfigEntry, *, synonyms: bool, documentation: bool) -> Message:
    """One setting of a topic, as DescribeConfigs tells it."""
    said = [Message(name=name, value=value, source=SOURCES[source]) for name, value, source in entry.synonyms]
    return Message(
        **vars(created_entry(entry)),
        synonyms=said if synonyms else [],
        config_type=TYPES[entry.config.type],
        documentation=entry.config.documentation if documentation else None,
    )


def broker_entries(
    settings: Settings, node_id: int, names: Iterable[str] | None, *, synonyms: bool, documentation: bool
) -> list[Message]:
    """The server's settings under Kafka's names, sorted: all, or those of `names` that exist. Read only:
    they are given at the start."""
    wanted = None if names is None else set(names)
    entries = []
    for name, (value, default, kind, text) in sorted(_broker_settings(settings, node_id).items()):
        if wanted is not None and name not in wanted:
            continue
        static = value != default
        source = SOURCES["static" if static else "default"]
        said = [Message(name=name, value=value, source=source)]
        if static and default is not None:
            said.append(Message(name=name, value=default, source=SOURCES["default"]))
        entries.append(
            Message(
                name=name,
                value=value,
                read_only=True,
                config_source=source,
                is_sensitive=False,
                synonyms=said if synonyms else [],
                config_type=TYPES[kind],
                documentation=text if documentation else None,
            )
        )
    return entries


def _broker_settings(settings: Settings, node_id: int) -> dict[str, tuple[str, str | None, ConfigType, str]]:
    """Name -> (value, default, type, text)."""
    found: dict[str, tuple[str, str | None, ConfigType, str]] = {
        name: (value, value, _type_of(name, value), documentation)
        for name, (value, documentation) in FIXED.items()
    }
    for name in ("broker.id", "node.id"):
        found[name] = (str(node_id), None, "int", "The number of this node.")
    for config in TOPIC_CONFIGS.values():
        if config.broker_name is not None:
            found[config.broker_name] = (config.default, config.default, config.type, config.documentation)
    for definition, given in settings.entries():
        if definition.kafka is not None:
            text = _text(given)
            kind = _type_of(definition.kafka, text)
            found[definition.kafka] = (text, definition.shown_default, kind, definition.doc)
    return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _type_of(name: str, value: str) -> ConfigType:
    if value in ("true", "false"):
        return "boolean"
    if not value.lstrip("-").isdigit():
        return "list" if name.endswith(("listeners", "dirs")) else "string"
    return "long" if _LONG_NAME.search(name) else "int"


def alter_resources(
    resources: Sequence[Message], node_id: int, change: Callable[[Message], Promise[TopicMetadata]]
) -> Promise[Message]:
    """The reply to a change of settings: `change` for each topic, the fitting refusal for everything else."""
    twice = duplicates((one.resource_type, one.resource_name) for one in resources)

    def start(asked: Message) -> Promise[TopicMetadata]:
        if (asked.resource_type, asked.resource_name) in twice:
            raise InvalidRequest("Each resource must appear at most once.")
        if asked.resource_type == ResourceType.TOPIC:
            return change(asked)
        if asked.resource_type == ResourceType.BROKER:
            check_broker(asked.resource_name, node_id)
            raise InvalidRequest(
                "The server's settings are read only while it runs: give them at the start of `mainstem"
                " serve`."
            )
        raise InvalidRequest(f"Unsupported resource type: {asked.resource_type}; only topics can be changed")

    def item(asked: Message) -> Promise[Message]:
        what = {"resource_type": asked.resource_type, "resource_name": asked.resource_name}
        return reply_for(
            attempt(lambda: start(asked)),
            lambda _: Message(error_message=None, **what),
            lambda code, text: Message(error_code=code, error_message=text, **what),
        )

    return gather_replies([item(one) for one in resources]).map(
        lambda responses: Message(responses=responses)
    )
