"""The notes of commits: their round trip, their size, and texts that are not notes."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.api.scheduler.notes import (
    BITMAP_OFFSETS_MAX,
    DONE_BYTES_MAX,
    NOTES_CHARACTERS_MAX,
    RANGE_BYTES_MAX,
    SUSPECTS_MAX,
    CommitNotes,
    decode_notes,
    encode_notes,
    encoded_ranges,
)

OFFSETS = st.integers(0, 1 << 60)


@st.composite
def notes(draw: st.DrawFn) -> CommitNotes:
    position = draw(OFFSETS)
    steps = draw(st.lists(st.integers(1, 1 << 30), max_size=2 * (DONE_BYTES_MAX // RANGE_BYTES_MAX)))
    ends = list(accumulate(steps, initial=position))
    listed = draw(st.lists(st.integers(0, 1 << 30), max_size=SUSPECTS_MAX, unique=True))
    return CommitNotes(
        position=position,
        is_running=draw(st.booleans()),
        started_end=draw(st.one_of(st.just(0), st.integers(position, position + (1 << 30)))),
        done=tuple(list(pairwise(ends))[1::2]),
        suspects={position + offset: draw(st.integers(1, 3)) for offset in sorted(listed)},
        suspects_end=draw(st.one_of(st.just(0), st.integers(position, position + (1 << 30)))),
    )


@settings(max_examples=30)
@given(notes())
def test_notes_come_back_as_they_were(notes: CommitNotes) -> None:
    text = encode_notes(notes)
    assert len(text) <= NOTES_CHARACTERS_MAX
    assert text.isascii()
    assert decode_notes(text, notes.position) == replace(notes, done=tuple(notes.done))


def test_every_second_offset_of_the_longest_bitmap_has_room() -> None:
    position = 1 << 40
    done = [(position + index, position + index + 1) for index in range(1, BITMAP_OFFSETS_MAX, 2)]
    suspects = {position + (index << 32): 3 for index in range(2 * SUSPECTS_MAX)}
    text = encode_notes(CommitNotes(position=position, is_running=True, done=done, suspects=suspects))
    assert len(text) <= NOTES_CHARACTERS_MAX
    read = decode_notes(text, position)
    assert read is not None
    assert list(read.done) == done
    assert list(read.suspects) == list(suspects)[:SUSPECTS_MAX]


@given(st.integers(1, 1 << 34), st.integers(1, 1 << 34))
def test_a_range_has_no_more_bytes_than_was_reserved(gap: int, length: int) -> None:
    assert len(encoded_ranges(5, [(5 + gap, 5 + gap + length)])) <= RANGE_BYTES_MAX


def test_the_format_is_as_it_was() -> None:
    """Notes of a running group are read by the version that is deployed after this one."""
    notes = CommitNotes(position=100, is_running=True, started_end=114, done=((102, 106),), suspects={102: 3})
    text = "ms1:A2QPAAECAwE83jbkZw"
    assert encode_notes(notes) == text
    assert decode_notes(text, 100) == notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ms1:",
        "ms2:AAAA",
        "ms1:AAAA",
        "ms1:*",
        "ms1:é",
        "offset metadata",
        "ms1:" + "A" * 5_000,
        "ms1:AAAAA",
    ],
)
def test_other_texts_are_no_notes(text: str) -> None:
    assert decode_notes(text, 0) is None


def test_notes_that_another_cluster_has_copied_to_a_translated_position_are_ignored() -> None:
    text = encode_notes(CommitNotes(position=100, is_running=True, done=((105, 109),)))
    assert decode_notes(text, 100) is not None
    assert decode_notes(text, 90) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_notes_or_none(data: bytes) -> None:
    whole = data + zlib.crc32(data).to_bytes(4)
    text = "ms1:" + base64.urlsafe_b64encode(whole).decode().rstrip("=")
    decode_notes(text, 0)
