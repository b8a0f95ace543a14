"""Loading the state log leads to the live state, whatever was written and whatever failed."""

from __future__ import annotations

import copy
import random
from typing import Any, cast

import msgspec
from hypothesis import settings as bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mainstem.access_contract import (
    ANY_HOST,
    ANY_NAME,
    USER,
    Acl,
    ApiToken,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
    ScramMechanism,
    ScramVerifier,
)
from mainstem.coordinator.access.users import KEY_BYTES
from mainstem.coordinator.groups.types import (
    CommitRequest,
    GroupRecord,
    GroupTombstone,
    MemberRecord,
    NewOffset,
    OffsetsCommitted,
    TopicRef,
)
from mainstem.coordinator.runtime import snapshots as module
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.coordinator.runtime.state_log import STATE_LOG
from mainstem.coordinator.state_machines import StateMachines
from mainstem.log.disk.contract import Disk
from mainstem.masking.rules import ANY_PART, MaskKind, MaskPath, MaskRule
from mainstem.quota_contract import QuotaEntity, QuotaKey
from mainstem.settings import Settings
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateDisk, FakeStateLog

NAMES = st.sampled_from(["a", "b", "c.d", "c_d"])
QUOTA_NAMES = st.sampled_from([None, "", "a"])
GROUPS = st.sampled_from(["g1", "g2"])
CONFIGS = st.dictionaries(
    st.sampled_from(["retention.ms", "segment.ms", "nonsense"]), st.sampled_from(["1", "2", "x"]), max_size=2
)


def acl(name: str, pattern: PatternType) -> Acl:
    """An entry about topics."""
    everybody = Principal(USER, ANY_NAME)
    return Acl(ResourceType.TOPIC, name, pattern, everybody, ANY_HOST, Operation.READ, Permission.ALLOW)


class CoordinatorRig:
    """All state machines on one state log."""

    def __init__(self, log: FakeStateLog, disk: FakeStateDisk, clock: SimClock, seed: int) -> None:
        self.machines = StateMachines.create(Settings(), clock, random.Random(seed))
        self.topics, self.producer_ids, self.groups = self.machines[:3]
        self.runtime = Runtime(cast(Disk, disk), log, clock, self.machines.of(STATE_LOG))
        self.machines.connect([self.runtime])
        self.runtime.on_reloaded.append(self.groups.start)
        self.runtime.load()
        self.groups.start()

    def state(self) -> list[bytes]:
        """The whole state, in an order that does not depend on its history."""
        facts: list[Any] = [
            (topic.name, topic.id, topic.partitions, dict(topic.config), topic.internal)
            for topic in self.topics.all()
        ]
        facts += [("tombstones", *map(str, self.topics.tombstones())), ("ids", self.producer_ids.end)]
        for machine in self.machines.of(STATE_LOG):
            for record in machine.snapshot():
                if isinstance(record, OffsetsCommitted):
                    facts += [("offset", record.group_id, *offset) for offset in record.offsets]
                else:
                    facts.append(record)
        return sorted(msgspec.msgpack.encode(fact) for fact in facts)


