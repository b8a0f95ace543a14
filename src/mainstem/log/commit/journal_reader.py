"""What the journal holds at start.

Owns: finding the live journal files, their groups in order, and which groups are void. Refuses: to judge
whether a partition's records join (`recovery/partition_recovery.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit import journal_format as form
from mainstem.log.commit.journal_format import JournalFileHeader, JournalRecord
from mainstem.log.disk.contract import Disk, File


@dataclass(slots=True)
class JournalContents:
    """The live records, by partition, in order. Their bytes stay in the files: ask `payload`."""

    records: dict[tuple[UUID, int], list[tuple[File, JournalRecord]]] = field(default_factory=dict)
    live_paths: list[str] = field(default_factory=list)
    """Paths of the live files, oldest first."""
    next_seq: int = 1
    next_group: int = 1
    notes: list[str] = field(default_factory=list)
    is_complete: bool = False
    """None of the files that were used since the checkpoint is missing or was written over since."""

    def records_of(
        self, key: tuple[UUID, int]
    ) -> tuple[list[JournalRecord], Callable[[JournalRecord], bytes]]:
        """One partition's records, and how to get the bytes of each."""
        found = self.records.get(key, [])
        files = {id(record): file for file, record in found}

        def payload(record: JournalRecord) -> bytes:
            data = files[id(record)].pread(record.length, record.payload_position)
            assert len(data) == record.length
            return data

        return [record for _, record in found], payload


def read_journal(disk: Disk, folder_id: UUID, first_seq: int, next_group: int) -> JournalContents:
    """Read all files with a seq from `first_seq` on; `next_group` is the checkpoint's. Blocks."""
    files: list[tuple[JournalFileHeader, File]] = []
    image = JournalContents(next_seq=first_seq, next_group=next_group)
    for name in disk.list(paths.JOURNAL):
        if paths.parse_journal_file(name) is None:
            continue
        file = disk.open(f"{paths.JOURNAL}/{name}")
        header = form.decode_header(file.pread(form.BLOCK, 0), folder_id)
        if header is not None:
            image.next_seq = max(image.next_seq, header.seq + 1)
        if header is not None and header.seq >= first_seq:
            files.append((header, file))
        else:
            file.close()
    files.sort(key=lambda pair: pair[0].seq)
    image.is_complete = bool(files) and files[-1][0].seq == first_seq + len(files) - 1
    following = [*(header for header, _ in files[1:]), None]
    for (header, file), after in zip(
        files, following, strict=False
    ):  # without files, there is nothing to follow
        _read_file(image, header, file, after)
        image.live_paths.append(file.path)
    return image


def _read_file(
    image: JournalContents, header: JournalFileHeader, file: File, after: JournalFileHeader | None
) -> None:
    ended = header.base_group
    for group in form.read_groups(file, header):
        if after is not None and group.number >= after.base_group:
            break  # its sync failed: what follows it in the next file annuls it (R5)
        if group.after_damage:
            image.notes.append(f"{file.path}: damaged before group {group.number}")
        ended = group.number + 1
        for record in group.records:
            key = (UUID(bytes=record.topic), record.partition)
            image.records.setdefault(key, []).append((file, record))
    # Between files that are not neighbours lie some that are free again: they were pinned by nobody.
    if after is not None and after.seq == header.seq + 1 and ended < after.base_group:
        missing = after.base_group - ended
        image.notes.append(f"{file.path}: damaged after group {ended - 1}, {missing} groups are missing")
    image.next_group = max(image.next_group, ended)
