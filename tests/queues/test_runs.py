"""Runs of positions and their encoding: round trips, sizes, and every kind of damage."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.queues.runs import (
    POSITION_END,
    Run,
    add_run,
    count_positions,
    cut_runs,
    decode_runs,
    encode_runs,
    merge_runs,
    runs_of,
)

sets_of_positions = st.sets(st.integers(0, 300))


@given(sets_of_positions, st.integers(0, 2**62))
def test_what_is_encoded_is_decoded(positions: set[int], base: int) -> None:
    runs = runs_of(base + position for position in positions)
    assert decode_runs(base, encode_runs(base, runs)) == runs


@given(sets_of_positions, st.integers(1, 50))
def test_runs_are_cut_into_parts_of_one_size(positions: set[int], size: int) -> None:
    parts = list(cut_runs(runs_of(positions), size))
    assert all(count_positions(part) == size for part in parts[:-1])
    assert 0 < count_positions(parts[-1]) <= size if parts else not positions
    assert [p for part in parts for run in part for p in range(*run)] == sorted(positions)


@given(st.sets(st.integers(0, 2**63 - 1)))
def test_far_positions_are_decoded(positions: set[int]) -> None:
    runs = runs_of(positions)
    assert decode_runs(0, encode_runs(0, runs)) == runs


def test_a_worked_example() -> None:
    # 1000 and 1001, then 1300 to 1309: gap 0, length 2; gap 298 = 0xaa 0x02, length 10.
    runs = [(1000, 1002), (1300, 1310)]
    assert encode_runs(1000, runs) == bytes.fromhex("0002 aa02 0a")
    assert decode_runs(1000, bytes.fromhex("0002 aa02 0a")) == runs


def test_a_single_acknowledgement_is_two_bytes_and_a_range_three() -> None:
    singles = [(position, position + 1) for position in range(0, 1000, 2)]
    assert len(encode_runs(0, singles)) == 2 * len(singles)
    assert len(encode_runs(7, [(10, 510)])) == 3


def test_runs_that_touch_are_encoded_as_a_single_run() -> None:
    assert encode_runs(0, [(0, 1), (1, 2), (2, 5), (6, 7)]) == encode_runs(0, [(0, 5), (6, 7)])


@pytest.mark.parametrize(
    "runs", [[(4, 6)], [(5, 5)], [(9, 8)], [(5, 9), (8, 10)], [(9, 10), (5, 6)], [(5, POSITION_END + 1)]]
)
def test_runs_that_are_no_list_of_runs_are_refused(runs: list[Run]) -> None:
    with pytest.raises(ValueError):
        encode_runs(5, runs)


@pytest.mark.parametrize(
    ("damage", "data"),
    [
        ("a varint that is cut off", "00 80"),
        ("a gap without a length", "05"),
        ("an empty run", "05 00"),
        ("runs that touch", "05 01 00 01"),
        ("a varint of ten bytes", "80 80 80 80 80 80 80 80 80 01 01"),
        ("a varint with needless bytes", "85 00 01"),
        ("a position beyond 2^63", "ff ff ff ff ff ff ff ff 7f 02"),
    ],
)
def test_damage_is_a_value_error(damage: str, data: str) -> None:
    with pytest.raises(ValueError):
        decode_runs(0, bytes.fromhex(data))


@given(st.binary(max_size=40))
def test_any_bytes_are_runs_or_a_value_error(data: bytes) -> None:
    try:
        runs = decode_runs(0, data)
    except ValueError:
        return
    assert encode_runs(0, runs) == data


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))))
def test_merged_runs_have_the_same_positions(runs: list[Run]) -> None:
    merged = merge_runs(runs)
    positions = {p for first, end in runs for p in range(first, end)}
    assert {p for first, end in merged for p in range(first, end)} == positions
    assert count_positions(merged) == len(positions)
    assert all(a[1] < b[0] for a, b in pairwise(merged))


@given(st.lists(st.integers(0, 60)))
def test_positions_in_any_order_are_runs(positions: list[int]) -> None:
    assert runs_of(positions) == merge_runs((position, position + 1) for position in positions)


def test_a_run_that_is_added_joins_the_last() -> None:
    runs: list[Run] = []
    for first, end in [(1, 3), (3, 4), (6, 7)]:
        add_run(runs, first, end)
    assert runs == [(1, 4), (6, 7)]
