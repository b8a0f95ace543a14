"""Settings of topics: Kafka's names, types, defaults and checks."""

from __future__ import annotations

import pytest

from mainstem.coordinator.errors import CoordinatorError, InvalidConfig
from mainstem.coordinator.topics import topic_configs
from mainstem.coordinator.topics.topic_configs import TOPIC_CONFIGS
from mainstem.coordinator.topics.topics import ConfigChange
from mainstem.log.config import PartitionConfig
from mainstem.settings import Settings
from tests.coordinator.state_rig import StateRig, code, done

KAFKA_4_TOPIC_CONFIGS = """
cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level
delete.retention.ms errors.deadletterqueue.group.enable file.delete.delay.ms flush.messages flush.ms
follower.replication.throttled.replicas
index.interval.bytes leader.replication.throttled.replicas local.retention.bytes local.retention.ms
max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms message.timestamp.before.max.ms
message.timestamp.type min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate
remote.log.copy.disable remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms
segment.bytes segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable
"""


def test_the_table_has_every_setting_of_kafka_4_and_ours() -> None:
    ours = (
        *("mainstem.queue.overflow", "mainstem.retention.early", "mainstem.retention.time"),
        *("mainstem.publishers", "mainstem.pubsub", "mainstem.search"),
    )
    assert sorted(TOPIC_CONFIGS) == sorted([*KAFKA_4_TOPIC_CONFIGS.split(), *ours])


@pytest.mark.parametrize("name", sorted(TOPIC_CONFIGS))
def test_every_default_is_valid_and_documented(name: str) -> None:
    config = TOPIC_CONFIGS[name]
    config.parse(config.default)
    assert config.doc.endswith(".")
    assert config.has_effect or "no effect" in config.documentation


