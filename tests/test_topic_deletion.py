"""Deleting topics: what it costs for many of them, and where it continues after a failure."""

from __future__ import annotations

from collections import Counter

import pytest

from mainstem.node import RETRY_S
from tests.test_node import NodeRig

DURABILITIES = pytest.mark.parametrize("durability", ["disk", "os"])


@DURABILITIES
def test_deleting_many_topics_does_not_list_the_folders_of_all_partitions_for_each(
    durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 10,000 topics, the folders were listed 10,000 times, 10,000 names each time."""
    machine = NodeRig(durability=durability)
    other = machine.create("kept")
    machine.append(other)
    topics = [machine.create(f"t{number}", 2) for number in range(40)]
    for topic in topics:
        machine.append(topic, index=1)
    listings: Counter[str] = Counter()
    list_folder = machine.disk.list

    def counted(folder: str) -> list[str]:
        listings[folder] += 1
        return list_folder(folder)

    monkeypatch.setattr(machine.disk, "list", counted)
    for topic in topics[:20]:
        machine.node.topics.delete(topic.name)
    machine.settle(100)
    assert listings["partitions"] <= 1
    for topic in topics[20:]:
        machine.node.topics.delete(topic.name)
    machine.clock.advance(0.0001)
    machine.start()
    machine.settle(100)
    assert listings["partitions"] <= 4, "what a start does once for all partitions"
    assert machine.names() == ["kept"]
    assert machine.node.topics.tombstones() == []
    assert len(machine.disk.list("partitions")) == 2, "the state log's and the other topic's"


@DURABILITIES
def test_a_deletion_continues_where_it_failed(durability: str) -> None:
    machine = NodeRig(durability=durability)
    topic = machine.create("a", 4)
    for index in range(4):
        machine.append(topic, index=index)
    fails = {"rename": iter([False, False, True]), "unlink": iter([False, False, True])}
    machine.disk.fail = lambda call, path: topic.id.hex in path and call in fails and next(fails[call], False)
    machine.done(machine.node.topics.delete("a"))
    for _ in fails:
        assert machine.folders(topic)
        assert machine.node.topics.tombstones() == [topic.id]
        machine.settle(RETRY_S + 1)
    machine.settle(1)
    assert machine.folders(topic) == []
    assert len(machine.disk.list("partitions")) == 1, "the state log's"
    assert machine.node.topics.tombstones() == []
