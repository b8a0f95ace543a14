"""Topics: names, ids, partitions, deletion and the callbacks for the log."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.coordinator.errors import InvalidTopicName
from mainstem.coordinator.topics import topics as module
from mainstem.coordinator.topics.topics import ConfigChange, TopicMetadata, check_name
from mainstem.log.errors import StorageError
from mainstem.settings import Settings
from tests.coordinator.state_rig import StateRig, code, done


@pytest.mark.parametrize("name", ["a", "a.b", "A-1_z", "0", "..a", "-", "_", "x" * 249])
def test_names_that_kafka_accepts(name: str) -> None:
    assert done(StateRig().topics.create(name)).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "x" * 250,
        "a b",
        "a/b",
        "../../x",
        "a\0b",
        "a\n",
        "é",
        "а",
        "a:b",
        "__mainstem_state",
        "x" * 10_000,
    ],
)
def test_names_that_are_refused(name: str) -> None:
    rig = StateRig()
    assert code(rig.topics.create(name)) == "INVALID_TOPIC_EXCEPTION"
    assert code(rig.topics.delete(name)) == "INVALID_TOPIC_EXCEPTION"
    assert rig.log.batches == []


@given(st.text(max_size=300))
def test_no_accepted_name_contains_a_path(name: str) -> None:
    taken = True
    try:
        check_name(name)
    except InvalidTopicName:
        taken = False
    if taken:
        assert 0 < len(name) <= 249
        assert name.isascii()
        assert set(name).isdisjoint("/\\\0 \n")
        assert name not in (".", "..")


def test_names_that_differ_only_by_dot_and_underscore_collide() -> None:
    rig = StateRig()
    rig.create("a.b_c")
    refused = rig.topics.create("a_b.c")
    assert code(refused) == "INVALID_TOPIC_EXCEPTION"
    assert str(refused.error) == "Topic 'a_b.c' collides with existing topic: a.b_c"
    done(rig.topics.delete("a.b_c"))
    rig.create("a_b.c")


def test_names_that_differ_by_case_do_not_collide() -> None:
    rig = StateRig()
    rig.create("flights")
    rig.create("Flights")


def test_kafkas_internal_topics_are_marked() -> None:
    rig = StateRig()
    assert done(rig.topics.create("__consumer_offsets")).internal
    assert not done(rig.topics.create("consumer_offsets")).internal
    rig.restart()
    topic = rig.topics.get("__consumer_offsets")
    assert topic is not None
    assert topic.internal


def test_a_topic_is_found_by_name_and_id_and_listed_by_name() -> None:
    rig = StateRig()
    for name in ("c", "a", "b"):
        rig.create(name)
    topic = rig.topics.get("a")
    assert topic is not None
    assert rig.topics.by_id(topic.id) is topic
    assert [topic.name for topic in rig.topics.all()] == ["a", "b", "c"]
    assert rig.topics.get("d") is None
    assert rig.topics.by_id(UUID(int=5)) is None


def test_ids_come_from_the_random_generator_that_is_passed() -> None:
    rig, same = StateRig(seed=7), StateRig(seed=7)
    ids = [done(rig.topics.create(f"t{n}")).id for n in range(300)]
    assert ids == [done(same.topics.create(f"t{n}")).id for n in range(300)]
    assert len(set(ids)) == 300
    assert all(id_.version == 4 for id_ in ids)


def test_an_id_that_is_or_was_in_use_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = StateRig()
    values = iter([5, 5, 6, 5, 6, 7])
    rng = random.Random()
    monkeypatch.setattr(rng, "getrandbits", lambda _: next(values))
    monkeypatch.setattr(rig.topics, "_rng", rng)
    first = done(rig.topics.create("a")).id
    second = done(rig.topics.create("b")).id
    done(rig.topics.delete("a"))
    third = done(rig.topics.create("a")).id
    assert len({first, second, third}) == 3


def test_an_existing_name_is_refused() -> None:
    rig = StateRig()
    rig.create("a")
    assert code(rig.topics.create("a")) == "TOPIC_ALREADY_EXISTS"


def test_partitions_by_default_and_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = StateRig(settings=Settings(num_partitions=6))
    assert done(rig.topics.create("default", -1)).partitions == 6
    assert code(rig.topics.create("none", 0)) == "INVALID_PARTITIONS"
    assert code(rig.topics.create("negative", -2)) == "INVALID_PARTITIONS"
    assert code(rig.topics.create("many", module.PARTITIONS_OF_TOPIC_MAX + 1)) == "INVALID_PARTITIONS"
    monkeypatch.setattr(module, "PARTITIONS_MAX", 10)
    assert code(rig.topics.create("full", 5)) == "INVALID_PARTITIONS"
    rig.create("fits", 4)
    assert code(rig.topics.add_partitions("fits", 5)) == "INVALID_PARTITIONS"
    done(rig.topics.delete("default"))
    done(rig.topics.add_partitions("fits", 5))


@pytest.mark.parametrize(
    ("factor", "refusal"),
    [
        (-1, None),
        (1, None),
        (3, "INVALID_REPLICATION_FACTOR"),
        (0, "INVALID_REPLICATION_FACTOR"),
        (-2, "INVALID_REPLICATION_FACTOR"),
    ],
)
def test_there_is_one_replica(factor: int, refusal: str | None) -> None:
    promise = StateRig().topics.create("a", 1, replication_factor=factor)
    assert (None if promise.error is None else code(promise)) == refusal


def test_assignments_to_the_only_node_are_accepted() -> None:
    rig = StateRig()
    create = rig.topics.create
    assert done(create("a", -1, assignments=[(1, [1]), (0, [1])])).partitions == 2
    assert code(create("b", 1, assignments=[(0, [1])])) == "INVALID_REQUEST"
    assert code(create("b", replication_factor=1, assignments=[(0, [1])])) == "INVALID_REQUEST"
    wrongs: list[list[tuple[int, list[int]]]] = [
        [(0, [2])],
        [(0, [])],
        [(0, [1, 1])],
        [(1, [1])],
        [(0, [1]), (0, [1])],
    ]
    for wrong in wrongs:
        assert code(create("b", assignments=wrong)) == "INVALID_REPLICA_ASSIGNMENT"
    add = rig.topics.add_partitions
    assert code(add("a", 4, assignments=[[1]])) == "INVALID_REPLICA_ASSIGNMENT"
    assert code(add("a", 3, assignments=[[2]])) == "INVALID_REPLICA_ASSIGNMENT"
    assert done(add("a", 3, assignments=[[1]])).partitions == 3


def test_validate_only_changes_nothing() -> None:
    rig = StateRig()
    assert done(rig.topics.create("a", 2, {"retention.ms": "1"}, validate_only=True)).partitions == 2
    assert code(rig.topics.create("a", 2, {"nonsense": "1"}, validate_only=True)) == "INVALID_CONFIG"
    rig.create("b")
    written = len(rig.log.batches)
    done(rig.topics.add_partitions("b", 9, validate_only=True))
    done(rig.topics.set_config("b", {"retention.ms": "1"}, validate_only=True))
    done(rig.topics.alter_config("b", [ConfigChange("retention.ms", "set", "1")], validate_only=True))
    assert len(rig.log.batches) == written
    assert rig.topics.get("a") is None


def test_partitions_can_only_be_added() -> None:
    rig = StateRig()
    rig.create("a", 2)
    assert str(rig.topics.add_partitions("a", 2).error) == "Topic already has 2 partition(s)."
    assert code(rig.topics.add_partitions("a", 1)) == "INVALID_PARTITIONS"
    assert code(rig.topics.add_partitions("b", 3)) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert done(rig.topics.add_partitions("a", 5)).partitions == 5
    rig.restart()
    assert [topic.partitions for topic in rig.topics.all()] == [5]


def test_a_deleted_topic_leaves_a_tombstone_until_the_log_has_deleted_its_files() -> None:
    rig = StateRig()
    topic = done(rig.topics.create("a"))
    assert rig.topics.status(topic.id) == "live"
    assert done(rig.topics.delete("a")) == topic
    assert rig.topics.get("a") is None
    assert rig.topics.status(topic.id) == "deleted"
    rig.restart()
    assert rig.topics.status(topic.id) == "deleted"
    assert rig.topics.tombstones() == [topic.id]
    done(rig.topics.purge(topic.id))
    done(rig.topics.purge(topic.id))
    rig.restart()
    assert rig.topics.status(topic.id) == "unknown"


def test_a_topic_created_again_is_another_topic() -> None:
    rig = StateRig()
    first = done(rig.topics.create("a", 3, {"retention.ms": "1"}))
    done(rig.topics.delete(first.id))
    second = done(rig.topics.create("a"))
    assert (second.partitions, dict(second.config)) == (1, {})
    assert rig.topics.status(first.id) == "deleted"
    assert rig.topics.status(second.id) == "live"


def test_an_unknown_topic_cannot_be_deleted() -> None:
    rig = StateRig()
    assert code(rig.topics.delete("a")) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert code(rig.topics.delete(UUID(int=77))) == "UNKNOWN_TOPIC_ID"


def test_listeners_are_called_for_deletions_and_settings_when_these_are_durable() -> None:
    rig = StateRig(auto_commit=False)
    calls: list[tuple[str, TopicMetadata]] = []
    rig.topics.on_deleted.append(lambda topic: calls.append(("deleted", topic)))
    rig.topics.on_configured.append(lambda topic: calls.append(("configured", topic)))
    rig.topics.create("a")
    rig.topics.set_config("a", {"retention.ms": "5"})
    assert calls == []
    rig.log.commit()
    assert [(change, dict(topic.config)) for change, topic in calls] == [
        ("configured", {"retention.ms": "5"})
    ]
    rig.topics.delete("a")
    rig.log.fail()
    rig.clock.run()
    assert len(calls) == 1
    assert rig.topics.get("a") is not None
    promise = rig.topics.delete("a")
    rig.log.commit()
    assert calls[1] == ("deleted", done(promise))


def test_a_refused_append_is_a_storage_error() -> None:
    rig = StateRig()
    rig.log.append_error = "full"
    assert isinstance(rig.topics.create("a").error, StorageError)
