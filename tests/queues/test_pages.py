"""Pages frozen and thawed, their tries, and every kind of damage to a frozen page."""

from __future__ import annotations

import random
import zlib

import pytest

from mainstem.queues.pages import (
    AHEAD,
    DONE,
    DYING,
    FILL,
    LEASED,
    LISTED_MAX,
    PAGE_POSITIONS,
    PARKED,
    READY,
    WAITING,
    OpenPage,
    freeze,
    is_all_ready,
    thaw,
    undone_of,
    undone_states,
)
from mainstem.queues.tries import COUNT_MAX, SPARSE_MAX, TryCounts


def random_page(seed: int) -> OpenPage:
    chance = random.Random(seed)
    states = bytearray(FILL[DONE])
    count = chance.choice((0, 1, 5, LISTED_MAX, LISTED_MAX + 1, 2000, PAGE_POSITIONS))
    allowed = chance.choice(((READY,), (AHEAD, READY, LEASED, WAITING, PARKED, DYING)))
    for offset in chance.sample(range(PAGE_POSITIONS), count):
        states[offset] = chance.choice(allowed)
    if chance.random() < 0.4:
        ahead = chance.randrange(PAGE_POSITIONS)
        states[ahead:] = FILL[AHEAD][ahead:]
    page = OpenPage(states)
    for offset in chance.sample(range(PAGE_POSITIONS), chance.choice((0, 3, 1000))):
        if states[offset] not in (DONE, AHEAD):
            page.words[offset] = chance.randrange(2**32)
            page.tries.put(offset, chance.randrange(1, 70_000), chance.randrange(70_000))
    return page


def everything(page: OpenPage) -> tuple[object, ...]:
    words = [word for word, state in zip(page.words, page.states, strict=True) if state != DONE]
    return bytes(page.states), words, list(page.tries), page.undone


@pytest.mark.parametrize("seed", range(30))
def test_a_page_is_the_same_after_freezing(seed: int) -> None:
    page = random_page(seed)
    data = freeze(page)
    assert everything(thaw(data)) == everything(page)
    assert freeze(thaw(data)) == data
    assert undone_of(data) == len(page.states.rstrip(FILL[AHEAD])) - page.states.count(DONE)
    plain = page.states.count(READY) == page.undone and not any(page.words) and not page.tries
    assert is_all_ready(data) == plain


@pytest.mark.parametrize("seed", range(30))
def test_a_durable_page_has_no_leases(seed: int) -> None:
    page = random_page(seed)
    thawed = thaw(freeze(page, durable=True))
    soft = {LEASED: READY, PARKED: READY}
    assert list(thawed.states) == [soft.get(state, state) for state in page.states]
    assert list(thawed.tries) == list(page.tries)
    for state, word, thawed_word in zip(page.states, page.words, thawed.words, strict=True):
        assert thawed_word == (word if state == DYING else 0)


def test_the_sizes_that_the_module_promises() -> None:
    states = bytearray(FILL[DONE])
    states[17] = READY
    lone = freeze(OpenPage(states))
    assert lone == bytes.fromhex("00 01 0011")
    assert freeze(OpenPage(bytearray(states))) is lone
    states[3000:] = FILL[AHEAD][3000:]
    assert freeze(OpenPage(states)) == bytes.fromhex("10 01 0011 0bb8")
    states[3000:] = FILL[DONE][3000:]
    states[:256] = FILL[READY][:256]
    assert len(freeze(OpenPage(states))) == 1 + 512


