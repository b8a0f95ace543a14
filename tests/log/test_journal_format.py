"""The bytes of the journal, and every way they can be damaged."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import mainstem.log
from mainstem.log import paths
from mainstem.log.commit import journal_format as form
from mainstem.log.commit import journal_reader
from mainstem.log.commit.journal_format import APPEND, EPOCH, JournalFileHeader, JournalRecord
from mainstem.log.disk.contract import File
from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk

FOLDER = UUID(int=5)
TOPIC = UUID(int=77)
HEADER = JournalFileHeader(FOLDER, seq=4, salt=0x1122334455667788, base_group=100)


def append_record(base: int, data: bytes) -> tuple[JournalRecord, list[bytes]]:
    record = JournalRecord(APPEND, TOPIC.bytes, 0, 2, base, base + 1, 0, base * 100, 1_000, len(data))
    return record, [form.encode_record(record), data]


def encoded_group(header: JournalFileHeader, number: int, *payloads: bytes) -> bytes:
    pieces = [piece for position, data in enumerate(payloads) for piece in append_record(position, data)[1]]
    seed = form.crc_seed(header.salt)
    return b"".join(form.encode_group(seed, header.seq, number, len(payloads), pieces))


def journal(*files: bytes) -> SimDisk:
    disk = SimDisk(SimClock(), random.Random(1))
    disk.make_folder(paths.JOURNAL)
    for number, data in enumerate(files):
        disk.write_all(paths.journal_file_path(number), data)
    return disk


def open_journal_file(disk: SimDisk, number: int = 0) -> File:
    return disk.open(paths.journal_file_path(number))


def numbers(data: bytes, header: JournalFileHeader = HEADER) -> list[tuple[int, bool]]:
    file = open_journal_file(journal(data))
    return [(group.number, group.after_damage) for group in form.read_groups(file, header)]


def test_a_header_decodes_and_belongs_to_its_folder() -> None:
    block = form.encode_header(HEADER)
    assert len(block) == form.BLOCK
    assert form.decode_header(block, FOLDER) == HEADER
    assert form.decode_header(block, UUID(int=6)) is None
    assert form.decode_header(bytes(form.BLOCK), FOLDER) is None
    assert form.decode_header(block[:100], FOLDER) is None
    for position in range(60):
        damaged = bytearray(block)
        damaged[position] ^= 1
        assert (form.decode_header(bytes(damaged), FOLDER) is None) == (position < 52)


def test_groups_decode_with_their_records() -> None:
    data = (
        form.encode_header(HEADER)
        + encoded_group(HEADER, 100, b"a" * 10, b"b" * 9000)
        + encoded_group(HEADER, 101)
    )
    file = open_journal_file(journal(data + bytes(8192)))
    first, second = form.read_groups(file, HEADER)
    assert (first.number, second.number, second.records) == (100, 101, [])
    assert [file.pread(record.length, record.payload_position) for record in first.records] == [
        b"a" * 10,
        b"b" * 9000,
    ]
    assert first.records[0]._replace(payload_position=0) == append_record(0, b"a" * 10)[0]


def test_truncating_or_damaging_the_last_group_keeps_earlier_groups() -> None:
    whole = (
        form.encode_header(HEADER) + encoded_group(HEADER, 100, b"a") + encoded_group(HEADER, 101, b"b" * 300)
    )
    start, end = 2 * form.BLOCK, 2 * form.BLOCK + form.GROUP.size + form.RECORD_BYTES + 300
    for position in range(start, end):
        assert numbers(whole[:position]) == [(100, False)]
        zeroed = whole[:position] + bytes(len(whole) - position)
        assert numbers(zeroed) == [(100, False)] or zeroed == whole
        damaged = bytearray(whole)
        damaged[position] ^= 4
        assert numbers(bytes(damaged)) == [(100, False)]


def test_groups_of_an_earlier_use_of_the_file_are_ignored() -> None:
    old = JournalFileHeader(FOLDER, seq=3, salt=1, base_group=100)
    same_seq = JournalFileHeader(FOLDER, seq=4, salt=1, base_group=100)
    for stale in (old, same_seq):
        data = form.encode_header(HEADER) + encoded_group(HEADER, 100, b"a") + encoded_group(stale, 101, b"b")
        assert numbers(data) == [(100, False)]


def test_an_invalid_group_before_a_valid_one_is_reported_as_damage() -> None:
    parts = [encoded_group(HEADER, number, b"x" * 5000) for number in (100, 101, 102)]
    broken = bytearray(parts[1])
    broken[50] ^= 1
    data = form.encode_header(HEADER) + parts[0] + bytes(broken) + parts[2]
    assert numbers(data) == [(100, False), (102, True)]
    contents = journal_reader.read_journal(journal(data), FOLDER, 1, 1)
    assert contents.notes == [f"{paths.journal_file_path(0)}: the journal is damaged before group 102"]
    assert contents.next_group == 103


def test_a_live_file_that_is_missing_is_reported_with_its_groups() -> None:
    after = JournalFileHeader(FOLDER, seq=5, salt=9, base_group=103)
    third = JournalFileHeader(FOLDER, seq=7, salt=8, base_group=106)
    second = form.encode_header(after) + encoded_group(after, 103, b"c")
    last = form.encode_header(third) + encoded_group(third, 106, b"d")

    def notes(*files: bytes, next_group: int, is_newest: bool = True) -> list[str]:
        contents = journal_reader.read_journal(journal(*files), FOLDER, 4, next_group, is_newest=is_newest)
        assert not contents.notes or not contents.is_complete
        return [note.partition(": ")[2] for note in contents.notes]

    assert notes(second, next_group=100) == [
        "the journal is damaged before it, groups 100 to 102 are missing"
    ]
    assert notes(second, last, next_group=103) == [
        "the journal is damaged before it, groups 104 to 105 are missing"
    ]
    assert notes(second, last, next_group=106) == []  # pinned by a partition; those between were free again
    assert notes(second, next_group=1, is_newest=False) == []  # what an older checkpoint needed may be reused


def test_a_failed_group_is_annulled_by_the_next_file() -> None:
    after = JournalFileHeader(FOLDER, seq=5, salt=9, base_group=101)
    first = form.encode_header(HEADER) + encoded_group(HEADER, 100, b"a") + encoded_group(HEADER, 101, b"b")
    second = form.encode_header(after) + encoded_group(after, 101, b"c")
    disk = journal(second, first)
    contents = journal_reader.read_journal(disk, FOLDER, 1, 1)
    records, payload = contents.records_of((TOPIC, 0))
    assert [payload(record) for record in records] == [b"a", b"c"]
    assert (contents.next_seq, contents.next_group) == (6, 102)
    assert contents.live_paths == [paths.journal_file_path(1), paths.journal_file_path(0)]


def test_files_below_the_checkpoint_are_not_live_but_their_seq_is_never_reused() -> None:
    data = form.encode_header(HEADER) + encoded_group(HEADER, 100, b"a")
    contents = journal_reader.read_journal(journal(data), FOLDER, 9, 50)
    assert (contents.live_paths, contents.records, contents.next_seq, contents.next_group) == ([], {}, 9, 50)
    assert journal_reader.read_journal(journal(data), FOLDER, 4, 1).next_seq == 5


def test_records_without_batches_decode() -> None:
    expected = JournalRecord(EPOCH, TOPIC.bytes, 3, 7, 50, 50, 40, 999, 0, 0)
    seed = form.crc_seed(HEADER.salt)
    data = b"".join(form.encode_group(seed, HEADER.seq, 100, 1, [form.encode_record(expected)]))
    (group,) = form.read_groups(open_journal_file(journal(form.encode_header(HEADER) + data)), HEADER)
    assert [record._replace(payload_position=0) for record in group.records] == [expected]


def test_the_example_of_the_page_decodes() -> None:
    page = (Path(mainstem.log.__path__[0]) / "FORMAT.md").read_text()
    block = page.split("```hex journal\n", 1)[1].split("```", 1)[0]
    data = bytes.fromhex(block.replace("..", "").strip())
    head, rest = data[:52], data[52:]
    header = form.decode_header(head.ljust(form.BLOCK, b"\0"), UUID(int=0x0123456789ABCDEF0123456789ABCDEF))
    assert header == JournalFileHeader(
        UUID(int=0x0123456789ABCDEF0123456789ABCDEF), 3, 0x1122334455667788, 41
    )
    file = open_journal_file(journal(head.ljust(form.BLOCK, b"\0") + rest.ljust(form.BLOCK, b"\0")))
    (group,) = form.read_groups(file, header)
    assert group.number == 41
    (record,) = group.records
    assert (record.kind, UUID(bytes=record.topic), record.partition, record.epoch) == (APPEND, TOPIC, 2, 1)
    assert (record.base_offset, record.end_offset, record.segment, record.position) == (500, 503, 400, 8192)
    assert file.pread(record.length, record.payload_position) == b"batches"
    assert f"{form.RECORD_BYTES} bytes" in page