class StateReplay(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1 << 30), slice_bytes=st.integers(1, 400))
    def begin(self, seed: int, slice_bytes: int) -> None:
        self.slice_before = module.SLICE_BYTES
        module.SLICE_BYTES = slice_bytes
        self.seed = seed
        self.clock, self.disk = SimClock(), FakeStateDisk()
        self.log = FakeStateLog(auto_commit=False)
        self.live = CoordinatorRig(self.log, self.disk, self.clock, seed)
        self.states_by_log_end = {0: self.live.state()}

    def teardown(self) -> None:
        module.SLICE_BYTES = self.slice_before

    @invariant()
    def remember(self) -> None:
        if self.live.runtime.fenced is None:
            self.states_by_log_end[self.log.log_end_offset] = self.live.state()

    # --- writes -------------------------------------------------------------------------------------------

    @rule(name=NAMES, partitions=st.integers(-1, 3), config=CONFIGS)
    def create(self, name: str, partitions: int, config: dict[str, str]) -> None:
        self.live.topics.create(name, partitions, config)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.live.topics.delete(name)

    @rule(name=NAMES, total=st.integers(1, 5))
    def grow(self, name: str, total: int) -> None:
        self.live.topics.add_partitions(name, total)

    @rule(name=NAMES, config=CONFIGS)
    def configure(self, name: str, config: dict[str, str]) -> None:
        self.live.topics.set_config(name, config)

    @rule()
    def forget(self) -> None:
        for topic_id in self.live.topics.tombstones()[:1]:
            self.live.topics.purge(topic_id)

    @rule()
    def reserve_server_id(self) -> None:
        self.live.producer_ids.reserve_server_id()

    @rule()
    def skip_lost_ids(self) -> None:
        self.live.producer_ids.skip_lost_ids()

    @rule(times=st.integers(1, 700))
    def producers(self, times: int) -> None:
        self.live.producer_ids.reserve_server_id()
        self.remember()  # else the first allocation would write two batches in one step
        for _ in range(times):
            self.live.producer_ids.allocate()

    @rule(group=GROUPS, name=NAMES, offset=st.integers(0, 9))
    def commit_offset(self, group: str, name: str, offset: int) -> None:
        new = NewOffset(0, offset, 3, "note")
        self.live.groups.commit(CommitRequest(group_id=group, topics=((TopicRef(name), (new,)),)))

    @rule(group=GROUPS, generation=st.integers(0, 3), members=st.integers(0, 2))
    def save_group(self, group: str, generation: int, members: int) -> None:
        those = tuple(
            MemberRecord(f"m{n}", None, "c", "/h", 10_000, 60_000, (("range", b"x"),), b"\0\1")
            for n in range(members)
        )
        record = GroupRecord(group, generation, "consumer", "range", "m0" if members else None, 5, those)
        self.live.runtime.write(lambda: ((record,), None))

    @rule(group=GROUPS)
    def forget_group(self, group: str) -> None:
        self.live.runtime.write(lambda: ((GroupTombstone(group),), None))

    @rule(user=QUOTA_NAMES, client_id=QUOTA_NAMES, value=st.sampled_from((None, 0.0, 1.0, 2.0)))
    def alter_quota(self, user: str | None, client_id: str | None, value: float | None) -> None:
        self.live.machines.quotas.alter(QuotaEntity(user, client_id), {QuotaKey.PRODUCE: value})

    @rule(name=NAMES, mechanism=st.sampled_from(ScramMechanism), salt=st.binary(min_size=1, max_size=2))
    def put_user(self, name: str, mechanism: ScramMechanism, salt: bytes) -> None:
        key = bytes(KEY_BYTES[mechanism])
        self.live.machines.users.put(name, [ScramVerifier(mechanism, salt, 4096, key, key)])

    @rule(name=NAMES, mechanisms=st.lists(st.sampled_from(ScramMechanism)))
    def delete_user(self, name: str, mechanisms: list[ScramMechanism]) -> None:
        self.live.machines.users.delete(name, mechanisms)

    @rule(names=st.lists(NAMES), pattern=st.sampled_from((PatternType.LITERAL, PatternType.PREFIXED)))
    def create_acls(self, names: list[str], pattern: PatternType) -> None:
        self.live.machines.acls.create([acl(name, pattern) for name in names])

    @rule(names=st.lists(NAMES), pattern=st.sampled_from((PatternType.LITERAL, PatternType.PREFIXED)))
    def delete_acls(self, names: list[str], pattern: PatternType) -> None:
        self.live.machines.acls.delete([acl(name, pattern) for name in names])

    @rule(name=NAMES, kind=st.sampled_from(MaskKind))
    def put_mask_rule(self, name: str, kind: MaskKind) -> None:
        path = MaskPath("field", (name, ANY_PART))
        everybody = (Principal(USER, ANY_NAME),)
        mask = MaskRule(name, "a", PatternType.LITERAL, path, kind, everybody)
        self.live.machines.mask_rules.put_rule(mask)

    @rule(name=NAMES)
    def delete_mask_rule(self, name: str) -> None:
        self.live.machines.mask_rules.delete_rule(name)

    @rule(
        name=NAMES, number=st.integers(0, 9), scopes=st.frozensets(st.sampled_from(("read-only", "topics:a")))
    )
    def add_api_token(self, name: str, number: int, scopes: frozenset[str]) -> None:
        if all(known.id != str(number) for known in self.live.machines.api_tokens.tokens()):
            made = ApiToken(
                id=str(number), user=name, name="n", scopes=scopes, created_ms=number, expires_ms=number + 5
            )
            self.live.machines.api_tokens.add(made, bytes([number]) * 32)

    @rule(number=st.integers(0, 9))
    def delete_api_token(self, number: int) -> None:
        self.live.machines.api_tokens.delete(str(number))

    # --- what happens to them -----------------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        self.log.commit()

    @rule(share=st.floats(0, 1))
    def commit_some(self, share: float) -> None:
        ends = [end for _, end, _ in self.log.batches if end > self.log.high_watermark]
        if ends:
            self.log.commit(until=ends[int(share * (len(ends) - 1))])

    @rule()
    def fail(self) -> None:
        self.log.fail()
        self.clock.run()
        assert self.live.runtime.fenced is None
        assert self.live.state() == self.states_by_log_end[self.log.high_watermark]

    @rule()
    def snapshot(self) -> None:
        self.live.runtime.take_snapshot()

    @rule()
    def turn(self) -> None:
        self.clock.run()

    @rule()
    def kill(self) -> None:
        self.live.runtime.close()  # what is left of the process writes no more
        self.log.fail()
        self.seed += 1
        self.live = CoordinatorRig(self.log, self.disk, self.clock, self.seed)
        assert self.live.state() == self.states_by_log_end[self.log.high_watermark]

    @rule()
    def compare(self) -> None:
        """Load a copy of what is durable, and compare."""
        durable = copy.copy(self.log)
        durable.waiters = []
        durable.batches = [batch for batch in self.log.batches if batch[1] <= self.log.high_watermark]
        durable.log_end_offset = self.log.high_watermark
        disk = copy.deepcopy(self.disk)
        assert (
            CoordinatorRig(durable, disk, SimClock(), 0).state()
            == self.states_by_log_end[self.log.high_watermark]
        )
        for path in list(disk.files)[-1:]:
            disk.files[path] = b"damaged"
        assert (
            CoordinatorRig(durable, disk, SimClock(), 0).state()
            == self.states_by_log_end[self.log.high_watermark]
        )


TestStateReplay = StateReplay.TestCase
TestStateReplay.settings = bounds(max_examples=100, stateful_step_count=40, deadline=None)