@pytest.mark.parametrize(
    ("damage", "data"),
    [
        ("nothing", ""),
        ("unknown flags", "80 00"),
        ("ahead that is cut off", "10 00 01"),
        ("ahead beyond the page", "10 00 1000"),
        ("a position that is ahead", "10 01 0005 0005"),
        ("a list that is cut off", "00 02 0001"),
        ("a list that is too long", "00 81" + "0001" * 129),
        ("positions that do not ascend", "00 02 0002 0001"),
        ("a position beyond the page", "00 01 1000"),
        ("a bitmap that is cut off", "01" + "ff" * 511),
        ("a state that is done", "02 01 0001 06"),
        ("states that are cut off", "02 02 0001 0002 02"),
        ("words that are cut off", "04 01 0001 0000"),
        ("tries without a count", "08 01 0001"),
        ("tries that are cut off", "08 01 0001 0001 0001"),
        ("tries that do not ascend", "08 01 0001 0002" + "0001 0001 0001" * 2),
        ("tries beyond the page", "08 01 0001 0001 1000 0001 0001"),
        ("an entry of zeros", "08 01 0001 0001 0001 0000 0000"),
        ("bytes after the end", "00 01 0001 00"),
        ("tries and counts", "28 01 0001 00010001"),
        ("counts that are cut off", "20 01 0001 000100"),
        ("counts that are few", "20 01 0001 00010001"),
        ("a stream that is none", "44 01 0001 ff"),
        ("a stream that is cut off", "42 01 0001 ab"),
        ("bytes after a stream", "42 01 0001" + (zlib.compress(b"\3", 1, -15) + b"\0").hex()),
        ("a stream that is too long", "42 01 0001" + zlib.compress(bytes(1 << 20), 1, -15).hex()),
    ],
)
def test_damage_is_a_value_error(damage: str, data: str) -> None:
    with pytest.raises(ValueError):
        thaw(bytes.fromhex(data))


@pytest.mark.parametrize("seed", range(3))
def test_a_page_of_retries_is_small(seed: int) -> None:
    chance = random.Random(seed)
    page = OpenPage(bytearray(FILL[WAITING]))
    for offset in range(PAGE_POSITIONS):
        page.words[offset] = 5000 + offset  # each acquired alone
        page.tries.put(offset, 1, 1)
    assert len(freeze(page)) < 1 + 512 + 512
    assert thaw(freeze(page)).words == page.words
    for offset in range(PAGE_POSITIONS):
        page.states[offset] = chance.choice((READY, WAITING, WAITING))
        page.words[offset] += chance.randrange(200)
        if page.states[offset] == WAITING:
            page.tries.put(offset, *[chance.choice((1, 1, 1, 2, 3))] * 2)
    data = freeze(page)
    assert len(data) < 3 * PAGE_POSITIONS, "of 9 bytes each"
    assert everything(thaw(data)) == everything(page)
    assert undone_states(data) == bytes(page.states)


def test_a_byte_of_damage_is_never_a_crash() -> None:
    chance = random.Random(5)
    for seed in range(12):
        data = bytearray(freeze(random_page(seed)))
        for _ in range(10):
            damaged = data[:]
            damaged[chance.randrange(min(len(damaged), 600))] = chance.randrange(256)
            del damaged[chance.choice((len(damaged), chance.randrange(len(damaged)))) :]
            try:
                assert thaw(bytes(damaged)).undone <= PAGE_POSITIONS
                assert len(undone_states(bytes(damaged))) <= PAGE_POSITIONS
            except ValueError:
                continue


def test_tries_are_a_dict_until_an_array_is_smaller() -> None:
    tries = TryCounts()
    expected: dict[int, tuple[int, int]] = {}
    chance = random.Random(3)
    for _ in range(4 * SPARSE_MAX):
        offset = chance.randrange(PAGE_POSITIONS)
        expected[offset] = (chance.randrange(1, 9), chance.randrange(9))
        tries.put(offset, *expected[offset])
        first = chance.randrange(PAGE_POSITIONS)
        end = first + chance.choice((1, 20))
        tries.clear(first, min(end, PAGE_POSITIONS))
        expected = {o: entry for o, entry in expected.items() if not first <= o < end}
        assert tries.within(100, 2000) == sorted(o for o in expected if 100 <= o < 2000)
        assert tries.get(offset) == expected.get(offset)
    assert list(tries) == [(offset, *entry) for offset, entry in sorted(expected.items())]
    assert list(TryCounts.decode(tries.encode() + b"rest")[0]) == list(tries)
    assert TryCounts.decode(tries.encode() + b"rest")[1] == b"rest"


def test_a_counter_stops_at_its_highest_value() -> None:
    tries = TryCounts()
    assert not tries
    tries.put(0, COUNT_MAX + 5, COUNT_MAX + 1)
    assert tries.get(0) == (COUNT_MAX, COUNT_MAX)
    tries.clear(0, 1)
    assert not tries
