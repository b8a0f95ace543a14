"""The relay's connection to the tables of an outbox, by Django: `contract.OutboxStore`.

Owns: the statements, each in a short transaction, in a thread whose connection is the relay's own. Refuses:
publishing, and decisions.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import Error, connections, transaction

from mainstem.contract import RelayLost
from mainstem.django.models import OutboxEvent, OutboxMark
from mainstem.outbox.contract import OutboxRow, TopicMark
from mainstem.outbox.relay_lock import RelayLock, relay_lock
from mainstem.outbox.row_format import first_batch, pack_offsets, unpack_offsets

T = TypeVar("T")

IDS_PER_STATEMENT = 500


class DjangoStore:
    """The rows and marks of one source in the database `using`."""

    def __init__(self, source: str, using: str) -> None:
        self._source = source
        self._using = using
        self._executor: ThreadPoolExecutor | None = None
        self._lock: RelayLock | None = None

    async def _run(self, call: Callable[[], T]) -> T:
        def in_transaction() -> T:
            with transaction.atomic(using=self._using):
                return call()

        if self._executor is None:
            raise RelayLost("the relay has ended")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, in_transaction)
        except Error as error:
            lines = str(error).splitlines() or [repr(error)]
            raise RelayLost(f"the database: {lines[0]}") from error

    async def begin(self) -> bool:
        """See `OutboxStore`."""
        assert self._executor is None, "a relay begins once"
        self._executor = ThreadPoolExecutor(1, "mainstem-outbox")
        return await self._run(self._take_lock)

    def _take_lock(self) -> bool:
        connection = connections[self._using]

        def scalar(statement: str) -> object:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()[0]

        database = str(connection.settings_dict["NAME"])
        name = f"{self._source}/mainstem_outbox"
        self._lock = relay_lock(connection.vendor, database, name, pool=connections)
        return self._lock.take(scalar)

    async def end(self) -> None:
        """See `OutboxStore`."""
        executor, self._executor = self._executor, None
        lock, self._lock = self._lock, None
        if executor is not None:
            with contextlib.suppress(Error):
                await asyncio.get_running_loop().run_in_executor(executor, connections.close_all)
            executor.shutdown(wait=False)
        if lock is not None:
            lock.release()

    async def marks(self) -> list[TopicMark]:
        """See `OutboxStore`."""
        return await self._run(self._read_marks)

    def _read_marks(self) -> list[TopicMark]:
        return [
            TopicMark(mark.topic, mark.topic_id, unpack_offsets(mark.offsets), mark.is_open)
            for mark in OutboxMark.objects.using(self._using).filter(source=self._source)
        ]

    async def pending_topics(self) -> list[str]:
        """See `OutboxStore`."""
        rows = OutboxEvent.objects.using(self._using).filter(source=self._source, refused=None)
        return await self._run(lambda: list(rows.values_list("topic", flat=True).distinct()))

    async def pending(self, limit: int, *, without: Collection[str] = ()) -> list[OutboxRow]:
        """See `OutboxStore`."""
        rows = OutboxEvent.objects.using(self._using).filter(source=self._source, refused=None)
        if without:
            rows = rows.exclude(topic__in=sorted(without))
        columns = rows.order_by("id").values_list("id", "topic", "key", "value", "headers", "time_ms")

        def read() -> Iterator[OutboxRow]:
            for number, topic, *contents, time_ms in columns[:limit].iterator(chunk_size=100):
                # PostgreSQL's driver may give memoryviews.
                key, value, headers = (None if data is None else bytes(data) for data in contents)
                yield OutboxRow(number, topic, key, value, headers, time_ms)

        return await self._run(lambda: first_batch(read()))

    async def finish(
        self, done: Collection[int], refused: Mapping[int, str], marks: Sequence[TopicMark]
    ) -> int:
        """See `OutboxStore`."""
        ids = list(done)

        def write() -> int:
            rows = OutboxEvent.objects.using(self._using)
            deleted = 0
            for start in range(0, len(ids), IDS_PER_STATEMENT):
                deleted += rows.filter(id__in=ids[start : start + IDS_PER_STATEMENT]).delete()[0]
            for number, reason in refused.items():
                rows.filter(id=number).update(refused=reason)
            for mark in marks:
                self._write_mark(mark)
            return deleted

        return await self._run(write)

    def _write_mark(self, mark: TopicMark) -> None:
        OutboxMark.objects.using(self._using).update_or_create(
            source=self._source,
            topic_digest=hashlib.sha256(mark.topic.encode()).hexdigest(),
            defaults={
                "topic": mark.topic,
                "topic_id": mark.topic_id,
                "offsets": pack_offsets(mark.offsets),
                "is_open": mark.is_open,
            },
        )
