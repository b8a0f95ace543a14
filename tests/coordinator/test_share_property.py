"""Share groups under random members, topics, kills and failing disks: what holds at any time."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mainstem.coordinator.groups.share_types import LEAVE_EPOCH
from tests.coordinator.test_share_groups import ShareNodeRig

SEEDS = range(8)
STEPS = 60
MEMBERS = [f"m{number}" for number in range(6)]
TOPICS = ["a", "b", "later", "never"]


class RandomMembers:
    """Members that behave as clients do: after an error they join again."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = ShareNodeRig(group_share_max_size=4)
        self.epochs: dict[str, int] = {}
        """Of each member that believes to be in the group."""
        self.assigned: dict[str, dict[str, list[int]]] = {}
        self.topics: dict[str, tuple[str, ...]] = {}

    def beat(self, member: str, *topics: str) -> None:
        epoch = self.epochs.get(member, 0)
        if not epoch:
            topics = topics or self.topics.get(member) or ("a",)
        asked = self.rig.ask(member, epoch, *topics)
        if not asked.done or asked.error is not None:
            self.epochs.pop(member, None)
            self.assigned.pop(member, None)
            return
        reply = asked.result()
        assert reply.member_epoch >= epoch, "the epoch of a member never falls"
        self.epochs[member] = reply.member_epoch
        if topics:
            self.topics[member] = topics
        if reply.assignment is not None:
            names = {topic.id: topic.name for topic in self.rig.node.topics.all()}
            self.assigned[member] = {names[key]: places for key, places in reply.assignment.items()}

    def leave(self, member: str) -> None:
        self.rig.ask(member, LEAVE_EPOCH)
        self.epochs.pop(member, None)
        self.assigned.pop(member, None)

    def fail(self) -> None:
        failures = iter([True])
        self.rig.disk.fail = lambda call, path: call == "sync" and next(failures, False)
        self.beat(self.rng.choice(MEMBERS), *self.some_topics())
        self.rig.disk.fail = lambda call, path: False
        self.rig.settle(3)

    def some_topics(self) -> tuple[str, ...]:
        return tuple(self.rng.sample(TOPICS, self.rng.randint(1, 3)))

    def grow(self) -> None:
        name = self.rng.choice(["a", "b", "later"])
        topic = self.rig.node.topics.get(name)
        if topic is None:
            self.rig.create(name, 1)
        elif topic.partitions < 8:
            self.rig.done(self.rig.node.topics.add_partitions(name, topic.partitions + 1))

    def step(self) -> None:
        member = self.rng.choice(MEMBERS)
        actions: list[tuple[int, Any]] = [
            (8, lambda: self.beat(member)),
            (4, lambda: self.beat(member, *self.some_topics())),
            (2, lambda: self.leave(member)),
            (2, self.grow),
            (1, lambda: self.rig.settle(self.rng.choice([1, 20, 50]))),
            (1, self.rig.start),
            (1, self.fail),
        ]
        weights = [weight for weight, _ in actions]
        self.rng.choices([action for _, action in actions], weights)[0]()

    def check(self) -> None:
        """All members that are left send heartbeats until nothing changes: then all partitions are read."""
        for _ in range(3):
            for member in list(self.epochs):
                self.beat(member)
        if self.rig.node.share_groups.find("g") is None:
            return
        for member in self.rig.members():
            if member not in self.epochs:
                self.rig.ask(member, LEAVE_EPOCH)  # its reply was lost, and it does not come back
        for _ in range(2):
            for member in list(self.epochs):
                self.beat(member)
        assert sorted(self.rig.members()) == sorted(self.epochs)
        assert len(self.epochs) <= 4
        sizes = {topic.name: topic.partitions for topic in self.rig.node.topics.all()}
        for topic in {topic for member in self.epochs for topic in self.topics[member] if topic in sizes}:
            read = {place for assigned in self.assigned.values() for place in assigned.get(topic, ())}
            assert read == set(range(sizes[topic])), topic
        for member in self.epochs:
            assert self.assigned[member].keys() <= set(self.topics[member])
            assert bool(self.assigned[member]) == any(topic in sizes for topic in self.topics[member])
        assert len(set(self.epochs.values())) <= 1, "all have the epoch of the group"
        group = self.rig.node.subscriptions.get("g")
        assert len(set(group.settings.topics)) == len(group.settings.topics)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_random_members_end_with_all_partitions_and_survive_a_restart(seed: int) -> None:
    members = RandomMembers(seed)
    for _ in range(STEPS):
        members.step()
    members.check()
    survivors = sorted(members.epochs)
    members.rig.start()
    if members.rig.node.share_groups.find("g") is not None:
        assert sorted(members.rig.members()) == survivors
    members.check()
    assert sorted(members.epochs) == survivors
