"""The handlers of settings (DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources), on
topics in memory."""

from __future__ import annotations

import pytest

from mainstem.coordinator.topics.topic_configs import TOPIC_CONFIGS
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.doors.kafka.admin_kit import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    INVALID_TOPIC,
    OK,
    UNKNOWN_TOPIC,
    AdminClient,
    config,
)

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
TOPIC_CONFIG, STATIC_BROKER_CONFIG, DEFAULT_CONFIG = 1, 4, 5


def codes(results: list[Message]) -> list[int]:
    return [result.error_code for result in results]


def describe(
    admin: AdminClient, *resources: tuple[int, str, list[str] | None], version: int = 4, extras: bool = True
) -> list[Message]:
    requested = [
        Message(resource_type=kind, resource_name=name, configuration_keys=keys)
        for kind, name, keys in resources
    ]
    request = Message(resources=requested, include_synonyms=extras)
    if version >= 3:
        request = Message(resources=requested, include_synonyms=extras, include_documentation=extras)
    return list(admin.call(32, version, request).results)


@pytest.mark.parametrize("version", range(1, 5))
def test_settings_of_a_topic_are_described_in_every_version(version: int) -> None:
    admin = AdminClient(settings=Settings(log_segment_bytes=1 << 21))
    admin.create("a", configs=[config("retention.ms", "5")])
    (result,) = describe(admin, (TOPIC, "a", None), version=version)
    assert (result.error_code, result.resource_type, result.resource_name) == (OK, TOPIC, "a")
    shown = {entry.name: entry for entry in result.configs}
    assert len(shown) == len(TOPIC_CONFIGS)
    values = {name: (entry.value, entry.config_source) for name, entry in shown.items()}
    assert values["retention.ms"] == ("5", TOPIC_CONFIG)
    assert values["segment.bytes"] == (str(1 << 21), STATIC_BROKER_CONFIG)
    assert values["cleanup.policy"] == ("delete", DEFAULT_CONFIG)
    synonyms = [(value.name, value.value, value.source) for value in shown["retention.ms"].synonyms]
    assert synonyms == [("retention.ms", "5", TOPIC_CONFIG)]
    if version >= 3:
        types = {
            name: shown[name].config_type for name in ("retention.ms", "segment.bytes", "cleanup.policy")
        }
        assert types == {"retention.ms": 5, "segment.bytes": 3, "cleanup.policy": 7}
        assert "after their arrival" in shown["retention.ms"].documentation
        assert "no effect here" in shown["flush.ms"].documentation


def test_only_requested_settings_are_described() -> None:
    admin = AdminClient()
    admin.create("a")
    (result,) = describe(admin, (TOPIC, "a", ["retention.ms", "no.such"]), extras=False)
    (entry,) = result.configs
    assert (entry.name, list(entry.synonyms), entry.documentation) == ("retention.ms", [], None)


def test_each_resource_has_its_own_error_code() -> None:
    admin = AdminClient()
    results = describe(
        admin,
        (TOPIC, "none", None),
        (TOPIC, "bad name", None),
        (BROKER, "7", None),
        (BROKER, "x", None),
        (LOGGER, "1", None),
        (99, "1", None),
        (METRICS, "m", None),
        (BROKER, "", None),
    )
    assert codes(results) == [
        UNKNOWN_TOPIC,
        INVALID_TOPIC,
        INVALID_REQUEST,
        INVALID_REQUEST,
        INVALID_REQUEST,
        INVALID_REQUEST,
        OK,
        OK,
    ]
    assert results[2].error_message == "Unexpected broker id, expected 1 or empty string, but received 7"
    assert all(list(result.configs) == [] for result in results)


