"""Topics: names, ids, partitions, deletion and what is told to the log."""

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
from tests.coordinator.state_kit import StateRig, code, done


@pytest.mark.parametrize("name", ["a", "a.b", "A-1_z", "0", "..a", "-", "_", "x" * 249])
def test_names_that_kafka_takes(name: str) -> None:
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
    kit = StateRig()
    assert code(kit.topics.create(name)) == "INVALID_TOPIC_EXCEPTION"
    assert code(kit.topics.delete(name)) == "INVALID_TOPIC_EXCEPTION"
    assert kit.log.batches == []


@given(st.text(max_size=300))
def test_no_name_gets_through_that_a_path_could_be_made_of(name: str) -> None:
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
    kit = StateRig()
    kit.create("a.b_c")
    refused = kit.topics.create("a_b.c")
    assert code(refused) == "INVALID_TOPIC_EXCEPTION"
    assert str(refused.error) == "Topic 'a_b.c' collides with existing topic: a.b_c"
    done(kit.topics.delete("a.b_c"))
    kit.create("a_b.c")


def test_names_that_differ_by_case_do_not_collide() -> None:
    kit = StateRig()
    kit.create("flights")
    kit.create("Flights")


def test_kafkas_internal_topics_are_marked() -> None:
    kit = StateRig()
    assert done(kit.topics.create("__consumer_offsets")).internal
    assert not done(kit.topics.create("consumer_offsets")).internal
    kit.restart()
    topic = kit.topics.get("__consumer_offsets")
    assert topic is not None
    assert topic.internal


def test_a_topic_is_found_by_name_and_id_and_listed_by_name() -> None:
    kit = StateRig()
    for name in ("c", "a", "b"):
        kit.create(name)
    topic = kit.topics.get("a")
    assert topic is not None
    assert kit.topics.by_id(topic.id) is topic
    assert [topic.name for topic in kit.topics.all()] == ["a", "b", "c"]
    assert kit.topics.get("d") is None
    assert kit.topics.by_id(UUID(int=5)) is None


def test_ids_are_random_and_of_the_given_randomness() -> None:
    kit, same = StateRig(seed=7), StateRig(seed=7)
    ids = [done(kit.topics.create(f"t{n}")).id for n in range(300)]
    assert ids == [done(same.topics.create(f"t{n}")).id for n in range(300)]
    assert len(set(ids)) == 300
    assert all(id_.version == 4 for id_ in ids)


def test_an_id_that_is_taken_or_was_taken_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = StateRig()
    values = iter([5, 5, 6, 5, 6, 7])
    rng = random.Random()
    monkeypatch.setattr(rng, "getrandbits", lambda _: next(values))
    monkeypatch.setattr(kit.topics, "_rng", rng)
    first = done(kit.topics.create("a")).id
    second = done(kit.topics.create("b")).id
    done(kit.topics.delete("a"))
    third = done(kit.topics.create("a")).id
    assert len({first, second, third}) == 3


def test_an_existing_name_is_refused() -> None:
    kit = StateRig()
    kit.create("a")
    assert code(kit.topics.create("a")) == "TOPIC_ALREADY_EXISTS"


def test_partitions_by_default_and_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = StateRig(settings=Settings(num_partitions=6))
    assert done(kit.topics.create("default", -1)).partitions == 6
    assert code(kit.topics.create("none", 0)) == "INVALID_PARTITIONS"
    assert code(kit.topics.create("negative", -2)) == "INVALID_PARTITIONS"
    assert code(kit.topics.create("many", module.PARTITIONS_OF_TOPIC_MAX + 1)) == "INVALID_PARTITIONS"
    monkeypatch.setattr(module, "PARTITIONS_MAX", 10)
    assert code(kit.topics.create("full", 5)) == "INVALID_PARTITIONS"
    kit.create("fits", 4)
    assert code(kit.topics.add_partitions("fits", 5)) == "INVALID_PARTITIONS"
    done(kit.topics.delete("default"))
    done(kit.topics.add_partitions("fits", 5))


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
    later = StateRig().topics.create("a", 1, replication_factor=factor)
    assert (None if later.error is None else code(later)) == refusal


