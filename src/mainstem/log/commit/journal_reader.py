"""Reads what the journal holds at start.

Owns: finding the live journal files, their groups in order, and which groups are annulled. Refuses: to judge
whether a partition's records join (`recovery/partition_replay.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit import journal_format
from mainstem.log.commit.contract import PartitionKey
from mainstem.log.commit.journal_format import JournalFileHeader, JournalRecord
from mainstem.log.disk.contract import Disk, File


@dataclass(slots=True)
class JournalContents:
    """The live records, by partition, in order. Their batches stay in the files: `records_of` reads them."""

    records: dict[PartitionKey, list[tuple[File, JournalRecord]]] = field(default_factory=dict)
    live_paths: list[str] = field(default_factory=list)
    """Paths of the live files, oldest first."""
    next_seq: int = 1
    """Seq of the next file to use."""
    next_group: int = 1
    """Number of the next group."""
    first_group_after: int = 1
    """Number of the first group after the checkpoint began."""
    notes: list[str] = field(default_factory=list)
    """Damage found in the files, as lines for the recovery report. Events of the last moments before the stop
    may be lost with it: of a partition that has later records, they do not join, so that it is read-only; of
    one that has none, nothing else shows it."""
    is_complete: bool = False
    """True: no file that was used since the checkpoint is missing, or was overwritten since."""
    keys_after: set[PartitionKey] = field(default_factory=set)
    """Partitions with records in groups after the checkpoint began."""

    def records_of(self, key: PartitionKey) -> tuple[list[JournalRecord], Callable[[JournalRecord], bytes]]:
        """One partition's records, and a function that reads the batches of one of them."""
        records = self.records.get(key, [])
        files = {id(record): file for file, record in records}

        def read_payload(record: JournalRecord) -> bytes:
            data = files[id(record)].pread(record.length, record.payload_position)
            assert len(data) == record.length, "the group's CRC was checked, so its bytes are all there"
            return data

        return [record for _, record in records], read_payload


def read_journal(
    disk: Disk, folder_id: UUID, first_seq: int, next_group: int, *, is_newest: bool = False
) -> JournalContents:
    """Read all files with a seq from `first_seq` on; `next_group` is the checkpoint's. `is_newest`: that
    checkpoint is the newest, so that every group since is in the files, or is missing. Blocks."""
    files: list[tuple[JournalFileHeader, File]] = []
    contents = JournalContents(next_seq=first_seq, next_group=next_group, first_group_after=next_group)
    for name in disk.list(paths.JOURNAL):
        if paths.parse_journal_file(name) is None:
            continue
        file = disk.open(f"{paths.JOURNAL}/{name}")
        block = file.pread(journal_format.BLOCK, 0)
        header = journal_format.decode_header(block, folder_id)
        if header is None and block.strip(b"\0"):
            _note_damaged_header(contents, file, block, first_seq)
        if header is not None:
            contents.next_seq = max(contents.next_seq, header.seq + 1)
        if header is not None and header.seq >= first_seq:
            files.append((header, file))
        else:
            file.close()
    files.sort(key=lambda pair: pair[0].seq)
    contents.is_complete = (
        bool(files) and files[-1][0].seq == first_seq + len(files) - 1 and not contents.notes
    )
    expected = next_group if is_newest or not files else max(next_group, files[0][0].base_group)
    for i, (header, file) in enumerate(files):
        following = files[i + 1][0] if i + 1 < len(files) else None
        if header.base_group > expected:
            last = header.base_group - 1
            contents.notes.append(
                f"{file.path}: the journal is damaged before it, groups {expected} to {last} are missing"
            )
        expected = max(expected, _read_file(contents, header, file, following))
        contents.live_paths.append(file.path)
    return contents


def _note_damaged_header(contents: JournalContents, file: File, block: bytes, first_seq: int) -> None:
    """Note a file whose header cannot be read, if it has groups that no checkpoint covers. Their CRCs begin
    with a number of the header, so that they cannot be checked any more, nor replayed."""
    if journal_format.is_whole_header(block):
        return  # of another data folder
    seq, numbers = journal_format.unchecked_groups(file)
    if not numbers or seq < first_seq:
        return
    groups = f"groups {numbers[0]} to {numbers[-1]}"
    contents.notes.append(f"{file.path}: its header is damaged; {groups} of the journal cannot be read")
    contents.live_paths.append(file.path)
    contents.next_seq = max(contents.next_seq, seq + 1)
    contents.next_group = max(contents.next_group, numbers[-1] + 1)


def _read_file(
    contents: JournalContents, header: JournalFileHeader, file: File, following: JournalFileHeader | None
) -> int:
    """Add the records of one file; returns the number after its last group. `following` is the header of the
    live file after it."""
    end_group = header.base_group
    for group in journal_format.read_groups(file, header):
        if following is not None and group.number >= following.base_group:
            break  # its sync failed: the next file annuls it (R5)
        if group.after_damage:
            contents.notes.append(f"{file.path}: the journal is damaged before group {group.number}")
        end_group = group.number + 1
        for record in group.records:
            key = (UUID(bytes=record.topic), record.partition)
            contents.records.setdefault(key, []).append((file, record))
            if group.number >= contents.first_group_after:
                contents.keys_after.add(key)
    contents.next_group = max(contents.next_group, end_group)
    return end_group