def test_the_servers_settings_have_kafkas_names_and_are_read_only() -> None:
    admin = AdminClient(settings=Settings(num_partitions=4))
    (result,) = describe(admin, (BROKER, "1", None))
    shown = {entry.name: entry for entry in result.configs}
    partitions = shown["num.partitions"]
    assert (partitions.value, partitions.config_source, partitions.config_type) == (
        "4",
        STATIC_BROKER_CONFIG,
        3,
    )
    assert [(value.value, value.source) for value in partitions.synonyms] == [("4", 4), ("1", 5)]
    assert shown["auto.create.topics.enable"].value == "true"
    names = ("log.retention.ms", "log.segment.bytes", "fetch.max.bytes")
    assert [shown[name].config_type for name in names] == [5, 3, 3]
    assert shown["default.replication.factor"].value == "1"
    assert shown["node.id"].value == "1"
    assert shown["min.insync.replicas"].value == "1"
    assert all(entry.read_only and not entry.is_sensitive for entry in result.configs)
    (result,) = describe(admin, (BROKER, "1", ["log.segment.bytes"]))
    assert [(entry.name, entry.value) for entry in result.configs] == [("log.segment.bytes", str(1 << 30))]


def alter(
    admin: AdminClient, version: int, *resources: tuple[int, str, dict[str, str | None]], dry: bool = False
) -> list[Message]:
    requested = [
        Message(
            resource_type=kind,
            resource_name=name,
            configs=[config(key, value) for key, value in settings.items()],
        )
        for kind, name, settings in resources
    ]
    return list(admin.call(33, version, Message(resources=requested, validate_only=dry)).responses)


def settings_of(admin: AdminClient, name: str = "a") -> dict[str, str]:
    topic = admin.kit.topics.get(name)
    assert topic is not None
    return dict(topic.config)


def test_a_setting_of_the_broker_that_has_no_default_is_null_as_in_kafka() -> None:
    admin = AdminClient()
    (result,) = describe(admin, (BROKER, "1", None))
    shown = {entry.name: entry for entry in result.configs}
    times = ("log.retention.ms", "log.roll.ms", "log.roll.jitter.ms", "log.flush.interval.ms")
    for name in ("advertised.listeners", *times):
        entry = shown[name]
        assert (entry.value, entry.config_source, entry.synonyms) == (None, DEFAULT_CONFIG, [])
    assert shown["log.retention.hours"].value == shown["log.roll.hours"].value == "168"

    admin = AdminClient(settings=Settings(log_retention_ms=7))
    (result,) = describe(admin, (BROKER, "1", ["log.retention.ms"]))
    (entry,) = result.configs
    assert (entry.value, entry.config_source) == ("7", STATIC_BROKER_CONFIG)
    assert [(value.value, value.source) for value in entry.synonyms] == [("7", STATIC_BROKER_CONFIG)]


def test_a_topics_settings_have_only_the_synonyms_that_kafka_has() -> None:
    admin = AdminClient(settings=Settings(log_retention_ms=7))
    admin.create("a", configs=[config("segment.ms", "9")])
    (result,) = describe(admin, (TOPIC, "a", None))
    synonyms = {
        entry.name: (entry.value, [(value.name, value.value) for value in entry.synonyms])
        for entry in result.configs
    }
    assert synonyms["retention.ms"] == ("7", [("log.retention.ms", "7")])
    assert synonyms["segment.ms"] == ("9", [("segment.ms", "9")])
    assert synonyms["flush.ms"] == ("9223372036854775807", [])
    assert synonyms["segment.jitter.ms"] == ("0", [])
    assert synonyms["segment.bytes"] == ("1073741824", [("log.segment.bytes", "1073741824")])
    for name in ("leader.replication.throttled.replicas", "remote.storage.enable", "mainstem.search"):
        assert synonyms[name][1] == []


def test_to_delete_settings_of_the_server_changes_nothing_and_succeeds() -> None:
    admin = AdminClient()
    for operation, code in ((1, OK), (0, INVALID_REQUEST)):
        configs = [config("leader.replication.throttled.rate", None, config_operation=operation)]
        requested = [Message(resource_type=BROKER, resource_name="1", configs=configs)]
        answer = admin.call(44, 1, Message(resources=requested, validate_only=False))
        assert codes(answer.responses) == [code]