def test_assignments_to_the_only_node_are_taken() -> None:
    kit = StateRig()
    create = kit.topics.create
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
    add = kit.topics.add_partitions
    assert code(add("a", 4, assignments=[[1]])) == "INVALID_REPLICA_ASSIGNMENT"
    assert code(add("a", 3, assignments=[[2]])) == "INVALID_REPLICA_ASSIGNMENT"
    assert done(add("a", 3, assignments=[[1]])).partitions == 3


def test_validate_only_changes_nothing() -> None:
    kit = StateRig()
    assert done(kit.topics.create("a", 2, {"retention.ms": "1"}, validate_only=True)).partitions == 2
    assert code(kit.topics.create("a", 2, {"nonsense": "1"}, validate_only=True)) == "INVALID_CONFIG"
    kit.create("b")
    written = len(kit.log.batches)
    done(kit.topics.add_partitions("b", 9, validate_only=True))
    done(kit.topics.set_config("b", {"retention.ms": "1"}, validate_only=True))
    done(kit.topics.alter_config("b", [ConfigChange("retention.ms", "set", "1")], validate_only=True))
    assert len(kit.log.batches) == written
    assert kit.topics.get("a") is None


def test_partitions_are_only_ever_added() -> None:
    kit = StateRig()
    kit.create("a", 2)
    assert str(kit.topics.add_partitions("a", 2).error) == "Topic already has 2 partition(s)."
    assert code(kit.topics.add_partitions("a", 1)) == "INVALID_PARTITIONS"
    assert code(kit.topics.add_partitions("b", 3)) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert done(kit.topics.add_partitions("a", 5)).partitions == 5
    kit.restart()
    assert [topic.partitions for topic in kit.topics.all()] == [5]


def test_a_deleted_topic_leaves_a_tombstone_until_the_log_has_forgotten_it() -> None:
    kit = StateRig()
    topic = done(kit.topics.create("a"))
    assert kit.topics.status(topic.id) == "live"
    assert done(kit.topics.delete("a")) == topic
    assert kit.topics.get("a") is None
    assert kit.topics.status(topic.id) == "deleted"
    kit.restart()
    assert kit.topics.status(topic.id) == "deleted"
    assert kit.topics.tombstones() == [topic.id]
    done(kit.topics.purge(topic.id))
    done(kit.topics.purge(topic.id))
    kit.restart()
    assert kit.topics.status(topic.id) == "unknown"


def test_a_topic_made_again_is_another_topic() -> None:
    kit = StateRig()
    first = done(kit.topics.create("a", 3, {"retention.ms": "1"}))
    done(kit.topics.delete(first.id))
    second = done(kit.topics.create("a"))
    assert (second.partitions, dict(second.config)) == (1, {})
    assert kit.topics.status(first.id) == "deleted"
    assert kit.topics.status(second.id) == "live"


def test_what_is_not_there_cannot_be_deleted() -> None:
    kit = StateRig()
    assert code(kit.topics.delete("a")) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert code(kit.topics.delete(UUID(int=77))) == "UNKNOWN_TOPIC_ID"


def test_the_log_is_told_of_deletions_and_settings_only_when_they_are_durable() -> None:
    kit = StateRig(auto=False)
    told: list[tuple[str, TopicMetadata]] = []
    kit.topics.on_deleted.append(lambda topic: told.append(("deleted", topic)))
    kit.topics.on_configured.append(lambda topic: told.append(("configured", topic)))
    kit.topics.create("a")
    kit.topics.set_config("a", {"retention.ms": "5"})
    assert told == []
    kit.log.commit()
    assert [(what, dict(topic.config)) for what, topic in told] == [("configured", {"retention.ms": "5"})]
    kit.topics.delete("a")
    kit.log.fail()
    kit.clock.run()
    assert len(told) == 1
    assert kit.topics.get("a") is not None
    later = kit.topics.delete("a")
    kit.log.commit()
    assert told[1] == ("deleted", done(later))


def test_a_disk_that_refuses_is_a_storage_error() -> None:
    kit = StateRig()
    kit.log.refuse = "full"
    assert isinstance(kit.topics.create("a").error, StorageError)
