"""The whole log on a real folder with the real sync process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal
from uuid import UUID

import pytest

from mainstem.clock import LoopClock
from mainstem.log.config import LogConfig
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.errors import LogFolderError, LogFolderLocked, StorageError
from mainstem.log.log import Log
from mainstem.log.storage import record_batch as batches
from tests.log.batches import batch

TOPIC = UUID(int=77)
CONFIG = LogConfig(journal_file_bytes=1 << 20, first_journal_file_bytes=1 << 20)


def open_log(tmp_path: Path, config: LogConfig = CONFIG) -> tuple[Log, RealDisk]:
    loop = asyncio.get_running_loop()
    disk = RealDisk(tmp_path / "data", loop)
    try:
        log = Log.open(disk, LoopClock(loop), random.Random(1), config)
    except BaseException:
        disk.close()
        raise
    log.recover(lambda _: "live")
    return log, disk


async def write(log: Log, count: int, index: int = 0, size: int = 100) -> None:
    partition = log.partition(TOPIC, index)
    for _ in range(count):
        done = partition.append(batch(size=size))
        await partition.when_committed(done.next_offset)


def count_of(log: Log, index: int = 0) -> int:
    partition = log.partition(TOPIC, index)
    offset = 0
    while offset < partition.high_watermark:
        for _, header in batches.iter_batches(partition.read_blocking(offset, 1 << 20).data):
            offset = header.next_offset
    return offset


def run(script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(script(), 60)

    asyncio.run(main())


@pytest.mark.parametrize("durability", ["disk", "os"])
def test_events_survive_a_stop_and_a_kill(tmp_path: Path, durability: Literal["disk", "os"]) -> None:
    config = LogConfig(durability=durability, journal_file_bytes=1 << 20, first_journal_file_bytes=1 << 20)

    async def script() -> None:
        log, disk = open_log(tmp_path, config)
        await write(log, 20)
        await write(log, 3, 1, size=300_000)
        await log.close()
        log, disk = open_log(tmp_path, config)
        assert (count_of(log), count_of(log, 1)) == (20, 3)
        await write(log, 5)
        await write(log, 1, 1, size=300_000)
        disk.close()  # the folder is unlocked without a stop of the log, as when it is killed
        log, _ = open_log(tmp_path, config)
        assert (count_of(log), count_of(log, 1)) == (25, 4)
        assert log.partition(TOPIC, 0).epoch == 1
        await log.close()

    run(script)


def test_when_the_sync_process_is_killed_appends_fail_once_and_then_succeed(tmp_path: Path) -> None:
    async def script() -> None:
        log, disk = open_log(tmp_path)
        await write(log, 3)
        partition = log.partition(TOPIC, 0)
        pid = disk._client.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        done = partition.append(batch())
        promise = partition.when_committed(done.next_offset)
        await asyncio.sleep(0.05)
        assert not promise.done
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(StorageError):
            await promise
        for _ in range(200):
            try:
                await write(log, 1)
                break
            except StorageError:
                await asyncio.sleep(0.02)
        assert partition.epoch >= 1  # 2 if a checkpoint was in progress
        assert log.read_only is None
        assert count_of(log) == 4
        await log.close()
        log, _ = open_log(tmp_path)
        assert count_of(log) == 4
        await log.close()

    run(script)


def test_a_second_log_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    async def script() -> None:
        log, _ = open_log(tmp_path)
        with pytest.raises(LogFolderLocked):
            open_log(tmp_path)
        await log.close()
        (tmp_path / "file").write_text("")
        with pytest.raises(LogFolderError, match="cannot be used"):
            open_log(tmp_path / "file")

    run(script)


def test_a_stalled_disk_delays_commits_but_not_the_loop(tmp_path: Path) -> None:
    async def script() -> None:
        log, disk = open_log(tmp_path)
        await write(log, 1)
        pid = disk._client.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        partition = log.partition(TOPIC, 0)
        done = [partition.append(batch(size=1000)) for _ in range(50)]
        assert log.pending_bytes > 50_000
        assert partition.high_watermark == 1
        assert len(partition.read_blocking(0, 1 << 20).data) > 0
        os.kill(pid, signal.SIGCONT)
        await partition.when_committed(done[-1].next_offset)
        assert log.pending_bytes == 0
        await log.close()

    run(script)
