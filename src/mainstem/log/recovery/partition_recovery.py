"""The recovery of one partition, from its checkpoint row, its journal records and its segment files.

Owns: `recover_partition`, which makes the files hold what was committed and says what they hold as a
`RecoveredState`. Refuses: to read the journal (`journal_reader.py`), to choose partitions (`startup.py`), and
to write what the checkpoint already promises; `partition_replay.py` does the rest.

Everything blocks. A second run changes the files in the same way as the first, so recovery may be interrupted
anywhere (FORMAT.md, rule R6, and part "Recover").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.journal_format import JournalRecord
from mainstem.log.config import Durability
from mainstem.log.disk.contract import Disk
from mainstem.log.recovery.partition_replay import PartitionReplay
from mainstem.log.recovery.recovered_partition import RecoveredPartition, state_of
from mainstem.log.recovery.sealed_segments import compared

_UNKNOWN_ROW = CheckpointRow(UUID(int=0), 0, 0, 0, 0, 0, 0)
"""That of a partition of which no checkpoint that can be read knows anything."""


def recover_partition(
    disk: Disk,
    topic_id: UUID,
    index: int,
    row: CheckpointRow | None,
    records: Sequence[JournalRecord],
    payload: Callable[[JournalRecord], bytes],
    *,
    clean: bool,
    complete: bool,
    end_is_known: bool,
    durability: Durability,
) -> RecoveredPartition:
    """Recover one partition. OSError: the disk fails, and nothing has been promised yet.

    `row`: its row in the newest readable checkpoint; None if the partition is newer than that, so that it
    begins at offset 0, or, without `complete`, may have had a row in a checkpoint that cannot be read.
    `records`: its journal records in order; with `end_is_known`, all since that row. `clean`: the last stop
    was clean."""
    folder = paths.partition_folder(topic_id, index)
    segments = _segments(disk, folder)
    if row is not None and not records and _is_as_checkpointed(disk, folder, row, segments):
        row = replace(row, epoch=row.epoch if clean else row.epoch + 1)
        recovered = RecoveredPartition(state_of(row, segments, clean, (row.segment, row.position)), row)
    else:
        replay = PartitionReplay(
            disk, (topic_id, index), segments, row, records, payload, complete, end_is_known
        )
        if row is not None and replay.is_short(row):
            recovered = replay.shorter_than_acknowledged(row, durability)
        else:
            recovered = replay.run()
    recovered.state, recovered.checkpoint_row = compared(
        disk,
        folder,
        recovered.state,
        row if complete or row is not None else _UNKNOWN_ROW,
        recovered.checkpoint_row,
    )
    state = recovered.state
    if state.segments and state.log_start < state.segments[0]:
        last = state.segments[0] - 1
        recovered.notes.append(
            f"{folder}: offsets {state.log_start} to {last} are missing: no segment has them; they cannot be"
            " read, later ones can; run `mainstem doctor`"
        )
    return recovered


def _segments(disk: Disk, folder: str) -> list[int]:
    bases = (paths.parse_segment(name) for name in disk.list(folder))
    return [base for base in bases if base is not None]


def _is_as_checkpointed(disk: Disk, folder: str, row: CheckpointRow, segments: list[int]) -> bool:
    if not segments:
        return row.position == 0 and row.end_offset == row.segment
    path = f"{folder}/{paths.segment_name(row.segment)}"
    return segments[-1] == row.segment and disk.size(path) == row.position
