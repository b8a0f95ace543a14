"""The bytes of a page of the routed index, and each way in which they can be damaged."""

from __future__ import annotations

import random
from zlib import crc32

import pytest

from mainstem.queues.index_page import (
    PAGE_ENTRIES,
    Arrival,
    DamagedIndexPage,
    decode_arrivals,
    decode_queue,
    encode_arrivals,
    encode_queue,
)

NAMESPACE, QUEUE = 3, 9


def arrivals_of(rng: random.Random, count: int) -> list[Arrival]:
    sequence = rng.choice([0, 77, 1 << 40])
    offsets = {ordinal: rng.choice([0, 1 << 33]) for ordinal in range(rng.randint(1, 5))}
    arrivals = []
    for _ in range(count):
        ordinal = rng.choice(list(offsets))
        offsets[ordinal] += rng.choice([1, 1, 1, 500])
        deadline_ms = rng.choice([0, 1_700_000_000_000 + rng.randrange(1 << 20)])
        priority = rng.choice([0, 0, 9])
        arrivals.append(
            Arrival(sequence, ordinal, offsets[ordinal], rng.randrange(1 << 20), priority, deadline_ms)
        )
        sequence += rng.choice([1, 1, 1, 1, 300])
    return arrivals


def test_arrivals_come_back() -> None:
    rng = random.Random(1)
    for count in (1, 2, 100, PAGE_ENTRIES):
        for _ in range(10):
            arrivals = arrivals_of(rng, count)
            page = decode_arrivals(encode_arrivals(NAMESPACE, arrivals), NAMESPACE)
            assert [page.entry(number) for number in range(count)] == arrivals
            chosen = rng.choice(arrivals)
            assert page.find(chosen.sequence) == chosen
            assert page.find(arrivals[-1].sequence + 1) is None
            assert page.find(arrivals[0].sequence - 1) is None


def test_sequences_of_a_queue_come_back() -> None:
    rng = random.Random(2)
    for count in (1, 2, 100, PAGE_ENTRIES):
        for span in (1, 3, 300, 1 << 20):
            sequences = sorted(rng.sample(range(5, 5 + span * count), count))
            assert (
                list(decode_queue(encode_queue(NAMESPACE, QUEUE, sequences), NAMESPACE, QUEUE)) == sequences
            )


def test_an_event_takes_few_bytes_and_a_queue_with_all_events_none() -> None:
    plain = [
        Arrival(1_000_000 + number, 4, 50_000_000 + number, 700 + number % 200) for number in range(1024)
    ]
    assert len(encode_arrivals(NAMESPACE, plain)) / 1024 < 3.2
    spread = [
        Arrival(1_000_000 + number, number % 12, 50_000_000 * (number % 12) + number, 700 + number % 2000,
                number % 10, 1_700_000_000_000 + 40 * number)
        for number in range(1024)
    ]  # fmt: skip
    assert len(encode_arrivals(NAMESPACE, spread)) / 1024 < 10.3
    assert len(encode_queue(NAMESPACE, QUEUE, range(5, 1029))) == 41
    assert len(encode_queue(NAMESPACE, QUEUE, range(5, 5 + 100 * 1024, 100))) / 1024 < 4.1


def test_what_is_no_page_is_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        encode_queue(NAMESPACE, QUEUE, [3, 3])
    with pytest.raises(ValueError, match="1 to"):
        encode_queue(NAMESPACE, QUEUE, range(PAGE_ENTRIES + 1))
    with pytest.raises(ValueError, match="number 0"):
        encode_queue(NAMESPACE, 0, [1])
    with pytest.raises(ValueError, match="ascend"):
        encode_arrivals(NAMESPACE, [Arrival(2, 0, 1, 1), Arrival(1, 0, 2, 1)])


def with_checksum(data: bytes) -> bytes:
    return data + crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize("kind", ["arrivals", "queue"])
def test_each_changed_byte_and_each_cut_is_damage(kind: str) -> None:
    rng = random.Random(3)
    if kind == "arrivals":
        data = encode_arrivals(NAMESPACE, arrivals_of(rng, 20))
    else:
        data = encode_queue(NAMESPACE, QUEUE, [3, 8, 900])

    def decode(page: bytes) -> None:
        if kind == "arrivals":
            decode_arrivals(page, NAMESPACE)
        else:
            decode_queue(page, NAMESPACE, QUEUE)

    decode(data)
    for position in range(len(data)):
        with pytest.raises(DamagedIndexPage):
            decode(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        with pytest.raises(DamagedIndexPage):
            decode(data[:position])


def test_a_page_with_a_right_checksum_that_says_something_else_is_damage() -> None:
    page = encode_queue(NAMESPACE, QUEUE, [3, 8, 900])
    body = page[:-4]
    cases = {
        "does not begin": b"X" + body[1:],
        "its version is 2": body[:7] + b"\x02" + body[8:],
        "of queue 9 of namespace 4": body[:15] + b"\x04" + body[16:],
        "it has 0 entries": body[:24] + b"\x00\x00" + body[26:],
        "it has 1,025 entries": body[:24] + b"\x04\x01" + body[26:],
        "a page of a queue has partitions": body[:27] + b"\x01" + body[28:],
        "a column of 3 bytes": body[:28] + b"\x03" + body[29:],
        "cut off": body[:-1],
        "1 bytes after the columns": body + b"\x00",
    }
    for message, changed in cases.items():
        with pytest.raises(DamagedIndexPage, match=message):
            decode_queue(with_checksum(changed), NAMESPACE, QUEUE)
    with pytest.raises(DamagedIndexPage, match="are no page"):
        decode_queue(b"", NAMESPACE, QUEUE)
    with pytest.raises(DamagedIndexPage, match="not of queue 8 of 3"):
        decode_queue(page, NAMESPACE, 8)
    with pytest.raises(DamagedIndexPage, match="not of queue 0 of 3"):
        decode_arrivals(page, NAMESPACE)
    several = encode_arrivals(NAMESPACE, [Arrival(1, 0, 5, 10), Arrival(2, 1, 5, 10)])
    number_of_partition = several.index(b"\x01" + bytes(8) + b"\x00\x01") + 10
    changed = several[:number_of_partition] + b"\x02" + several[number_of_partition + 1 : -4]
    with pytest.raises(DamagedIndexPage, match="the number 2, of 2"):
        decode_arrivals(with_checksum(changed), NAMESPACE)
