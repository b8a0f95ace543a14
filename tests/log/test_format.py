"""FORMAT.md and the code agree: the examples of the page decode, and its sizes are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import mainstem.log
from mainstem.log.storage import index, producer_snapshot, record_batch
from mainstem.log.storage.arrival_index import PAIR, ArrivalIndex
from mainstem.log.storage.index import SegmentIndex
from mainstem.log.storage.leader_epochs import LeaderEpochs
from mainstem.log.storage.producer_state import ProducerBatch, ProducerWindow

PAGE = (Path(mainstem.log.__path__[0]) / "FORMAT.md").read_text()


def example(kind: str) -> bytes:
    examples = re.findall(rf"```hex {kind}\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 1, kind
    return bytes.fromhex(examples[0])


def test_the_example_of_a_batch() -> None:
    data = example("batch")
    header = record_batch.read_header(data)
    assert header[:3] == (5, len(data) - 12, 2)
    assert header[5:] == (0, 1, 1000, 1001, 9, 0, 4, 2)
    assert record_batch.decode(data) == [
        record_batch.Record(5, 1000, b"k", b"v", (("h", b"x"),)),
        record_batch.Record(6, 1001, None, b"w", ()),
    ]
    records = [(b"k", b"v", (("h", b"x"),), 1000), (None, b"w", (), 1001)]
    built = record_batch.build(records, producer_id=9, producer_epoch=0, base_sequence=4)
    record_batch.assign_offsets(memoryview(built), 5, 2, None)
    assert built == data


def test_the_drawing_of_a_batch_shows_the_positions_of_its_fields() -> None:
    places = [0, 8, 12, 16, 17, 21, 23, 27, 35, 43, 51, 53, 57, 61]
    ruler = next(line for line in PAGE.splitlines() if line.startswith(" 0  "))
    assert [int(number) for number in ruler.split()] == places
    assert places[-1] == record_batch.HEADER_BYTES
    assert places[5] == record_batch.CRC_FROM


def test_the_examples_of_the_indexes() -> None:
    made = SegmentIndex()
    made.append(2, 0, 4200, 999, 4096)
    made.append(4, 4200, 90, 1001, 4096)
    assert (made.offset_bytes(), made.time_bytes()) == (example("index"), example("timeindex"))
    parsed = SegmentIndex.parse(example("index"), example("timeindex"), 5, 4290)
    assert parsed is not None
    assert parsed.position_before(4) == (4200, 4)
    assert f"{index.OFFSET_ENTRY_BYTES} bytes an entry" in PAGE
    assert f"{index.TIME_ENTRY_BYTES} bytes an entry" in PAGE


def test_the_example_of_arrivals() -> None:
    parsed = ArrivalIndex.parse(example("arrivals"))
    assert list(zip(parsed.times, parsed.offsets, strict=True)) == [
        (1356998400000, 0),
        (1356998401500, 3),
    ]
    assert parsed.to_bytes() == example("arrivals")
    assert f"{PAIR.size} bytes a pair" in PAGE


def test_the_example_of_a_snapshot() -> None:
    data = example("snapshot")
    windows = {9: ProducerWindow(0, (ProducerBatch(4, 5, 5, 7, 1001),), 1356998401500)}
    made = producer_snapshot.ProducerSnapshot(3, 4290, 8, 4200, 0x11223344, 1356998401500, (1, 1), windows)
    assert producer_snapshot.decode(data) == made
    assert producer_snapshot.encode(made) == data
    for position in range(len(data)):
        assert producer_snapshot.decode(data[:position]) is None
        assert (
            producer_snapshot.decode(data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :])
            is None
        )
    assert producer_snapshot.decode(data + b"\0") is None


def test_the_example_of_leader_epochs() -> None:
    example = re.search(r"```text epochs\n(.*?)```", PAGE, re.DOTALL)
    assert example
    parsed = LeaderEpochs.parse(example[1].encode())
    assert parsed is not None
    assert parsed.entries == [(0, 0), (3, 1500)]
    assert parsed.encode() == example[1].encode()
    assert [parsed.end_offset(epoch, 2000) for epoch in (-1, 0, 1, 3, 4)] == [
        (-1, -1),
        (0, 1500),
        (0, 1500),
        (3, 2000),
        (-1, -1),
    ]
    for broken in (
        b"",
        b"0\n2\n0 0\n",
        b"0\n1\n0 0",
        b"1\n0\n",
        b"0\n2\n3 5\n2 9\n",
        b"0\n1\nx y\n",
        b"\xff",
    ):
        assert LeaderEpochs.parse(broken) is None
