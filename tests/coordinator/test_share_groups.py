"""Share groups: joining, heartbeats, epochs, the end of a membership, and what survives a restart."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.coordinator.errors import CoordinatorError, SubscriptionExists
from mainstem.coordinator.groups import share_groups
from mainstem.coordinator.groups.share_types import LEAVE_EPOCH, ShareHeartbeat, ShareHeartbeatReply
from mainstem.coordinator.groups.types import (
    CommitRequest,
    Heartbeat,
    JoinRequest,
    NewOffset,
    TopicRef,
)
from mainstem.coordinator.topics.types import ConfigChange
from mainstem.node import Node
from mainstem.promise import Promise
from tests.coordinator.seeds import small
from tests.test_node import NodeRig, refusal


class ShareNodeRig(NodeRig):
    """A node with the topics `a`, of two partitions, and `b`, of one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.topic_a = self.create("a", 2)
        self.topic_b = self.create("b", 1)

    def start(self, **settings: Any) -> Node:
        with small():  # files of the journal, which would take a third of a second to make
            return super().start(**settings)

    def ask(
        self, member: str, epoch: int, *topics: str, group: str = "g", **more: Any
    ) -> Promise[ShareHeartbeatReply]:
        request = ShareHeartbeat(
            group_id=group, member_id=member, member_epoch=epoch, topics=topics or None, **more
        )
        asked = self.node.share_groups.heartbeat(request)
        self.settle()
        return asked

    def beat(self, member: str, epoch: int, *topics: str, **more: Any) -> tuple[int, dict[str, list[int]]]:
        """(epoch, assignment by name) of an accepted heartbeat; `unchanged` without an assignment."""
        reply = self.ask(member, epoch, *topics, **more).result()
        assert (reply.member_id, reply.heartbeat_interval_ms) == (member, 5_000)
        if reply.assignment is None:
            return reply.member_epoch, UNCHANGED
        names = {topic.id: topic.name for topic in self.node.topics.all()}
        return reply.member_epoch, {names[key]: value for key, value in reply.assignment.items()}

    def epoch(self) -> int:
        (view,) = self.done(self.node.share_groups.describe(["g"]))
        return int(view.epoch)

    def members(self) -> list[str]:
        (view,) = self.done(self.node.share_groups.describe(["g"]))
        return [member.facts.member_id for member in view.members]


UNCHANGED = {"unchanged": [0]}


@pytest.fixture
def rig() -> ShareNodeRig:
    return ShareNodeRig()


# --- joining and heartbeats -------------------------------------------------------------------------------


def test_a_first_member_has_all_partitions_and_the_group_is_a_subscription(rig: ShareNodeRig) -> None:
    subscribed: list[str] = []
    rig.node.share_groups.on_subscribed.append(subscribed.append)
    assert rig.beat("m1", 0, "b", "a", "a", "none") == (2, {"a": [0, 1], "b": [0]})
    assert rig.beat("m1", 2) == (2, UNCHANGED)
    assert rig.beat("m1", 2, "a", "b", "none") == (2, {"a": [0, 1], "b": [0]}), "a full request"
    group = rig.node.subscriptions.get("g")
    assert (group.kind, group.settings.topics) == ("share group", ("a", "b"))
    assert (group.settings.lock_ms, group.settings.failures_max) == (30_000, 5)
    assert (group.settings.from_latest, group.settings.accepts_late_acks) == (True, False)
    assert subscribed == ["g"]


