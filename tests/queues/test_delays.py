"""The index of waiting events: a model of it (I17, I18), its bytes and every kind of damage to them."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import settings as bounds
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mainstem.queues import delay_run as format_module
from mainstem.queues import delays as index_module
from mainstem.queues import stored_run
from mainstem.queues.delay_run import DamagedDelayRun, WaitingEntry, pack_entry, unpack_entries
from mainstem.queues.delays import DelayIndex
from tests.queues.run_stores import MemoryRuns

HOUR_MS = 3_600_000
START_MS = 1_800_000_000_000


def make_small(patch: pytest.MonkeyPatch, run_entries: int = 8, block_entries: int = 3) -> None:
    """Runs and blocks of a few entries, so that small tests have several of each."""
    for module in (format_module, index_module):
        patch.setattr(module, "RUN_ENTRIES", run_entries)
    for module in (format_module, index_module, stored_run):
        patch.setattr(module, "BLOCK_ENTRIES", block_entries)
    patch.setattr(index_module, "SORTED_OF_STEP", 3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make_small`, for a test."""
    make_small(monkeypatch)


def entries_of(packed: bytes) -> list[WaitingEntry]:
    return unpack_entries(packed)


class DelayIndexModel(RuleBasedStateMachine):
    """The same operations on `DelayIndex` and on a dict."""

    @initialize(run_entries=st.integers(2, 12), block_entries=st.integers(1, 5))
    def begin(self, run_entries: int, block_entries: int) -> None:
        self.patch = pytest.MonkeyPatch()
        make_small(self.patch, run_entries, block_entries)
        self.store = MemoryRuns()
        self.index = self.made()
        self.due: dict[int, int] = {}
        self.positions = 0
        self.now_ms = START_MS

    def made(self) -> DelayIndex:
        """An index whose runs are sorted in steps, some of them later, or never until they are needed."""
        self.steps = iter(())
        index = DelayIndex(self.store, sequence=7, on_full=lambda: setattr(self, "steps", index.steps()))
        return index

    @rule(count=st.integers(1, 5))
    def sort(self, count: int) -> None:
        for _ in range(count):
            assert 0 < next(self.steps, 1) <= format_module.RUN_ENTRIES

    @rule()
    def load(self) -> None:
        """Another index, of what this one has packed."""
        parts = list(self.index.packed())
        assert all(entries_of(part) == sorted(entries_of(part)) for part in parts)
        self.index.clear()
        assert self.store.runs == {}
        self.index = self.made()
        for part in parts:
            self.index.load(part)
        assert sorted(self.index.entries()) == sorted((due_ms, p) for p, due_ms in self.due.items())

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.pop_all()
            self.patch.undo()

    @rule(waits_ms=st.lists(st.integers(-5, 30) | st.integers(0, 3 * HOUR_MS), min_size=1, max_size=12))
    def add(self, waits_ms: list[int]) -> None:
        for wait_ms in waits_ms:
            self.add_entry(self.positions, self.now_ms + wait_ms)
            self.positions += 1

    def add_entry(self, position: int, due_ms: int) -> None:
        self.index.add(due_ms, position)
        self.due[position] = due_ms

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.due:
            position = data.draw(st.sampled_from(sorted(self.due)))
            self.index.cancel(position)
            del self.due[position]

    @rule(data=st.data(), wait_ms=st.integers(-5, 30) | st.integers(0, 3 * HOUR_MS))
    def wait_again(self, data: st.DataObject, wait_ms: int) -> None:
        """A position that was popped or cancelled; some of its old entries may be there still."""
        idle = sorted(set(range(self.positions)) - set(self.due))
        if idle:
            self.add_entry(data.draw(st.sampled_from(idle)), self.now_ms + wait_ms)

    @rule(step_ms=st.integers(-20, 40) | st.integers(0, HOUR_MS))
    def pop(self, step_ms: int) -> None:
        self.now_ms += step_ms
        popped = self.index.pop_due(self.now_ms)
        assert sorted(popped) == sorted(p for p, due_ms in self.due.items() if due_ms <= self.now_ms)
        due = [self.due.pop(position) for position in popped]
        assert due == sorted(due)
        next_ms = self.index.next_due_ms()
        assert next_ms is None or next_ms > self.now_ms, "a timer would fire at once, for nothing"

    @rule(step_ms=st.integers(0, HOUR_MS), max_entries=st.integers(1, 5))
    def pop_some(self, step_ms: int, max_entries: int) -> None:
        self.now_ms += step_ms
        waited = len(self.due)
        for position in self.index.pop_due(self.now_ms, max_entries):
            due_ms = self.due.pop(position)
            assert due_ms <= self.now_ms
            assert all(due_ms <= other for other in self.due.values())
        assert waited - len(self.due) <= max_entries or max_entries < 2

    @rule()
    def supply(self) -> None:
        for read in self.index.blocks_due_soon(self.now_ms):
            self.index.supply(read, self.store.read(read.run_id, read.start, read.size))

    @rule()
    def build_anew(self) -> None:
        """I18: the index made of what waits is the same."""
        entries = sorted(self.index.entries())
        assert entries == sorted((due_ms, position) for position, due_ms in self.due.items())
        self.index.clear()
        assert not self.store.runs
        for due_ms, position in entries:
            self.index.add(due_ms, position)

    @rule(page=st.integers(1, 5))
    def list_in_pages(self, page: int) -> None:
        listed: list[WaitingEntry] = []
        while len(part := self.index.waiting(page, listed[-1] if listed else None)) == page:
            listed += part
        listed += part
        assert listed == sorted(WaitingEntry(due_ms, 7, position) for position, due_ms in self.due.items())

    @invariant()
    def counts_and_the_next_time_are_right(self) -> None:
        assert len(self.index) == len(self.due)
        assert self.index.stored_runs == len(self.store.runs)
        next_ms = self.index.next_due_ms()
        assert not self.due or (next_ms is not None and next_ms <= min(self.due.values()))

    def pop_all(self) -> None:
        assert sorted(self.index.pop_due(self.now_ms + 10 * HOUR_MS)) == sorted(self.due)
        assert (len(self.index), self.index.next_due_ms(), self.store.runs) == (0, None, {})


