"""The pure scheduler against a model: keys, order, commits, crashes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.api.scheduler.key_lanes import ALONE_MS, KeyLanes, LaneEvent
from mainstem.api.scheduler.notes import BITMAP_OFFSETS_MAX, CommitNotes, decode_notes, encode_notes
from mainstem.api.scheduler.partition_ledger import (
    DEATHS_MAX,
    OPEN_EVENTS_MAX,
    READ_EVENTS_MAX,
    WATCHED_EVENTS,
    PartitionLedger,
)
from mainstem.contract import Event
from tests.api.scheduler.lane_model import KEY, LaneModel, events_of

KEYS = st.lists(st.one_of(st.none(), st.sampled_from([b"a", b"b", b"c", b"d"])), min_size=12, max_size=60)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["read", "take", "finish", "fail", "settle", "commit", "acknowledge", "crash", "stop"]
        ),
        st.integers(0, 7),
    ),
    min_size=30,
    max_size=80,
)


def prepare(lane_event: LaneEvent) -> None:
    """No header says anything."""


@settings(max_examples=40, deadline=None)
@given(KEYS, STEPS, st.sampled_from([1, 3, 1_000_000]), st.sampled_from([1, 4]))
def test_nothing_overlaps_passes_another_gets_lost_or_is_repeated_too_often(
    keys: list[bytes | None], steps: list[tuple[str, int]], offset_step: int, workers: int
) -> None:
    model = LaneModel(events_of(keys, offset_step), workers)
    model.read(20)
    model.settle()
    for step, number in steps:
        match step:
            case "read":
                model.read(number * 3)
            case "take":
                for _ in range(number):
                    model.take()
            case "finish":
                model.finish(number)
            case "fail":
                model.fail(number, number * 500)
                model.now_ms += 1_000
            case "settle":
                model.settle()
            case "commit":
                model.commit()
            case "acknowledge":
                model.acknowledge()
            case "crash":
                model.crash(last_commit_arrives=number > 3)
            case "stop":
                model.stop()
    model.run_to_end()
    assert model.done == {event.offset for event in model.log}


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 59),
    st.integers(1, 8),
    st.integers(1, 9),
    st.booleans(),
    st.lists(st.integers(0, 5), max_size=9),
)
def test_an_event_that_kills_the_process_is_given_up_at_its_third_or_fourth_death(
    killer: int, workers: int, rounds: int, commits_arrive: bool, picks: list[int]
) -> None:
    keys = [b"%d" % (index % 7) for index in range(60)]
    model = LaneModel(events_of(keys), workers, killers=frozenset([killer]))
    for pick in picks:
        model.read(rounds)
        model.commit()
        model.acknowledge()
        model.take()
        model.finish(pick)
        if commits_arrive:
            model.commit()
            model.acknowledge()
    model.run_to_end()
    assert model.given_up == {killer}
    assert DEATHS_MAX <= model.runs[killer] <= DEATHS_MAX + 1
    assert model.done == set(range(60))


def test_an_event_is_not_given_up_when_its_process_is_killed_from_outside_three_times() -> None:
    """The third time before its handler began."""
    model = LaneModel(events_of([b"%d" % number for number in range(9)]), workers=3)
    for begins in (True, True, False):
        model.read(9)
        model.take()
        model.commit()
        model.acknowledge()
        if begins:
            model.take()
        model.crash()
    model.run_to_end()
    assert model.given_up == set()
    assert model.done == set(range(9))


def test_a_waiting_event_gives_its_worker_back_and_holds_only_its_key() -> None:
    model = LaneModel(events_of([b"a", b"a", b"b", None]), workers=1)
    model.read(4)
    model.take()
    assert not model.running, "nothing starts before a commit says that events run"
    model.commit()
    model.acknowledge()
    order = []
    first = model.take()
    assert first is not None
    model.fail(0, 5_000)
    while (taken := model.take()) is not None:
        order.append(taken.offset)
        model.finish(0)
    assert order == [2, 3]
    assert model.ledger.frontier == 0
    assert model.lanes.next_due_ms == model.now_ms + 5_000
    model.now_ms += 5_000
    assert model.take() is first
    assert first.attempt == 2
    model.finish(0)
    model.run_to_end()
    assert model.ledger.frontier == 4


def test_a_partition_is_full_before_its_bound_is_passed_and_has_room_again_at_half() -> None:
    model = LaneModel(events_of([None] * (OPEN_EVENTS_MAX + 1)))
    while not model.ledger.is_full:
        model.read(READ_EVENTS_MAX)
    assert len(model.ledger.open) <= OPEN_EVENTS_MAX
    assert not model.ledger.has_room
    large = PartitionLedger(KEY, 0, None)
    large.add(0, 64 << 20)
    assert large.is_full


def test_what_the_notes_have_no_room_for_is_not_started() -> None:
    """A key is stuck, and every second event after it, too: the ranges grow until none has room."""
    count = BITMAP_OFFSETS_MAX * 2
    keys = [b"stuck" if index % 2 == 0 else None for index in range(count)]
    log = events_of(keys)
    ledger, lanes = PartitionLedger(KEY, 0, None), KeyLanes()
    commit = ledger.commit()
    assert commit is not None
    ledger.acknowledged(commit)
    done, index = 0, 0
    stuck = None
    while True:
        lanes.add(log[index : index + 1_000], ledger, prepare)
        index += 1_000
        before = done
        while (taken := lanes.take(0)) is not None:
            if taken.key is None:
                lanes.finish(taken)
                done += 1
            else:
                stuck = taken
        commit = ledger.commit()
        assert commit is not None
        text = encode_notes(commit.notes)
        if before == done:
            break
    assert BITMAP_OFFSETS_MAX // 2 <= done < count // 2, "the bitmap's offsets, and then no more"
    notes = decode_notes(text, 0)
    assert notes is not None
    assert sum(end - begin for begin, end in notes.done) == done
    assert lanes.is_parked
    assert stuck is not None
    lanes.finish(stuck)
    lanes.unpark()
    assert lanes.take(0) is not None


def test_a_single_stuck_key_stops_nothing() -> None:
    """What is done behind one slow event is one range, however long."""
    ledger, lanes = PartitionLedger(KEY, 0, None), KeyLanes()
    commit = ledger.commit()
    assert commit is not None
    ledger.acknowledged(commit)
    for index in range(0, 30_000, 500):
        log = [Event(*KEY, offset, 0, b"%d" % offset, b"") for offset in range(index, index + 500)]
        lanes.add(log, ledger, prepare)
        while (taken := lanes.take(0)) is not None:
            if taken.offset:
                lanes.finish(taken)
    assert len(ledger.open) == 1
    commit = ledger.commit()
    assert commit is not None
    assert commit.notes.done == [(1, 30_000)]
    assert len(encode_notes(commit.notes)) < 40


def test_a_watched_partition_starts_no_event_before_a_commit_says_how_far() -> None:
    notes = CommitNotes(position=0, is_running=True)
    ledger, lanes = PartitionLedger(KEY, 0, notes), KeyLanes()
    lanes.add(events_of([None] * (3 * WATCHED_EVENTS)), ledger, prepare)
    started: list[int] = []
    for _ in range(3):
        assert lanes.take(0) is None
        commit = ledger.commit()
        assert commit is not None
        assert commit.notes.started_end == len(started) + WATCHED_EVENTS
        ledger.acknowledged(commit)
        lanes.unpark()
        while (taken := lanes.take(0)) is not None:
            assert taken.offset < commit.notes.started_end
            started.append(taken.offset)
    assert started == list(range(3 * WATCHED_EVENTS))


def test_a_suspect_that_takes_long_keeps_the_others_only_for_a_while() -> None:
    notes = CommitNotes(position=0, is_running=True, suspects={0: 1})
    ledger, lanes = PartitionLedger(KEY, 0, notes), KeyLanes()
    lanes.add(events_of([b"a", b"b"]), ledger, prepare)

    def commit() -> None:
        commit = ledger.commit()
        assert commit is not None
        ledger.acknowledged(commit)
        lanes.unpark()

    assert lanes.take(0) is None
    commit()
    suspect = lanes.take(0)
    assert suspect is not None
    assert suspect.offset == 0
    assert lanes.take(0) is None
    commit()
    assert lanes.take(ALONE_MS - 1) is None
    beside = lanes.take(ALONE_MS)
    assert beside is not None
    assert beside.offset == 1
    lanes.finish(suspect)
    lanes.finish(beside)


def test_a_dropped_partition_leaves_the_lanes_of_the_others() -> None:
    first, second, lanes = PartitionLedger(KEY, 0, None), PartitionLedger(("orders", 1), 0, None), KeyLanes()
    for ledger in (first, second):
        commit = ledger.commit()
        assert commit is not None
        ledger.acknowledged(commit)
    lanes.add(events_of([b"a", b"a", b"b", b"c"]), first, prepare)
    lanes.add(
        [Event("orders", 1, index, 0, key, b"") for index, key in enumerate([b"a", b"b", b"d"])],
        second,
        prepare,
    )
    running = lanes.take(0)
    waiting = lanes.take(0)
    assert running is not None
    assert waiting is not None
    assert (running.key, waiting.key) == (b"a", b"b")
    lanes.retry(waiting, 5_000)
    lanes.drop(first)
    keys = []
    while (taken := lanes.take(0)) is not None:
        assert taken.ledger is second
        keys.append(taken.key)
        lanes.finish(taken)
    assert keys == [b"d", b"b"], "the key of the event that still runs is held"
    lanes.abandon(running)
    last = lanes.take(0)
    assert last is not None
    assert (last.key, last.ledger) == (b"a", second)


def test_a_position_of_events_that_are_gone_does_not_hide_those_that_are_there() -> None:
    notes = CommitNotes(position=100, done=((105, 120),))
    ledger = PartitionLedger(KEY, 100, notes)
    assert [ledger.add(offset, 1) for offset in (3, 4, 106)] == [True, True, True]
    assert ledger.frontier == 3
