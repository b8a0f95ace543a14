"""Invariants of groups under random clients, clocks, crashes and failing disks.

- The state that is loaded from the log is the live state; a stable group is as it is recorded.
- A group that rebalances or is stable has exactly one leader, which is a member.
- The recorded generation never decreases.
- Every waiting request gets one reply, in bounded time. (`Promise` refuses a second one.)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.group import PENDING_BYTES, ClassicGroup
from mainstem.coordinator.groups.types import GroupRecord, GroupState, JoinReply, LeaveRequest, TopicRef
from mainstem.promise import Promise
from tests.coordinator.group_rig import GROUP, SESSION_MS, GroupRig, group_rig, subscription
from tests.support.fake_state import FakeStateLog

OFFERS = [
    (("range", subscription("flights")),),
    (("range", subscription("flights")), ("sticky", subscription("flights"))),
    (("sticky", subscription("weather")), ("range", subscription("weather"))),
]
SOME = st.integers(0, 7)


class RandomGroupRequests(RuleBasedStateMachine):
    """Random requests of clients that remember old replies, and act on these too."""

    def __init__(self) -> None:
        super().__init__()
        self.rig: GroupRig = group_rig(
            state=FakeStateLog(auto_commit=False), group_initial_rebalance_delay_ms=500, group_max_size=4
        )
        self.replies: list[JoinReply] = []
        self.ids: list[str] = []
        self.open: list[Promise[Any]] = []
        self.recorded = 0

    def track(self, promise: Promise[Any]) -> None:
        self.open.append(promise)
        promise.then(self.note_reply)

    def note_reply(self, promise: Promise[Any]) -> None:
        if promise.error is not None:
            assert isinstance(promise.error, CoordinatorError)
            member_id = getattr(promise.error, "member_id", None)
            if member_id is not None:
                self.ids.append(member_id)
        elif isinstance(promise.result(), JoinReply):
            self.replies.append(promise.result())
            self.ids.append(promise.result().member_id)

    def random_reply(self, choice: int) -> JoinReply:
        unknown = JoinReply(member_id="unknown", generation=1, protocol_type=None, protocol=None, leader="")
        return self.replies[-1 - choice % len(self.replies)] if self.replies else unknown

    # --- clients ------------------------------------------------------------------------------------------

    @rule(
        offer=st.sampled_from(OFFERS), must_know=st.booleans(), instance=st.sampled_from([None, "w-1", "w-2"])
    )
    def join(self, offer: Any, must_know: bool, instance: str | None) -> None:
        self.track(self.rig.join(protocols=offer, requires_member_id=must_know, instance_id=instance))

    @rule(choice=SOME, offer=st.sampled_from(OFFERS), instance=st.sampled_from([None, "w-1"]))
    def join_again(self, choice: int, offer: Any, instance: str | None) -> None:
        if self.ids:
            member_id = self.ids[-1 - choice % len(self.ids)]
            self.track(self.rig.join(member_id, protocols=offer, instance_id=instance))

    @rule(choice=SOME)
    def sync(self, choice: int) -> None:
        joined = self.random_reply(choice)
        plan = {member.member_id: member.member_id.encode() for member in joined.members}
        self.track(self.rig.sync(joined, plan))

    @rule(offer=st.sampled_from(OFFERS))
    def complete_rebalance(self, offer: Any) -> None:
        """A whole rebalance by the rules, which random requests rarely complete."""
        group = self.live()
        for member in list(group.members.values()) if group else ():
            self.track(self.rig.join(member.member_id, protocols=offer, instance_id=member.instance_id))
        self.rig.state.commit()
        self.rig.advance_ms(500)
        for joined in self.replies[-4:]:
            self.track(self.rig.sync(joined, {member.member_id: b"part" for member in joined.members}))
        self.rig.state.commit()

    @rule(choice=SOME)
    def heartbeat(self, choice: int) -> None:
        self.rig.heartbeat(self.random_reply(choice))

    @rule(choice=SOME, offset=st.integers(0, 9), partition=st.integers(0, 4))
    def commit(self, choice: int, offset: int, partition: int) -> None:
        self.track(self.rig.commit(self.random_reply(choice), offset, partition=partition))

    @rule(offset=st.integers(0, 9))
    def reset_offset(self, offset: int) -> None:
        self.track(self.rig.commit(offset=offset))

    @rule(choice=SOME, instance=st.booleans())
    def leave(self, choice: int, instance: bool) -> None:
        leaving = LeaveRequest("", "w-1") if instance else LeaveRequest(self.random_reply(choice).member_id)
        self.track(self.rig.groups.leave(GROUP, [leaving]))

    @rule()
    def delete(self) -> None:
        promise = self.rig.groups.delete(GROUP)
        promise.then(lambda done: setattr(self, "recorded", 0) if done.error is None else None)
        self.track(promise)

    @rule()
    def delete_offset(self) -> None:
        self.track(self.rig.groups.delete_offsets(GROUP, [(TopicRef("flights"), [0])]))

    # --- the world ----------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 499, 501, SESSION_MS - 1, SESSION_MS, 70_000]))
    def pass_time(self, ms: int) -> None:
        self.rig.advance_ms(ms)

    @rule()
    def disk_commits(self) -> None:
        self.rig.state.commit()

    @rule()
    def disk_fails(self) -> None:
        self.rig.state.fail()
        self.rig.clock.run()

    @rule()
    def disk_refuses_for_a_while(self) -> None:
        self.rig.state.append_error = None if self.rig.state.append_error else "no space left"

    @rule()
    def crash(self) -> None:
        self.rig.state.append_error = None
        self.rig = self.rig.restart()
        self.open.clear()

    # --- what must hold -----------------------------------------------------------------------------------

    def live(self) -> ClassicGroup | None:
        return self.rig.groups._live.get(GROUP)

    @invariant()
    def one_leader(self) -> None:
        group = self.live()
        if group is None:
            return
        if group.state in (GroupState.COMPLETING, GroupState.STABLE):
            assert group.leader in group.members
            assert group.protocol in {
                name for member in group.members.values() for name, _ in member.protocols
            }
        if group.state is GroupState.EMPTY:
            assert not group.members
            assert group.leader is None
        assert set(group.instances.values()) <= set(group.members)
        assert not set(group.pending) & set(group.members)
        offers = [
            name for member in group.members.values() for name in {name for name, _ in member.protocols}
        ]
        assert group._offers == Counter(offers)

    @invariant()
    def requests_wait_only_in_the_state_that_ends_their_wait(self) -> None:
        group = self.live()
        for member in group.members.values() if group else ():
            assert member.pending_join is None or group.state is GroupState.PREPARING  # type: ignore[union-attr]
            assert member.pending_sync is None or group.state is GroupState.COMPLETING  # type: ignore[union-attr]

    @invariant()
    def memory_is_that_of_the_members(self) -> None:
        group = self.live()
        used = self.rig.groups.memory.used_bytes
        if group is None:
            assert used == 0
        else:
            assert (
                used
                == group.memory_bytes
                == ClassicGroup(GROUP).memory_bytes
                + sum(member.memory_bytes for member in group.members.values())
                + sum(PENDING_BYTES + len(member_id) for member_id in group.pending)
            )

    @invariant()
    def a_stable_group_is_as_recorded(self) -> None:
        group = self.live()
        record = self.rig.groups._records.get(GROUP)
        if group is not None and group.state is GroupState.STABLE:
            assert group.record() == record

    @invariant()
    def loaded_state_is_live_state(self) -> None:
        if not self.rig.runtime.all_durable:
            return
        other = group_rig(state=self.rig.state, disk=self.rig.disk, group_max_size=1 << 30).groups
        assert list(other.snapshot()) == list(self.rig.groups.snapshot())
        for record in self.rig.groups.snapshot():
            if isinstance(record, GroupRecord):
                assert record.generation >= self.recorded
                self.recorded = record.generation

    def teardown(self) -> None:
        """Let the disk work again and the clients stay silent: all requests get a reply, all members are
        removed."""
        self.rig.state.append_error = None
        self.rig.state.auto_commit = True
        self.rig.state.commit()
        self.rig.clock.run()
        for _ in range(12):
            self.rig.advance_ms(60_000)
        assert all(promise.done for promise in self.open)
        assert self.rig.state_of() in (None, "Empty")
        self.loaded_state_is_live_state()


RandomGroupRequests.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_groups_keep_their_invariants = RandomGroupRequests.TestCase