@pytest.mark.parametrize("version", range(3))
def test_settings_are_replaced_in_every_version(version: int) -> None:
    admin = AdminClient()
    admin.create("a", configs=[config("segment.ms", "9")])
    results = alter(
        admin,
        version,
        (TOPIC, "a", {"retention.ms": "5"}),
        (TOPIC, "none", {}),
        (BROKER, "1", {"num.partitions": "3"}),
        (BROKER, "2", {}),
        (METRICS, "m", {}),
    )
    assert codes(results) == [OK, UNKNOWN_TOPIC, *[INVALID_REQUEST] * 3]
    assert "read-only" in results[2].error_message
    assert (results[1].resource_type, results[1].resource_name) == (TOPIC, "none")
    assert settings_of(admin) == {"retention.ms": "5"}


def test_an_invalid_replacement_changes_nothing() -> None:
    admin = AdminClient()
    admin.create("a", configs=[config("segment.ms", "9")])
    invalid: list[tuple[dict[str, str | None], int]] = [
        ({"x": "1"}, INVALID_CONFIG),
        ({"retention.ms": None}, INVALID_REQUEST),
    ]
    for config_, code in invalid:
        assert codes(alter(admin, 2, (TOPIC, "a", config_))) == [code]
    assert codes(alter(admin, 2, (TOPIC, "a", {}), dry=True)) == [OK]
    repeated = alter(admin, 2, (TOPIC, "a", {}), (TOPIC, "a", {}))
    assert codes(repeated) == [INVALID_REQUEST] * 2
    assert settings_of(admin) == {"segment.ms": "9"}


def change(
    admin: AdminClient, *changes: tuple[str, int, str | None], version: int = 1, dry: bool = False
) -> Message:
    configs = [config(name, value, config_operation=op) for name, op, value in changes]
    requested = [Message(resource_type=TOPIC, resource_name="a", configs=configs)]
    (result,) = admin.call(44, version, Message(resources=requested, validate_only=dry)).responses
    assert isinstance(result, Message)
    return result


@pytest.mark.parametrize("version", range(2))
def test_single_settings_are_changed_in_every_version(version: int) -> None:
    admin = AdminClient()
    admin.create("a", configs=[config("segment.ms", "9")])
    throttled = "leader.replication.throttled.replicas"
    result = change(
        admin,
        ("retention.ms", SET, "5"),
        ("segment.ms", DELETE, None),
        (throttled, APPEND, "0:1"),
        version=version,
    )
    assert (result.error_code, result.error_message) == (OK, None)
    assert settings_of(admin) == {"retention.ms": "5", throttled: "0:1"}
    assert change(admin, (throttled, SUBTRACT, "0:1")).error_code == OK
    assert settings_of(admin) == {"retention.ms": "5", throttled: ""}


def test_invalid_changes_change_nothing() -> None:
    admin = AdminClient()
    admin.create("a")
    assert change(admin, ("retention.ms", APPEND, "5")).error_code == INVALID_CONFIG
    assert change(admin, ("retention.ms", SET, None)).error_code == INVALID_REQUEST
    assert change(admin, ("retention.ms", 4, "5")).error_code == INVALID_REQUEST
    assert change(admin, ("cleanup.policy", SET, "compact")).error_code == INVALID_CONFIG
    assert change(admin, ("retention.ms", SET, "5"), ("retention.ms", SET, "6")).error_code == INVALID_REQUEST
    assert change(admin, ("retention.ms", SET, "5"), dry=True).error_code == OK
    assert settings_of(admin) == {}


def listed(admin: AdminClient, version: int, types: list[int]) -> Message:
    request = Message(resource_types=types) if version else Message()
    return admin.call(74, version, request)


def test_resources_that_have_settings_are_listed() -> None:
    admin = AdminClient()
    admin.create("b", "a")

    def shown(types: list[int]) -> list[tuple[str, int]]:
        resources = listed(admin, 1, types).config_resources
        return [(resource.resource_name, resource.resource_type) for resource in resources]

    assert shown([]) == [("a", TOPIC), ("b", TOPIC), ("1", BROKER)]
    assert shown([TOPIC]) == [("a", TOPIC), ("b", TOPIC)]
    assert shown([BROKER]) == [("1", BROKER)]
    assert shown([METRICS, GROUP]) == []
    assert listed(admin, 1, [3]).error_code == 35
    assert list(listed(admin, 0, []).config_resources) == []