TestDelayIndexModel = DelayIndexModel.TestCase
TestDelayIndexModel.settings = bounds(max_examples=80, stateful_step_count=40, deadline=None)


def filled(store: MemoryRuns, events: int, random: Random) -> DelayIndex:
    """Events over the next week, except for the next hour."""
    index = DelayIndex(store)
    index.place = 4711
    for position in range(events):
        index.add(START_MS + random.randrange(HOUR_MS, 168 * HOUR_MS), position)
    return index


def test_far_events_take_no_memory_and_16_bytes_of_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, 1024, 256)
    store, random = MemoryRuns(), Random(1)
    filled(store, 1024, random)
    tracemalloc.start()
    index = filled(store := MemoryRuns(), 20_000, random)
    assert index.pop_due(START_MS) == []
    stored = sum(map(len, store.runs.values()))
    in_memory = tracemalloc.get_traced_memory()[0] - stored
    tracemalloc.stop()
    assert index.stored_runs == 19
    assert stored <= 19 * (1024 * 16 + 64)
    assert in_memory < 1024 * 100 + 19 * 1000  # the heap, and a few numbers a run
    assert store.reads == 0


def test_only_blocks_that_are_near_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, 1024, 64)
    store = MemoryRuns()
    index = DelayIndex(store)
    for position in range(4096):
        index.add(START_MS + HOUR_MS + position * 1000, position)
    assert (index.stored_runs, index.blocks_due_soon(START_MS)) == (4, [])
    near_ms = START_MS + HOUR_MS - 30_000
    reads = index.blocks_due_soon(near_ms)
    assert [(read.run_id, read.block) for read in reads] == [(0, 0)]
    index.supply(reads[0], store.read(reads[0].run_id, reads[0].start, reads[0].size))
    assert index.blocks_due_soon(near_ms) == []
    store.reads = 0
    assert index.pop_due(START_MS + HOUR_MS + 4999) == [0, 1, 2, 3, 4]
    assert store.reads == 0
    assert [read.block for read in index.blocks_due_soon(START_MS + HOUR_MS + 10_000)] == [1]


