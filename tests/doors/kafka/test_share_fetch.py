"""ShareFetch and ShareAcknowledge by raw requests: what is acquired, delivered again, and acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from mainstem.coordinator.queues import in_flight
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.engines.embedded.queues import batch_take, share_delivery
from mainstem.engines.embedded.queues.batch_take import advance
from mainstem.kafka_protocol.message import Message
from mainstem.log.storage.record_batch import CONTROL, BatchHeader, iter_batches
from tests.doors.kafka.share_kit import ACCEPT, GAP, REJECT, RELEASE, RENEW, ShareMember, ShareRig


def values(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def rig_with(*counts: int) -> tuple[ShareRig, ShareMember]:
    """A rig with batches of these numbers of records in partition 0, and a member."""
    rig = ShareRig()
    for count in counts:
        rig.produce(*values(count))
    return rig, rig.member()


# --- acquiring --------------------------------------------------------------------------------------------


def test_whole_batches_are_acquired_as_they_are_stored() -> None:
    rig, member = rig_with(3, 1, 4)
    stored = rig.node.partition(rig.node.topics.get("t"), 0).read_blocking(0, 1 << 20).data  # type: ignore[arg-type]
    fetched = member.fetch()
    assert fetched.lock_ms == 30_000
    assert fetched.acquired() == [(0, 7, 1)]
    assert bytes(fetched.parts[0].records) == bytes(stored)
    assert member.fetch().parts == {}
    assert rig.states(9) == "lllllllla"


def test_the_last_batch_is_acquired_whole_but_for_the_record_limit_mode() -> None:
    _, member = rig_with(3, 3, 3)
    fetched = member.fetch(max_records=4)
    assert (fetched.acquired(), fetched.batches()) == ([(0, 5, 1)], [0, 3])
    limited = member.fetch(max_records=1, share_acquire_mode=1)
    assert (limited.acquired(), limited.batches()) == ([(6, 6, 1)], [6])
    assert member.fetch(max_records=9, share_acquire_mode=1).acquired() == [(7, 8, 1)]


def test_where_consumers_have_too_much_altogether_a_fetch_waits_and_returns_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "IN_FLIGHT_BYTES_MAX", 1)
    monkeypatch.setattr(in_flight, "FREE_EVENTS", 2)
    rig, member = rig_with(6)
    for offset in range(2):
        fetched = member.fetch(max_records=1, share_acquire_mode=1)
        assert fetched.acquired() == [(offset, offset, 1)]
    member.send_fetch(max_wait=500)
    rig.clock.advance(0.4)
    assert not member.has_reply()
    rig.clock.advance(0.2)
    assert (member.fetch_reply().parts, rig.states(6)) == ({}, "llrrrr")
    member.acknowledge({0: [(0, 1, [ACCEPT])]})
    rig.clock.advance(1.1)
    assert member.fetch(max_records=1, share_acquire_mode=1).acquired() == [(2, 2, 1)]


def test_ranges_are_cut_at_batches_of_the_wanted_size() -> None:
    _, member = rig_with(2, 2, 2, 2)
    assert member.fetch(batch_size=3).acquired() == [(0, 3, 1), (4, 7, 1)]


def test_bytes_are_limited_but_one_batch_always_comes() -> None:
    rig = ShareRig()
    for _ in range(3):
        rig.produce(b"x" * 1000)
    member = rig.member()
    assert member.fetch(max_bytes=1).acquired() == [(0, 0, 1)]
    assert member.fetch(max_bytes=2500).acquired() == [(1, 2, 1)]


def test_nothing_is_wanted_and_nothing_is_given_at_once() -> None:
    _, member = rig_with(3)
    assert member.fetch(max_records=0, max_wait=9_000).parts == {}
    assert member.fetch(max_bytes=0, max_wait=9_000).parts == {}


def test_partitions_take_turns_and_share_the_limit() -> None:
    rig, member = rig_with(2, 2)
    rig.produce(b"p", b"q", index=1)
    fetched = member.fetch([0, 1], max_records=3)
    first = 1 if fetched.acquired(1) else 0
    assert fetched.acquired(first)
    rest = member.fetch([0, 1])
    assert sorted(fetched.acquired(0) + rest.acquired(0))[0][0] == 0
    assert rig.states(2, index=1) == "ll"


def test_batches_without_anything_acquired_are_left_out() -> None:
    rig, member = rig_with(2, 2, 2)
    member.fetch()
    member.acknowledge({0: [(0, 1, [RELEASE]), (2, 3, [ACCEPT]), (4, 5, [RELEASE])]})
    again = member.fetch()
    assert again.acquired() == [(0, 1, 2), (4, 5, 2)]
    assert again.batches() == [0, 4]
    assert rig.states(7) == "llxxlla"


def test_control_batches_and_offsets_without_a_batch_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, member = rig_with(1, 1, 1, 1)

    def batches(data: memoryview) -> Iterator[tuple[int, BatchHeader]]:
        for position, header in iter_batches(data):
            if header.base_offset == 1:
                yield position, header._replace(attributes=CONTROL)
            elif header.base_offset != 2:
                yield position, header

    monkeypatch.setattr(batch_take, "iter_batches", batches)
    fetched = member.fetch()
    assert fetched.acquired() == [(0, 0, 1), (3, 3, 1)]
    assert fetched.batches() == [0, 3]
    rig.clock.advance(1)
    assert rig.states(4) == "lxxl"


def test_what_retention_deletes_is_done() -> None:
    rig, member = rig_with(2, 2, 2)
    member.fetch(max_records=1)
    rig.wait(rig.node.partition(rig.node.topics.get("t"), 0).delete_records(3))  # type: ignore[arg-type]
    assert member.fetch().acquired() == [(3, 5, 1)]
    assert member.acknowledge({0: [(0, 1, [ACCEPT])]}) == (0, {0: 0}), "as Kafka: before the start"


# --- delivering again -------------------------------------------------------------------------------------


def test_what_is_released_comes_again_before_what_is_new_and_at_the_limit_no_more() -> None:
    rig, member = rig_with(3)
    rig.produce(b"new")
    deliveries = []
    for _ in range(5):
        fetched = member.fetch(max_records=1, share_acquire_mode=1)
        deliveries += fetched.acquired()
        member.acknowledge({0: [(0, 0, [RELEASE])]})
    assert deliveries == [(0, 0, count) for count in range(1, 6)]
    assert rig.states(5) == "xrrra"
    assert member.fetch().acquired() == [(1, 3, 1)]


def test_what_fails_often_comes_with_fewer_others_and_alone_at_last() -> None:
    _, member = rig_with(8)
    deliveries = []
    while acquired := member.fetch().acquired():
        deliveries += acquired
        member.acknowledge({0: [(first, last, [RELEASE]) for first, last, _ in acquired]})
    assert deliveries[:3] == [(0, 7, count) for count in (1, 2, 3)]
    halves = [(0, 3, 4), *[(n, n, 5) for n in range(4)], (4, 7, 4), *[(n, n, 5) for n in range(4, 8)]]
    assert deliveries[3:] == halves, "as Kafka 4.4"


def test_each_type_does_what_it_says() -> None:
    rig, member = rig_with(6)
    member.fetch()
    types = [ACCEPT, GAP, RELEASE, REJECT, RELEASE, ACCEPT]
    assert member.acknowledge({0: [(0, 5, types)]}) == (0, {0: 0})
    assert rig.states(6) == "xxrxrx"
    assert member.fetch().acquired() == [(2, 2, 2), (4, 4, 2)]


def test_a_lock_that_expires_is_a_delivery_and_a_late_acknowledgement_is_refused() -> None:
    rig, member = rig_with(4)
    member.fetch()
    rig.clock.advance(29.9)
    assert rig.states(4) == "llll"
    rig.clock.advance(0.2)
    assert rig.states(4) == "rrrr"
    assert member.acknowledge({0: [(0, 3, [ACCEPT])]}) == (0, {0: ErrorCode.INVALID_RECORD_STATE})
    assert rig.member("m2").fetch().acquired() == [(0, 3, 2)]


def test_renewed_locks_expire_later() -> None:
    rig, member = rig_with(4)
    member.fetch()
    rig.clock.advance(20)
    assert member.acknowledge({0: [(0, 1, [RENEW])]}, renew=True) == (0, {0: 0})
    limits = {"max_bytes": 0, "min_bytes": 0, "max_records": 0, "is_renew_ack": True}
    assert member.fetch([0], {0: [(2, 2, [RENEW])]}, **limits).errors() == {0: (0, 0)}
    rig.clock.advance(15)
    assert rig.states(4) == "lllr"
    rig.clock.advance(20)
    assert rig.states(4) == "rrrr"
    assert rig.member("m2").fetch().acquired() == [(0, 3, 2)]


def test_acknowledgements_survive_a_kill_and_locks_do_not() -> None:
    rig, member = rig_with(6)
    member.fetch()
    member.acknowledge({0: [(0, 1, [ACCEPT]), (3, 3, [RELEASE])]})
    rig.kill()
    member = rig.member()
    assert member.fetch().acquired() == [(2, 2, 1), (3, 3, 2), (4, 5, 1)]


# --- waiting ----------------------------------------------------------------------------------------------


def test_a_fetch_waits_and_is_woken_by_new_records() -> None:
    rig, member = rig_with()
    member.send_fetch([0, 1], max_wait=60_000)
    rig.clock.advance(30)
    assert not member.has_reply()
    rig.produce(b"a", index=1)
    assert member.fetch_reply().acquired(1) == [(0, 0, 1)]


def test_the_wait_ends_with_the_time_and_without_a_timer_before() -> None:
    rig, member = rig_with()
    member.send_fetch(max_wait=500)
    rig.clock.advance(0.4)
    assert not member.has_reply()
    rig.clock.advance(0.2)
    assert member.fetch_reply().parts == {}


def test_a_waiting_fetch_is_woken_by_what_others_give_back() -> None:
    rig, member = rig_with(3)
    member.fetch()
    waiting = rig.member("m2")
    waiting.send_fetch(max_wait=60_000)
    assert not waiting.has_reply()
    member.acknowledge({0: [(0, 0, [ACCEPT]), (1, 1, [RELEASE])]})
    assert waiting.fetch_reply().acquired() == [(1, 1, 2)]
    waiting.send_fetch(max_wait=60_000)
    rig.clock.advance(31)
    assert waiting.fetch_reply().acquired() == [(2, 2, 2)], "its lock has expired"


def test_of_many_that_wait_as_many_are_woken_as_get_something() -> None:
    rig, _ = rig_with()
    members = [rig.member(f"m{number}") for number in range(8)]
    for member in members:
        member.fetch()
    for member in members:
        member.send_fetch(max_wait=60_000, max_records=1)
    rig.produce(b"a")
    rig.produce(b"b")
    rig.clock.advance(1)
    assert [member.has_reply() for member in members] == [True, True] + [False] * 6


def test_a_wait_for_many_partitions_looks_at_those_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, member = rig_with()
    rig.wait(rig.node.topics.add_partitions("t", 300))
    rig.clock.advance(0.1)
    member.send_fetch(range(300), max_wait=60_000)
    rig.clock.advance(1)
    looks = 0

    def counted(*arguments: Any) -> bool:
        nonlocal looks
        looks += 1
        return advance(*arguments)

    monkeypatch.setattr(share_delivery, "advance", counted)
    rig.produce(b"a", index=7)
    assert member.fetch_reply().acquired(7) == [(0, 0, 1)]
    assert looks < 10


def test_less_than_the_least_bytes_waits_for_more() -> None:
    rig, member = rig_with(1)
    member.send_fetch(min_bytes=2_000, max_wait=60_000)
    assert not member.has_reply()
    rig.produce(b"x" * 2_500)
    assert member.fetch_reply().acquired() == [(0, 1, 1)]


def test_a_lost_connection_gives_back_what_its_member_has_and_ends_its_wait() -> None:
    rig, member = rig_with(3)
    member.fetch()
    member.send_fetch([0, 1], max_wait=60_000)
    other = rig.member("m2")
    other.send_fetch(max_wait=60_000)
    member.close()
    assert other.fetch_reply().acquired() == [(0, 2, 2)]
    assert len(rig.sessions) == 1
    rig.produce(b"a", index=1)
    assert rig.member("m3").fetch([1]).acquired(1) == [(0, 0, 1)]


# --- sessions ---------------------------------------------------------------------------------------------


def test_a_session_remembers_its_partitions() -> None:
    rig, member = rig_with(2)
    rig.produce(b"p", index=1)
    assert member.fetch([0]).acquired(0) == [(0, 1, 1)]
    assert member.fetch([1]).acquired(1) == [(0, 0, 1)]
    rig.produce(b"c")
    rig.produce(b"q", index=1)
    forgotten = [Message(topic_id=rig.topic_id, partitions=[1])]
    assert list(member.fetch([], forgotten_topics_data=forgotten).parts) == [0]
    assert member.fetch([]).parts == {}


def test_wrong_epochs_are_refused_and_change_nothing() -> None:
    _, member = rig_with(2)
    assert member.fetch(epoch=1).error == ErrorCode.SHARE_SESSION_NOT_FOUND
    assert member.fetch(epoch=-1).error == ErrorCode.SHARE_SESSION_NOT_FOUND
    assert member.acknowledge({}, epoch=3)[0] == ErrorCode.SHARE_SESSION_NOT_FOUND
    assert member.fetch().acquired() == [(0, 1, 1)]
    for epoch in (2, 7, -2):
        assert member.fetch(epoch=epoch).error == ErrorCode.INVALID_SHARE_SESSION_EPOCH
        assert member.acknowledge({}, epoch=epoch)[0] == ErrorCode.INVALID_SHARE_SESSION_EPOCH
    assert member.acknowledge({}, epoch=0)[0] == ErrorCode.INVALID_SHARE_SESSION_EPOCH
    assert member.acknowledge({0: [(0, 1, [ACCEPT])]}) == (0, {0: 0})
    assert member.fetch().error == 0


def test_the_final_epoch_acknowledges_and_gives_back_the_rest() -> None:
    rig, member = rig_with(4)
    member.fetch()
    fetched = member.fetch([0], {0: [(0, 1, [ACCEPT])]}, epoch=-1)
    assert (fetched.error, fetched.errors()) == (0, {0: (0, 0)})
    assert rig.states(4) == "xxrr"
    other = rig.member("m2")
    assert other.fetch().acquired() == [(2, 3, 2)]
    assert other.acknowledge({0: [(2, 2, [ACCEPT])]}, epoch=-1) == (0, {0: 0})
    assert rig.states(4) == "xxxr"
    assert len(rig.sessions) == 0


def test_a_session_that_begins_anew_keeps_what_its_member_has() -> None:
    rig, member = rig_with(3)
    member.fetch()
    moved = rig.member("m1")
    assert moved.fetch().acquired() == []
    member.close()
    assert rig.states(3) == "lll", "the session is not that of the first connection any more"
    assert moved.acknowledge({0: [(0, 2, [ACCEPT])]}) == (0, {0: 0})


def test_the_number_of_sessions_is_limited_and_who_is_refused_waits() -> None:
    rig, _ = rig_with()
    for number in range(rig.sessions_max):
        rig.member(f"m{number}").fetch()
    refused = rig.member("late")
    refused.send_fetch(max_wait=700)
    rig.clock.advance(0.6)
    assert not refused.has_reply()
    rig.clock.advance(0.2)
    assert refused.fetch_reply().error == ErrorCode.SHARE_SESSION_LIMIT_REACHED


# --- requests that are wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acks", "code"),
    [
        ([(3, 2, [1])], "INVALID_REQUEST"),
        ([(0, 1, [1]), (0, 0, [1])], "INVALID_REQUEST"),
        ([(0, 1, [])], "INVALID_REQUEST"),
        ([(0, 2, [1, 1])], "INVALID_REQUEST"),
        ([(0, 0, [5])], "INVALID_REQUEST"),
        ([(0, 0, [-1])], "INVALID_REQUEST"),
        ([(0, 0, [RENEW])], "INVALID_REQUEST"),  # the request does not say that it renews
        ([(-7, -2, [1])], "INVALID_REQUEST"),
        ([(0, 4, [1])], "INVALID_REQUEST"),  # beyond what was acquired
        ([(4, 9, [1])], "INVALID_REQUEST"),
        ([(0, 2**63 - 1, [1])], "INVALID_REQUEST"),
        ([(0, 1, [1]), (1, 1, [1])], "INVALID_RECORD_STATE"),  # twice
    ],
)
def test_a_wrong_acknowledgement_refuses_its_partition(
    acks: list[tuple[int, int, list[int]]], code: str
) -> None:
    rig, member = rig_with(4)
    rig.produce(b"p", index=1)
    member.fetch([0, 1])
    expected = {0: ErrorCode[code], 1: 0}
    assert member.acknowledge({0: acks, 1: [(0, 0, [ACCEPT])]}) == (0, expected)
    assert rig.states(4) == "llll"
    assert rig.states(1, index=1) == "x"
    piggybacked = member.fetch([0, 1], {0: acks})
    assert piggybacked.errors()[0] == (0, ErrorCode[code])


def test_what_another_member_has_cannot_be_acknowledged() -> None:
    rig, member = rig_with(2, 2)
    member.fetch(max_records=1)
    other = rig.member("m2")
    other.fetch()
    assert other.acknowledge({0: [(1, 3, [ACCEPT])]}) == (0, {0: ErrorCode.INVALID_RECORD_STATE})
    assert other.acknowledge({0: [(2, 3, [ACCEPT])]}) == (0, {0: 0})


def test_unknown_topics_and_partitions_are_named() -> None:
    rig, member = rig_with(1)
    fetched = member.fetch([0, 9])
    assert fetched.acquired(0) == [(0, 0, 1)]
    assert fetched.errors()[9] == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0)
    known, rig.topic_id = rig.topic_id, UUID(int=9)
    assert member.fetch([0]).errors()[0][0] == ErrorCode.UNKNOWN_TOPIC_ID
    assert member.acknowledge({0: [(0, 0, [1])]}) == (0, {0: ErrorCode.UNKNOWN_TOPIC_ID})
    rig.topic_id = known
    assert member.acknowledge({1: [(0, 0, [1])]}) == (0, {1: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION})


def test_requests_that_contradict_themselves_are_refused() -> None:
    rig, member = rig_with(1)
    assert rig.member("").fetch().error == ErrorCode.INVALID_REQUEST
    assert rig.member("m" * 37).fetch().error == ErrorCode.INVALID_REQUEST
    assert rig.member("m", group=None).fetch().error == ErrorCode.INVALID_REQUEST  # type: ignore[arg-type]
    assert member.fetch([0], {0: [(0, 0, [1])]}).error == ErrorCode.INVALID_REQUEST, "the first request"
    member.epoch = 0
    member.fetch()
    assert member.fetch(is_renew_ack=True).error == ErrorCode.INVALID_REQUEST
