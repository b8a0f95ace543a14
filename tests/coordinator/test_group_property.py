"""Random clients, clocks, crashes and failing disks: what must hold of groups whatever happens.

- What is recorded and read back is what is remembered (replay(log) == live); a settled group is as recorded.
- While a group rebalances or is stable it has exactly one leader, a member of it.
- A generation that was recorded never falls.
- Everything that waits is answered once, in bounded time. (`Promise` refuses a second answer.)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.group import ClassicGroup
from mainstem.coordinator.groups.types import GroupRecord, GroupState, JoinReply, LeaveRequest, TopicRef
from mainstem.promise import Promise
from tests.coordinator.group_kit import GROUP, SESSION_MS, GroupRig, group_rig, subscription
from tests.support.fake_state import FakeStateLog

OFFERS = [
    (("range", subscription("flights")),),
    (("range", subscription("flights")), ("sticky", subscription("flights"))),
    (("sticky", subscription("weather")), ("range", subscription("weather"))),
]
SOME = st.integers(0, 7)


class GroupWorld(RuleBasedStateMachine):
    """Clients remember what they were told, and act on old news too."""

    def __init__(self) -> None:
        super().__init__()
        self.k: GroupRig = group_rig(
            state=FakeStateLog(auto=False), group_initial_rebalance_delay_ms=500, group_max_size=4
        )
        self.told: list[JoinReply] = []
        self.ids: list[str] = []
        self.open: list[Promise[Any]] = []
        self.recorded = 0

    def track(self, later: Promise[Any]) -> None:
        self.open.append(later)
        later.then(self.learn)

    def learn(self, later: Promise[Any]) -> None:
        if later.error is not None:
            assert isinstance(later.error, CoordinatorError)
            member_id = getattr(later.error, "member_id", None)
            if member_id is not None:
                self.ids.append(member_id)
        elif isinstance(later.result(), JoinReply):
            self.told.append(later.result())
            self.ids.append(later.result().member_id)

    def somebody(self, which: int) -> JoinReply:
        nobody = JoinReply(member_id="nobody", generation=1, protocol_type=None, protocol=None, leader="")
        return self.told[-1 - which % len(self.told)] if self.told else nobody

    # --- clients ------------------------------------------------------------------------------------------

    @rule(
        offer=st.sampled_from(OFFERS), must_know=st.booleans(), instance=st.sampled_from([None, "w-1", "w-2"])
    )
    def join(self, offer: Any, must_know: bool, instance: str | None) -> None:
        self.track(self.k.join(protocols=offer, requires_member_id=must_know, instance_id=instance))

    @rule(which=SOME, offer=st.sampled_from(OFFERS), instance=st.sampled_from([None, "w-1"]))
    def join_again(self, which: int, offer: Any, instance: str | None) -> None:
        if self.ids:
            member_id = self.ids[-1 - which % len(self.ids)]
            self.track(self.k.join(member_id, protocols=offer, instance_id=instance))

    @rule(which=SOME)
    def sync(self, which: int) -> None:
        joined = self.somebody(which)
        plan = {one.member_id: one.member_id.encode() for one in joined.members}
        self.track(self.k.sync(joined, plan))

    @rule(offer=st.sampled_from(OFFERS))
    def all_do_as_they_should(self, offer: Any) -> None:
        """Members join again, the leader assigns, all ask for what they get: rarely by chance alone."""
        group = self.live()
        for member in list(group.members.values()) if group else ():
            self.track(self.k.join(member.member_id, protocols=offer, instance_id=member.instance_id))
        self.k.state.commit()
        self.k.advance_ms(500)
        for joined in self.told[-4:]:
            self.track(self.k.sync(joined, {one.member_id: b"part" for one in joined.members}))
        self.k.state.commit()

    @rule(which=SOME)
    def beat(self, which: int) -> None:
        self.k.heartbeat(self.somebody(which))

    @rule(which=SOME, offset=st.integers(0, 9), partition=st.integers(0, 4))
    def commit(self, which: int, offset: int, partition: int) -> None:
        self.track(self.k.commit(self.somebody(which), offset, partition=partition))

    @rule(offset=st.integers(0, 9))
    def reset_offset(self, offset: int) -> None:
        self.track(self.k.commit(offset=offset))

    @rule(which=SOME, instance=st.booleans())
    def leave(self, which: int, instance: bool) -> None:
        leaving = LeaveRequest("", "w-1") if instance else LeaveRequest(self.somebody(which).member_id)
        self.track(self.k.groups.leave(GROUP, [leaving]))

    @rule()
    def delete(self) -> None:
        later = self.k.groups.delete(GROUP)
        later.then(lambda done: setattr(self, "recorded", 0) if done.error is None else None)
        self.track(later)

    @rule()
    def delete_offset(self) -> None:
        self.track(self.k.groups.delete_offsets(GROUP, [(TopicRef("flights"), [0])]))

    # --- the world ----------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 499, 501, SESSION_MS - 1, SESSION_MS, 70_000]))
    def pass_time(self, ms: int) -> None:
        self.k.advance_ms(ms)

    @rule()
    def disk_commits(self) -> None:
        self.k.state.commit()

    @rule()
    def disk_fails(self) -> None:
        self.k.state.fail()
        self.k.clock.run()

    @rule()
    def disk_refuses_for_a_while(self) -> None:
        self.k.state.refuse = None if self.k.state.refuse else "no space left"

    @rule()
    def crash(self) -> None:
        self.k.state.refuse = None
        self.k = self.k.restart()
        self.open.clear()

    # --- what must hold -----------------------------------------------------------------------------------

    def live(self) -> ClassicGroup | None:
        return self.k.groups._live.get(GROUP)

    @invariant()
    def one_leader(self) -> None:
        group = self.live()
        if group is None:
            return
        if group.state in (GroupState.COMPLETING, GroupState.STABLE):
            assert group.leader in group.members
            assert group.protocol in {name for one in group.members.values() for name, _ in one.protocols}
        if group.state is GroupState.EMPTY:
            assert not group.members
            assert group.leader is None
        assert set(group.instances.values()) <= set(group.members)
        assert not set(group.pending) & set(group.members)
        offers = [name for one in group.members.values() for name in {name for name, _ in one.protocols}]
        assert group._offers == Counter(offers)

    @invariant()
    def nobody_waits_for_what_is_not_coming(self) -> None:
        group = self.live()
        for member in group.members.values() if group else ():
            assert member.pending_join is None or group.state is GroupState.PREPARING  # type: ignore[union-attr]
            assert member.pending_sync is None or group.state is GroupState.COMPLETING  # type: ignore[union-attr]

    @invariant()
    def a_settled_group_is_as_recorded(self) -> None:
        group = self.live()
        saved = self.k.groups._records.get(GROUP)
        if group is not None and group.state is GroupState.STABLE:
            assert group.record() == saved

    @invariant()
    def replayed_is_live(self) -> None:
        if not self.k.runtime.all_durable:
            return
        other = group_rig(state=self.k.state, disk=self.k.disk, group_max_size=1 << 30).groups
        assert list(other.snapshot()) == list(self.k.groups.snapshot())
        for record in self.k.groups.snapshot():
            if isinstance(record, GroupRecord):
                assert record.generation >= self.recorded
                self.recorded = record.generation

    def teardown(self) -> None:
        """The disk works again and the clients are silent: all is answered, everybody is out."""
        self.k.state.refuse = None
        self.k.state.auto = True
        self.k.state.commit()
        self.k.clock.run()
        for _ in range(12):
            self.k.advance_ms(60_000)
        assert all(later.done for later in self.open)
        assert self.k.state_of() in (None, "Empty")
        self.replayed_is_live()


GroupWorld.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_groups_in_a_rough_world = GroupWorld.TestCase