@pytest.mark.usefixtures("small")
def test_what_is_near_stays_in_the_heap() -> None:
    store = MemoryRuns()
    index = DelayIndex(store)
    index.pop_due(START_MS)
    for position in range(8):
        index.add(START_MS + (position if position < 3 else HOUR_MS), position)
    assert index.stored_runs == 1
    assert len(unpack_entries(store.runs[0][32:48])) == 1
    assert index.pop_due(START_MS + 2) == [0, 1, 2]
    assert store.reads == 0


@pytest.mark.usefixtures("small")
def test_a_cancelled_event_that_waits_again_is_popped_at_its_new_time_only() -> None:
    index = DelayIndex(MemoryRuns())
    index.add(START_MS + 40, 2)
    index.add(START_MS + 10, 1)
    index.cancel(1)
    index.add(START_MS + 20, 1)
    index.cancel(1)
    index.add(START_MS + 15, 1)
    assert index.pop_due(START_MS + 10) == []
    assert index.pop_due(START_MS + 15) == [1]
    assert index.pop_due(START_MS + 30) == []
    assert (len(index), index.next_due_ms()) == (1, START_MS + 40)


@pytest.mark.usefixtures("small")
def test_the_entries_are_those_of_the_moment_of_the_call() -> None:
    index = DelayIndex(MemoryRuns())
    for position in range(40):
        index.add(START_MS + position, position)
    index.cancel(35)
    entries = index.entries()
    assert len(index.pop_due(START_MS + 20)) == 21
    index.cancel(30)
    index.add(START_MS + 50, 3)
    begun = [next(entries)]
    index.clear()
    index.add(START_MS, 99)
    expected = [(START_MS + position, position) for position in range(40) if position != 35]
    assert sorted([*begun, *entries]) == expected


def test_an_event_that_waits_again_until_the_same_time_is_listed_and_popped_once() -> None:
    index = DelayIndex(MemoryRuns())
    index.add(START_MS + 40, 2)
    index.add(START_MS, 1)
    index.cancel(1)
    index.add(START_MS, 1)
    assert list(index.entries()) == [(START_MS, 1), (START_MS + 40, 2)]
    assert index.waiting(9) == [(START_MS, 0, 1), (START_MS + 40, 0, 2)]
    assert len(index) == 2
    assert index.pop_due(START_MS) == [1]
    assert len(index) == 1


@pytest.mark.usefixtures("small")
def test_when_nothing_waits_any_more_nothing_is_stored() -> None:
    index = DelayIndex(store := MemoryRuns())
    for position in range(20):
        index.add(START_MS + HOUR_MS, position)
    assert len(store.runs) == 2
    for position in range(20):
        index.cancel(position)
    assert (len(index), index.next_due_ms(), store.runs) == (0, None, {})