def test_defaults_are_those_of_the_log_and_of_the_server() -> None:
    assert topic_configs.partition_config({}, Settings()) == PartitionConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "-1"),
        ("retention.ms", " 5000 "),
        ("retention.bytes", "-1"),
        ("segment.bytes", "1048576"),
        ("cleanup.policy", "delete"),
        ("preallocate", "TRUE"),
        ("min.cleanable.dirty.ratio", ".25"),
        ("leader.replication.throttled.replicas", "0:1,1:1"),
        ("follower.replication.throttled.replicas", "*"),
        ("message.timestamp.type", "LogAppendTime"),
        ("compression.type", "producer"),
        ("unclean.leader.election.enable", "true"),
        ("flush.ms", "10"),
        ("segment.index.bytes", "2147483647"),
    ],
)
def test_values_that_are_accepted(name: str, value: str) -> None:
    rig = StateRig()
    assert done(rig.topics.create("a", 1, {name: value})).config == {name: value.strip()}
    rig.restart()
    assert [dict(topic.config) for topic in rig.topics.all()] == [{name: value.strip()}]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("no.such.thing", "1", "Unknown topic config name: no.such.thing"),
        ("message.downconversion.enable", "true", "Unknown topic config name"),
        ("retention.ms", "-2", "Value must be at least -1"),
        ("retention.ms", "soon", "Not a number of type LONG"),
        ("retention.ms", "9223372036854775808", "Not a number of type LONG"),
        ("retention.ms", "1_000", "Not a number"),
        ("retention.ms", "١", "Not a number"),
        ("retention.ms", "", "Not a number"),
        ("retention.ms", None, "Null value not supported"),
        ("segment.bytes", "1048575", "at least 1048576"),
        ("segment.bytes", "2147483648", "Not a number of type INT"),
        ("segment.ms", "0", "at least 1"),
        ("max.message.bytes", "-1", "at least 0"),
        ("cleanup.policy", "compact", "compaction is not yet supported"),
        ("cleanup.policy", "compact,delete", "compaction is not yet supported"),
        ("cleanup.policy", "shred", "must be one of"),
        ("compression.type", "zstd", "only producer is supported"),
        ("compression.type", "rot13", "must be one of"),
        ("message.timestamp.type", "createtime", "must be one of"),
        ("min.insync.replicas", "2", "only 1 is supported"),
        ("min.insync.replicas", "0", "at least 1"),
        ("preallocate", "yes", "either true or false"),
        ("min.cleanable.dirty.ratio", "1.1", "no more than 1"),
        ("min.cleanable.dirty.ratio", "nan", "Not a number of type DOUBLE"),
        ("remote.storage.enable", "true", "tiered storage is not supported"),
        ("leader.replication.throttled.replicas", "0-1", "literal '*'"),
        ("mainstem.retention.time", "tomorrow", "must be one of"),
        ("mainstem.search", "fast", "must be one of"),
    ],
)
def test_values_that_are_refused(name: str, value: str | None, said: str) -> None:
    rig = StateRig()
    promise = rig.topics.create("a", 1, {name: value})
    assert code(promise) == "INVALID_CONFIG"
    assert said in str(promise.error)
    assert rig.topics.get("a") is None


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="conflict"):
        topic_configs.validate_configs({"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "9"})


def test_without_a_cleanup_policy_nothing_is_removed() -> None:
    set_ = {"cleanup.policy": "", "retention.ms": "5", "retention.bytes": "9"}
    assert topic_configs.validate_configs(set_) == set_
    config = topic_configs.partition_config(set_, Settings())
    assert (config.retention_ms, config.retention_bytes) == (-1, -1)


def test_partitions_obey_the_settings_of_their_topic() -> None:
    config = topic_configs.partition_config(
        {
            "segment.bytes": "2097152",
            "segment.ms": "7",
            "segment.index.bytes": "4096",
            "index.interval.bytes": "1",
            "retention.ms": "-1",
            "retention.bytes": "9",
            "mainstem.retention.time": "record",
            "max.message.bytes": "10",
            "message.timestamp.type": "LogAppendTime",
            "message.timestamp.before.max.ms": "3",
            "message.timestamp.after.max.ms": "4",
        },
        Settings(),
    )
    assert config == PartitionConfig(2097152, 7, 4096, 1, -1, 9, True, 10, True, 3, 4)


def test_the_source_of_a_value_is_described() -> None:
    settings = Settings(log_retention_ms=1000)
    (unset,) = topic_configs.describe_configs({}, settings, ["retention.ms"])
    assert (unset.value, unset.source) == ("1000", "static")
    assert unset.synonyms == (("log.retention.ms", "1000", "static"),)
    (unset,) = topic_configs.describe_configs({}, Settings(log_segment_bytes=4096), ["segment.bytes"])
    assert unset.synonyms == (
        ("log.segment.bytes", "4096", "static"),
        ("log.segment.bytes", "1073741824", "default"),
    )
    (entry,) = topic_configs.describe_configs({"retention.ms": "5"}, settings, ["retention.ms", "nonsense"])
    assert (entry.value, entry.source, entry.synonyms[0]) == ("5", "topic", ("retention.ms", "5", "topic"))
    (entry,) = topic_configs.describe_configs({}, settings, ["segment.bytes"])
    assert (entry.source, entry.synonyms) == ("default", (("log.segment.bytes", "1073741824", "default"),))
    assert len(topic_configs.describe_configs({}, settings)) == len(TOPIC_CONFIGS)
    assert topic_configs.describe_configs({}, settings, []) == []


def test_replacing_settings_resets_those_that_are_not_named() -> None:
    rig = StateRig()
    rig.create("a", config={"retention.ms": "1", "segment.ms": "2"})
    assert done(rig.topics.set_config("a", {"retention.ms": "3"})).config == {"retention.ms": "3"}
    assert done(rig.topics.set_config("a", {})).config == {}
    assert code(rig.topics.set_config("b", {})) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert code(rig.topics.set_config("a", {"x": "1"})) == "INVALID_CONFIG"


def alter(rig: StateRig, *changes: ConfigChange) -> dict[str, str] | str:
    """The settings after a change, or Kafka's error code."""
    promise = rig.topics.alter_config("a", changes)
    if isinstance(promise.error, CoordinatorError):
        return promise.error.code
    return dict(done(promise).config)


def test_single_settings_are_set_and_deleted() -> None:
    rig = StateRig()
    rig.create("a", config={"segment.ms": "2"})
    assert alter(rig, ConfigChange("retention.ms", "set", "3")) == {"segment.ms": "2", "retention.ms": "3"}
    assert alter(rig, ConfigChange("segment.ms", "delete")) == {"retention.ms": "3"}
    assert alter(rig, ConfigChange("segment.ms", "delete")) == {"retention.ms": "3"}
    written = len(rig.log.batches)
    assert alter(rig, ConfigChange("retention.ms", "set", " 3 ")) == {"retention.ms": "3"}
    assert len(rig.log.batches) == written, "what changes nothing is not written"
    rig.restart()
    assert alter(rig) == {"retention.ms": "3"}


def test_lists_are_appended_to_and_subtracted_from() -> None:
    rig = StateRig()
    rig.create("a")
    name = "leader.replication.throttled.replicas"
    assert alter(rig, ConfigChange(name, "append", "0:1,1:1")) == {name: "0:1,1:1"}
    assert alter(rig, ConfigChange(name, "append", "1:1,2:1,2:1")) == {name: "0:1,1:1,2:1"}
    assert alter(rig, ConfigChange(name, "subtract", "1:1,7:1")) == {name: "0:1,2:1"}
    assert alter(rig, ConfigChange(name, "subtract", "0:1,2:1")) == {name: ""}
    assert alter(rig, ConfigChange("cleanup.policy", "append", "compact")) == "INVALID_CONFIG"
    assert alter(rig, ConfigChange("cleanup.policy", "append", "delete")) == {
        name: "",
        "cleanup.policy": "delete",
    }
    assert alter(rig, ConfigChange("cleanup.policy", "subtract", "delete")) == {
        name: "",
        "cleanup.policy": "",
    }
    assert alter(rig, ConfigChange("retention.ms", "append", "5")) == "INVALID_CONFIG"
    assert alter(rig, ConfigChange("retention.ms", "subtract", "5")) == "INVALID_CONFIG"


def test_invalid_changes_change_nothing() -> None:
    rig = StateRig()
    rig.create("a")
    twice = ConfigChange("retention.ms", "set", "1"), ConfigChange("retention.ms", "delete")
    assert alter(rig, *twice) == "INVALID_REQUEST"
    assert alter(rig, ConfigChange("retention.ms", "set")) == "INVALID_REQUEST"
    assert alter(rig, ConfigChange("no.such.thing", "delete")) == "INVALID_CONFIG"
    half = ConfigChange("retention.ms", "set", "1"), ConfigChange("segment.ms", "set", "x")
    assert alter(rig, *half) == "INVALID_CONFIG"
    assert alter(rig) == {}