def test_a_second_member_takes_its_part_and_the_first_learns_it_by_its_heartbeat(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    assert rig.beat("m2", 0, "a")[0] == 3
    taken = rig.beat("m2", 3, "a")[1]["a"]
    assert rig.beat("m1", 2) == (3, {"a": [index for index in (0, 1) if index not in taken]})
    assert rig.beat("m1", 3) == (3, UNCHANGED)
    member = rig.node.share_groups.member("g", "m2")
    assert member is not None
    assert dict(member.assignment) == {rig.topic_a.id: taken}
    assert (member.member_epoch, member.facts.topics) == (3, ("a",))


def test_members_beyond_the_partitions_share_them(rig: ShareNodeRig) -> None:
    for number in range(5):
        assert len(rig.beat(f"m{number}", 0, "a")[1]["a"]) >= 1
    assert all(len(rig.beat(f"m{number}", 0, "a")[1]["a"]) == 1 for number in range(5))


def test_a_lost_reply_is_sent_again_with_the_assignment(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    rig.beat("m2", 0, "a")
    epoch, assignment = rig.beat("m1", 2)
    assert epoch == 3
    assert rig.beat("m1", 2) == (3, assignment), "the epoch before is accepted"
    assert rig.beat("m1", 0, "a") == (3, assignment), "and so is joining again"


@pytest.mark.parametrize(("epoch", "error"), [(1, "FENCED_MEMBER_EPOCH"), (9, "FENCED_MEMBER_EPOCH")])
def test_another_epoch_is_fenced(rig: ShareNodeRig, epoch: int, error: str) -> None:
    rig.beat("m1", 0, "a")
    assert refusal(rig.ask("m1", epoch)) == error
    assert rig.beat("m1", 2) == (2, UNCHANGED)


def test_subscribing_to_other_topics_raises_the_epoch(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    assert rig.beat("m1", 2, "b") == (3, {"b": [0]})
    assert rig.node.subscriptions.get("g").settings.topics == ("a", "b"), "what it knows of a stays"


def test_a_new_topic_and_further_partitions_are_noticed(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a", "later")
    rig.create("later", 1)
    assert rig.beat("m1", 2) == (3, {"a": [0, 1], "later": [0]})
    rig.done(rig.node.topics.add_partitions("a", 3))
    assert rig.beat("m1", 3) == (4, {"a": [0, 1, 2], "later": [0]})
    rig.done(rig.node.topics.delete("a"))
    assert rig.beat("m1", 4) == (5, {"later": [0]})
    assert rig.node.subscriptions.get("g").settings.topics == ("a", "later")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ShareHeartbeat(group_id="g", member_id=" ", member_epoch=0, topics=("a",)), "MemberId can't be"),
        (ShareHeartbeat(group_id="", member_id="m", member_epoch=0, topics=("a",)), "GroupId can't be"),
        (
            ShareHeartbeat(group_id="g", member_id="m", member_epoch=0, topics=("a",), rack_id=""),
            "RackId can't be",
        ),
        (ShareHeartbeat(group_id="g", member_id="m", member_epoch=0), "must be set in first request"),
        (ShareHeartbeat(group_id="g", member_id="m", member_epoch=-2), "MemberEpoch is invalid"),
        (ShareHeartbeat(group_id="g" * 1001, member_id="m", member_epoch=-1), "characters at most"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(
    rig: ShareNodeRig, request_: ShareHeartbeat, text: str
) -> None:
    asked = rig.node.share_groups.heartbeat(request_)
    assert refusal(asked) == "INVALID_REQUEST"
    assert text in str(asked.error)
    assert rig.node.share_groups.find("g") is None


def test_unknown_groups_and_members_are_refused(rig: ShareNodeRig) -> None:
    assert refusal(rig.ask("m", 1)) == "GROUP_ID_NOT_FOUND"
    assert refusal(rig.ask("m", LEAVE_EPOCH)) == "GROUP_ID_NOT_FOUND"
    rig.beat("m1", 0, "a")
    assert refusal(rig.ask("m9", 1)) == "UNKNOWN_MEMBER_ID"
    assert refusal(rig.ask("m9", LEAVE_EPOCH)) == "UNKNOWN_MEMBER_ID"


def test_a_full_group_takes_no_further_member() -> None:
    rig = ShareNodeRig(group_share_max_size=2)
    rig.beat("m1", 0, "a")
    rig.beat("m2", 0, "a")
    assert refusal(rig.ask("m3", 0, "a")) == "GROUP_MAX_SIZE_REACHED"
    assert rig.beat("m2", 0, "a")[0] == 3, "a member joins again"


def test_members_together_take_no_more_memory_than_the_setting() -> None:
    rig = ShareNodeRig(group_memory_max_bytes=1 << 16)
    codes: set[str] = set()
    for number in range(60):
        asked = rig.ask(f"m{number}", 0, "a")
        if isinstance(asked.error, CoordinatorError):
            codes.add(asked.error.code)
    assert codes == {"COORDINATOR_LOAD_IN_PROGRESS"}
    assert rig.node.groups.memory.used_bytes <= 1 << 16
    assert rig.beat("m0", 0, "a")[1].keys() == {"a"}
    for member in rig.members():
        rig.ask(member, LEAVE_EPOCH)
    rig.done(rig.node.share_groups.delete("g"))
    assert rig.node.groups.memory.used_bytes == 0


def test_share_groups_together_read_a_bounded_number_of_partitions(
    rig: ShareNodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_groups, "VIEWS_MAX", 3)
    rig.beat("m1", 0, "a")
    for index in range(2):
        rig.done(rig.node.subscriptions.open_view("g", rig.topic_a.id, index, 0, 0))
    assert refusal(rig.ask("m1", 0, "a", group="h")) == "POLICY_VIOLATION"
    assert rig.node.share_groups.find("h") is None
    assert rig.beat("m1", 2, "a", "b")[1].keys() == {"a", "b"}, "there is room for one partition more"


# --- the end of a membership ------------------------------------------------------------------------------


def test_a_member_that_leaves_gives_its_partitions_to_the_others(rig: ShareNodeRig) -> None:
    removed: list[tuple[str, str]] = []
    rig.node.share_groups.on_member_gone.append(lambda *who: removed.append(who))
    rig.beat("m1", 0, "a")
    rig.beat("m2", 0, "a")
    left = rig.ask("m1", LEAVE_EPOCH).result()
    assert (left.member_id, left.member_epoch, left.assignment) == ("m1", -1, None)
    assert removed == [("g", "m1")]
    assert rig.beat("m2", 3) == (4, {"a": [0, 1]})
    assert refusal(rig.ask("m1", 3)) == "UNKNOWN_MEMBER_ID"


def test_a_member_without_heartbeats_is_removed_after_its_session(rig: ShareNodeRig) -> None:
    removed: list[tuple[str, str]] = []
    rig.node.share_groups.on_member_gone.append(lambda *who: removed.append(who))
    rig.beat("m1", 0, "a")
    rig.beat("m2", 0, "a")
    rig.settle(30)
    rig.beat("m2", 3)
    rig.settle(16)
    assert removed == [("g", "m1")]
    assert rig.members() == ["m2"]
    rig.settle(60)
    assert rig.members() == []
    assert refusal(rig.ask("m2", 3)) == "UNKNOWN_MEMBER_ID"
    assert rig.node.share_groups.find("g") is not None, "the group stays"


def test_a_member_whose_removal_the_disk_refuses_is_removed_later(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    failing = True
    rig.disk.fail = lambda call, path: failing and call == "sync"
    rig.settle(46)
    failing = False
    rig.settle(60)
    assert rig.members() == []


def test_the_session_timeout_and_the_interval_are_those_of_the_group(rig: ShareNodeRig) -> None:
    changes = [
        ConfigChange("share.session.timeout.ms", "set", "2000"),
        ConfigChange("share.heartbeat.interval.ms", "set", "500"),
    ]
    rig.done(rig.node.group_settings.alter("g", changes))
    assert rig.ask("m1", 0, "a").result().heartbeat_interval_ms == 500
    rig.settle(2.1)
    assert rig.members() == []


@pytest.mark.parametrize(
    "change",
    [
        *({"topics": ("b",)}, {"single_active": True}, {"by_priority": True}),
        *({"failures_max": 0}, {"failures_max": 32_768}, {"lock_ms": 999}, {"in_flight_max": 99}),
        {"dead_letter_topic": "__letters"},
    ],
)
def test_a_share_group_keeps_the_settings_that_are_its_own(rig: ShareNodeRig, change: dict[str, Any]) -> None:
    rig.beat("m1", 0, "a")
    assert refusal(rig.node.subscriptions.alter("g", change)) == "INVALID_CONFIG"
    assert rig.node.subscriptions.get("g").settings.topics == ("a",)
    rig.done(rig.node.subscriptions.alter("g", {"lock_ms": 5_000, "pin_ms": -1}))
    rig.done(rig.node.subscriptions.create("queue", {"topics": ("a",)}))
    rig.done(rig.node.subscriptions.alter("queue", change))


# --- kinds of groups --------------------------------------------------------------------------------------


def commit(rig: ShareNodeRig, group: str) -> Promise[Any]:
    topics = ((TopicRef("a"), (NewOffset(0, 0),)),)
    return rig.node.groups.commit(CommitRequest(group_id=group, topics=topics))


def test_a_classic_group_and_a_subscription_are_no_share_groups(rig: ShareNodeRig) -> None:
    rig.done(commit(rig, "classic"))
    rig.done(rig.node.subscriptions.create("queue"))
    for group in ("classic", "queue"):
        for epoch in (0, 1, LEAVE_EPOCH):
            asked = rig.ask("m", epoch, "a", group=group)
            assert refusal(asked) == "GROUP_ID_NOT_FOUND"
            assert str(asked.error) == f"Group {group} is not a share group."
        assert refusal(rig.node.share_groups.delete(group)) == "GROUP_ID_NOT_FOUND"


def test_a_share_group_is_no_classic_group(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    join = JoinRequest(
        group_id="g",
        protocol_type="consumer",
        protocols=(("range", b""),),
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
    )
    assert refusal(rig.node.groups.join(join)) == "INCONSISTENT_GROUP_PROTOCOL"
    assert refusal(commit(rig, "g")) == "GROUP_ID_NOT_FOUND"
    beat = Heartbeat(group_id="g", member_id="m1", generation=1)
    assert refusal(rig.node.groups.heartbeat(beat)) == "UNKNOWN_MEMBER_ID"
    with pytest.raises(SubscriptionExists):
        rig.done(rig.node.subscriptions.create("g"))


# --- deleting ---------------------------------------------------------------------------------------------


def test_a_group_is_deleted_only_without_members(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    assert refusal(rig.node.share_groups.delete("g")) == "NON_EMPTY_GROUP"
    assert refusal(rig.node.subscriptions.delete("g")) == "NON_EMPTY_GROUP"
    rig.ask("m1", LEAVE_EPOCH)
    rig.done(rig.node.share_groups.delete("g"))
    assert rig.node.share_groups.find("g") is None
    assert refusal(rig.node.share_groups.delete("g")) == "GROUP_ID_NOT_FOUND"
    assert rig.beat("m1", 0, "a")[0] == 2, "a group of that name is a new one"
    assert rig.node.subscriptions.get("g").id > 1


def test_topics_are_forgotten_only_without_members(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a", "b")
    rig.done(rig.node.subscriptions.open_view("g", rig.topic_a.id, 0, 0, 0))
    rig.done(rig.node.subscriptions.open_view("g", rig.topic_b.id, 0, 0, 0))
    assert refusal(rig.node.share_groups.forget_topics("g", ["a"])) == "NON_EMPTY_GROUP"
    rig.ask("m1", LEAVE_EPOCH)
    rig.done(rig.node.share_groups.forget_topics("g", ["a"]))
    assert rig.node.subscriptions.get("g").settings.topics == ("b",)
    assert [view.topic_id for view in rig.node.subscriptions.views_of("g")] == [rig.topic_b.id]
    rig.done(rig.node.share_groups.begin_without_members("g", ["a"]))
    assert rig.node.subscriptions.get("g").settings.topics == ("b", "a")
    rig.done(rig.node.share_groups.begin_without_members("made", ["a", "nothere"]))
    made = rig.node.share_groups.find("made")
    assert made is not None
    assert made.settings.topics == ("a",)


# --- listing ----------------------------------------------------------------------------------------------


def test_groups_are_listed_by_state_and_type(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    rig.beat("m1", 0, "a", group="f")
    rig.ask("m1", LEAVE_EPOCH, group="f")
    rig.done(rig.node.subscriptions.create("queue"))

    def listed(states: list[str], types: list[str]) -> list[tuple[str, str, str]]:
        listings = rig.done(rig.node.share_groups.list(states, types))
        assert all(group.protocol_type == group.type == "share" for group in listings)
        return [(group.group_id, group.state.value, group.type) for group in listings]

    assert listed([], []) == [("f", "Empty", "share"), ("g", "Stable", "share")]
    assert listed(["stable"], ["SHARE"]) == [("g", "Stable", "share")]
    assert listed([], ["classic"]) == []
    assert listed(["dead"], []) == []


# --- restarts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_snapshot", [False, True])
def test_members_survive_a_restart_and_go_on_with_their_epochs(rig: ShareNodeRig, has_snapshot: bool) -> None:
    rig.beat("m1", 0, "a", rack_id="r", client_id="c", client_host="h")
    rig.beat("m2", 0, "a", "b")
    epoch = rig.epoch()
    if has_snapshot:
        for _ in range(2):
            rig.node.queue_runtime.take_snapshot()
            rig.settle()
    rig.start()
    assert sorted(rig.members()) == ["m1", "m2"]
    assert rig.epoch() == epoch + 1, "the assignment may be another one"
    later, assignment = rig.beat("m1", 2, rack_id=None, client_id="c", client_host="h")
    assert (later, list(assignment)) == (epoch + 1, ["a"])
    assert rig.beat("m2", epoch)[1]["b"] == [0]
    assert refusal(rig.ask("m2", epoch + 2)) == "FENCED_MEMBER_EPOCH"
    (view,) = rig.done(rig.node.share_groups.describe(["g"]))
    first = next(member.facts for member in view.members if member.facts.member_id == "m1")
    assert (first.rack_id, first.client_id, first.client_host, first.topics) == ("r", "c", "h", ("a",))
    rig.settle(46)
    assert rig.members() == [], "sessions run after a restart, too"


def test_a_heartbeat_that_is_not_durable_fails_and_leaves_nothing(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    failures = iter([True])
    rig.disk.fail = lambda call, path: call == "sync" and next(failures, False)
    assert refusal(rig.ask("m2", 0, "a")) == "NOT_COORDINATOR"
    rig.settle(5)
    assert rig.members() == ["m1"]
    assert rig.beat("m1", 2)[1] == {"a": [0, 1]}, "its epoch is not known any more"


def test_the_epoch_never_falls_over_many_restarts(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    epoch = 0
    for number in range(6):
        rig.start()
        if number % 2:
            rig.done(rig.node.topics.add_partitions("a", 3 + number))
        now = rig.beat("m1", epoch or 2)[0]
        assert now >= epoch
        epoch = now