@pytest.mark.usefixtures("small")
def test_the_next_block_is_not_read_before_it_is_near() -> None:
    index = DelayIndex(store := MemoryRuns())
    for position in range(8):
        index.add(START_MS + HOUR_MS * (1 + position // 3), position)
    assert index.pop_due(START_MS + HOUR_MS) == [0, 1, 2]
    assert store.reads == 1
    assert index.next_due_ms() == START_MS + 2 * HOUR_MS


def test_numbers_out_of_range_are_refused() -> None:
    index = DelayIndex(MemoryRuns())
    for due_ms, position in ((-1, 0), (1 << 44, 0), (0, -1), (0, 1 << 63)):
        with pytest.raises(ValueError, match="not an entry"):
            index.add(due_ms, position)
    assert len(index) == 0
    with pytest.raises(ValueError, match="sequence"):
        pack_entry(0, 1 << 20, 0)
    assert unpack_entries(pack_entry((1 << 44) - 1, (1 << 20) - 1, (1 << 63) - 1)) == [
        WaitingEntry((1 << 44) - 1, (1 << 20) - 1, (1 << 63) - 1)
    ]


def test_entries_are_ordered_as_their_bytes() -> None:
    random = Random(2)
    entries = sorted(
        WaitingEntry(random.randrange(1 << 44), random.randrange(1 << 20), random.randrange(1 << 63))
        for _ in range(300)
    )
    packed = [pack_entry(*entry) for entry in entries]
    assert all(low < high for low, high in pairwise(packed))


def test_the_bytes_of_a_run_are_those_of_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, 3, 2)
    store = MemoryRuns()
    index = DelayIndex(store, sequence=5)
    index.place = 99
    for due_ms, position in ((300, 3), (100, 1), (200, 2)):
        index.add(due_ms, position)
    (data,) = store.runs.values()
    assert struct.unpack_from(">6sHQQI", data) == (b"MSWAIT", 1, 0, 99, 3)
    blocks = [data[32:64], data[68:84]]
    assert [unpack_entries(block) for block in blocks] == [
        [WaitingEntry(100, 5, 1), WaitingEntry(200, 5, 2)],
        [WaitingEntry(300, 5, 3)],
    ]
    assert len(data) == 88


# ----------------------------------------------------------------------------------------------------------
# damage: each is reported, and the index can be built anew


def reversed_bits(data: bytes, index: int) -> bytes:
    """The bytes with one of them inverted."""
    return data[:index] + bytes([data[index] ^ 0xFF]) + data[index + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "lost": lambda data: b"",
    "cut in the header": lambda data: data[:20],
    "cut in a block": lambda data: data[:70],
    "another file": lambda data: b"MSPROD" + data[6:],
    "another version": lambda data: data[:7] + b"\x02" + data[8:],
    "a bit of the header": lambda data: reversed_bits(data, 20),
    "a bit of an entry": lambda data: reversed_bits(data, 40),
    "a bit of a checksum": lambda data: reversed_bits(data, 32 + 3 * 16),
    "blocks exchanged": lambda data: data[:32] + data[84:136] + data[32:84] + data[136:],
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_a_run_is_reported(kind: str) -> None:
    store = MemoryRuns()
    index = DelayIndex(store)
    due = {position: START_MS + HOUR_MS + position for position in range(20)}
    for position, due_ms in due.items():
        index.add(due_ms, position)
    store.runs[1] = DAMAGE[kind](store.runs[1])
    with pytest.raises(DamagedDelayRun, match="run 1 of waiting events") as damage:
        index.pop_due(START_MS + 2 * HOUR_MS)
    assert damage.value.run_id == 1
    index.clear()
    assert (store.runs, len(index), index.next_due_ms()) == ({}, 0, None)
    for position, due_ms in due.items():
        index.add(due_ms, position)
    assert sorted(index.pop_due(START_MS + 2 * HOUR_MS)) == sorted(due)


@pytest.mark.usefixtures("small")
def test_a_run_under_the_number_of_another_is_damage() -> None:
    store = MemoryRuns()
    index = DelayIndex(store)
    for position in range(16):
        index.add(START_MS + HOUR_MS, position)
    store.runs[0], store.runs[1] = store.runs[1], store.runs[0]
    with pytest.raises(DamagedDelayRun, match="holds run"):
        list(index.entries())
    with pytest.raises(DamagedDelayRun, match="holds run"):
        index.waiting(10)
    with pytest.raises(DamagedDelayRun, match="holds run"):
        index.pop_due(START_MS + HOUR_MS)


@pytest.mark.usefixtures("small")
def test_a_damaged_block_that_is_supplied_is_reported() -> None:
    store = MemoryRuns()
    index = DelayIndex(store)
    for position in range(8):
        index.add(START_MS + 1000, position)
    (read, following) = index.blocks_due_soon(START_MS)
    assert following.block == 1
    with pytest.raises(DamagedDelayRun, match="checksum of block 0"):
        index.supply(read, reversed_bits(store.read(read.run_id, read.start, read.size), 33))
