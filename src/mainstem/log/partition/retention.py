"""Removing what is old: by age, by size, by request.

Owns: which segments go, and the order: first the new log start is durable, then files are unlinked (rule
R11). Refuses: the active segment, what is not committed, parts of segments, guesses: a segment whose age is
not known counts as young. Called through `Partition`.

Kafka: UnifiedLog.deleteOldSegments, deleteRetentionMsBreachedSegments, deleteRetentionSizeBreachedSegments.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import OffsetOutOfRange, PartitionDeleted, StorageError
from mainstem.log.partition import offset_lookup
from mainstem.log.storage.arrival_index import age_ms
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.log.config import PartitionConfig
    from mainstem.log.partition.partition import Partition

log = logging.getLogger(__name__)

UNLINKS_PER_TURN = 64
"""Some milliseconds."""


def delete_records(partition: Partition, before: int) -> Promise[int]:
    """See `Partition.delete_records`."""
    if partition.deleted:
        return Promise.failed(PartitionDeleted("the topic was deleted"))
    if before == -1:
        before = partition.high_watermark
    if not 0 <= before <= partition.high_watermark:
        raise OffsetOutOfRange(f"offset {before} is after the watermark, {partition.high_watermark}")
    if before <= partition.log_start_offset:
        return Promise.resolved(partition.log_start_offset)
    return _move_log_start(partition, before).map(lambda _: partition.log_start_offset)


def enforce(partition: Partition) -> Promise[int]:
    """See `Partition.enforce_retention`."""
    if partition.deleted or partition.fenced is not None or not partition.segments:
        return Promise.resolved(0)
    now = partition.context.clock.wall_ms()
    try:
        _roll_by_age(partition, now)
    except StorageError as error:
        return Promise.failed(error)
    config = partition.config
    if config.retention_by_record_time and config.retention_ms >= 0:
        found = partition.context.run_later(_record_ages(partition))
        return found.chain(lambda ages: _remove(partition, now, ages))
    return _remove(partition, now, {})


def preview_log_start(partition: Partition, config: PartitionConfig) -> Promise[int]:
    """The log start that `enforce` would come to now if the partition had this `config`. Changes nothing."""
    if partition.deleted or not partition.segments:
        return Promise.resolved(partition.log_start_offset)
    now = partition.context.clock.wall_ms()
    by_record = config.retention_by_record_time and config.retention_ms >= 0

    def start(ages: dict[int, int]) -> int:
        segments = _removable(partition)
        active = partition.segments[-1]
        if active.size and not by_record and partition.high_watermark == partition.log_end_offset:
            segments.append(active)  # `enforce` seals it first when all of it is too old
        count = _too_old(partition, config, segments, now, ages)
        count = max(count, _too_much(partition, config, min(count, len(_removable(partition)))))
        ends = [partition.end_of(segment) for segment in partition.segments[:count]]
        return max([partition.log_start_offset, *ends])

    if by_record:
        return partition.context.run_later(_record_ages(partition)).map(start)
    return Promise.resolved(start({}))


def _roll_by_age(partition: Partition, now: int) -> None:
    """Seal the active segment if it is older than `segment_ms`, or all of it is older than `retention_ms`:
    only what is sealed can go."""
    active = partition.segments[-1]
    if not active.size or partition.high_watermark < partition.log_end_offset:
        return
    config = partition.config
    times = active.arrivals.times
    old = bool(times) and age_ms(times[0], now) > config.segment_ms
    if not config.retention_by_record_time and config.retention_ms >= 0:
        old = old or now - offset_lookup.last_arrival(partition, active) > config.retention_ms
    if old:
        partition.roll_when_idle()


def _record_ages(partition: Partition) -> ReadSteps[dict[int, int]]:
    """Largest record timestamp by segment, of those that may go; those without one are left out."""
    ages: dict[int, int] = {}
    for number, segment in enumerate(partition.segments[:-1], 1):
        if number % offset_lookup.SEGMENTS_PER_TURN == 0 and segment.max_timestamp is None:
            yield None
        if segment.deleted:
            continue
        newest = yield from offset_lookup.max_timestamp(partition, segment)
        if newest >= 0:
            ages[segment.base_offset] = newest
    return ages


def _remove(partition: Partition, now: int, ages: dict[int, int]) -> Promise[int]:
    count = _too_old(partition, partition.config, _removable(partition), now, ages)
    count = max(count, _too_much(partition, partition.config, count))
    start = partition.log_start_offset
    if count:
        start = max(start, partition.end_of(partition.segments[count - 1]))
    before = partition.size_bytes()
    if start == partition.log_start_offset:
        unlinked = partition.context.run_later(unlink_below_log_start(partition))
    else:
        unlinked = _move_log_start(partition, start)
    return unlinked.map(lambda _: max(0, before - partition.size_bytes()))


def _removable(partition: Partition) -> list[Segment]:
    """Sealed and committed, oldest first."""
    committed = partition.high_watermark
    return [segment for segment in partition.segments[:-1] if partition.end_of(segment) <= committed]


def _too_old(
    partition: Partition, config: PartitionConfig, segments: list[Segment], now: int, ages: dict[int, int]
) -> int:
    retention_ms = config.retention_ms
    if retention_ms < 0:
        return 0
    count = 0
    for segment in segments:
        newest = ages.get(segment.base_offset)
        if newest is None:
            newest = offset_lookup.last_arrival(partition, segment)
        if now - newest <= retention_ms:
            break
        count += 1
    return count


def _too_much(partition: Partition, config: PartitionConfig, already: int) -> int:
    """As many of the oldest as can go with at least `retention_bytes` staying."""
    most = config.retention_bytes
    if most < 0:
        return 0
    over = partition.size_bytes() - sum(segment.size for segment in partition.segments[:already]) - most
    count = already
    for segment in _removable(partition)[already:]:
        if segment.size > over:
            break
        over -= segment.size
        count += 1
    return count


def _move_log_start(partition: Partition, offset: int) -> Promise[None]:
    """Make `offset` the log start, durably, then unlink what lies wholly before it."""
    partition.log_start_requested = max(partition.log_start_requested, offset)
    return partition.committer.record_log_start(partition, offset).chain(lambda _: _moved(partition, offset))


def _moved(partition: Partition, offset: int) -> Promise[None]:
    if partition.deleted:
        raise PartitionDeleted("the topic was deleted")
    if offset > partition.log_start_offset:
        partition.log_start_offset = offset
        partition.derived.epochs.advance_log_start(offset)
    return partition.context.run_later(unlink_below_log_start(partition))


def unlink_below_log_start(partition: Partition) -> ReadSteps[None]:
    """Unlink the segments that end at or before the log start, but never the active one. Oldest first, and
    none before those older than it are gone: what is there always joins, which a backup relies on. Tens of
    thousands take seconds: others have turns meanwhile."""
    segments = partition.segments
    count = 0
    while len(segments) > 1 and partition.end_of(segments[0]) <= partition.log_start_offset:
        try:
            segments[0].unlink()
        except OSError as error:
            log.warning("%s: not unlinked, the next look at retention will: %s", segments[0].path, error)
            return
        partition.drop_first()
        count += 1
        if count % UNLINKS_PER_TURN == 0:
            yield None
            if partition.deleted:
                return
