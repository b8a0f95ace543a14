"""The real disk and the sync process, on a real folder."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mainstem.log.disk import open_files, sync_client, sync_process
from mainstem.log.disk.real_disk import RealDisk, RealFile


def run(tmp_path: Path, script: Callable[[RealDisk], Awaitable[None]], **options: int) -> None:
    async def main() -> None:
        disk = RealDisk(tmp_path / "data", asyncio.get_running_loop(), **options)
        disk.make_folder("")
        try:
            await script(disk)
        finally:
            disk.close()

    asyncio.run(main())


def test_a_failing_sync_fails_only_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(disk: RealDisk) -> None:
        files = [disk.open(f"f{number}", create=True) for number in range(3)]
        for file in files:
            file.pwrite(b"x", 0)
        bad = [os.stat(disk.full_path("f1")).st_ino]

        def sync_result(descriptor: int, folder: bool) -> int:
            sync_process.full_sync(descriptor, folder)
            return errno.EIO if os.fstat(descriptor).st_ino in bad else 0

        monkeypatch.setattr("mainstem.log.disk.sync_process.sync_result", sync_result)
        good, error, *others = disk.sync_each_now(files, ["", "deleted"])
        assert [good, *others] == [None] * 4
        assert error is not None
        assert (error.errno, error.filename) == (errno.EIO, "f1")
        assert [file.written - file.synced for file in files if isinstance(file, RealFile)] == [0, 1, 0]
        with pytest.raises(OSError, match="f1"):
            disk.sync_now(files)

    run(tmp_path, script)


def test_written_bytes_can_be_read_and_synced(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        disk.make_folder("a/b")
        file = disk.open("a/b/c", create=True)
        file.pwrite(b"hello", 3)
        assert file.size() == 8
        assert file.pread(100, 0) == b"\0\0\0hello"
        assert bytes(file.pread_nowait(4, 3) or b"") == b"hell"
        assert file.pread_nowait(4, 8) == b""
        await disk.sync([file], ["a/b", "a"])
        await disk.prefetch(file, 0, 8)
        assert await disk.sync_each([file, file]) == [None, None]
        file.truncate(2)
        assert file.pread(100, 0) == b"\0\0"
        file.close()
        file.close()
        assert file.pread(1, 0) == b"\0"
        assert disk.list("a/b") == ["c"]
        assert disk.free_bytes() > 0
        await disk.replace("x", b"1")
        disk.replace_now("x", b"22")
        assert (disk.read_all("x"), disk.list("")) == (b"22", ["a", "x"])
        disk.append("i", b"ab", 0)
        disk.append("i", b"cd", 2)
        assert disk.read_all("i") == b"abcd"
        await disk.zero_file("z", 3_000_000)
        assert disk.read_all("z") == bytes(3_000_000)
        disk.rename("a", "a.deleted")
        disk.remove_folder("a.deleted")
        assert not disk.exists("a.deleted")

    run(tmp_path, script)


def test_files_and_folders_are_readable_only_by_their_owner(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        disk.make_folder("p/q")
        disk.open("p/q/f", create=True)
        disk.write_all("p/g", b"")
        disk.replace_now("p/h", b"")
        for name in ("", "p", "p/q"):
            assert stat.S_IMODE(os.stat(disk.full_path(name)).st_mode) == 0o700
        for name in ("p/q/f", "p/g", "p/h"):
            assert stat.S_IMODE(os.stat(disk.full_path(name)).st_mode) == 0o600

    run(tmp_path, script)


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: real(fd, data[:3], position))

    async def script(disk: RealDisk) -> None:
        file = disk.open("f", create=True)
        file.pwrite(b"0123456789", 0)
        assert file.pread(20, 0) == b"0123456789"

    run(tmp_path, script)


def test_without_nowait_support_reads_may_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "preadv", refuse)

    async def script(disk: RealDisk) -> None:
        disk.has_nowait = True
        file = disk.open("f", create=True)
        file.pwrite(b"abc", 0)
        assert file.pread_nowait(9, 1) == b"bc"
        assert not disk.has_nowait

    run(tmp_path, script)


def test_a_read_that_is_not_in_the_page_cache_returns_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", refuse)

    async def script(disk: RealDisk) -> None:
        disk.has_nowait = True
        file = disk.open("f", create=True)
        file.pwrite(b"abc", 0)
        assert file.pread_nowait(9, 1) is None

    run(tmp_path, script)


def test_clean_files_are_closed_at_the_limit_and_dirty_ones_stay_open(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        files: list[RealFile] = []
        for number in range(40):
            file = disk.open(str(number), create=True)
            assert isinstance(file, RealFile)
            files.append(file)
            if number % 2:
                file.pwrite(b"x", 0)
        assert all(file.is_open for file in files[1::2])
        assert not any(file.is_open for file in files[:-1:2])
        await disk.sync(files)
        disk.open("more", create=True)
        assert sum(file.is_open for file in files) < 16
        assert [file.pread(1, 0) for file in files] == [b"", b"x"] * 20

    run(tmp_path, script, open_files=16)


def test_without_descriptors_a_clean_file_is_closed_and_the_journal_always_has_one(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def script(disk: RealDisk) -> None:
        disk.make_folder("journal")
        files = [disk.open(name, create=True) for name in "abcde"]
        for file in files:
            file.pwrite(b"x", 0)
        await disk.sync(files)
        for file in files:
            file.close()
        a, b, c, d, e = files
        assert a.pread(1, 0) == b"x"
        with open("/dev/null") as null:
            resource.setrlimit(resource.RLIMIT_NOFILE, (null.fileno(), before[1]))
        assert b.pread(1, 0) == b"x", "a was closed for it"
        b.pwrite(b"y", 0)
        with pytest.raises(OSError, match="Too many open files"):
            c.pread(1, 0)
        with pytest.raises(OSError, match="Too many open files"):
            c.pwrite(b"z", 1)
        c.truncate(1)  # undoing a write that failed needs no descriptor
        journal_file = disk.open("journal/1", create=True)
        journal_file.pwrite(b"x", 0)
        await disk.sync([journal_file, b], ["", "journal"])
        assert [d.pread(1, 0), e.pread(1, 0)] == [b"x", b"x"], "b is clean now, so it can be closed"
        assert disk.list("journal") == ["1"]
        assert isinstance(journal_file, RealFile)
        assert journal_file.is_open

    try:
        run(tmp_path, script)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_second_lock_of_the_folder_is_refused(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        disk.lock(".lock")
        other = RealDisk(disk.root, asyncio.get_running_loop())
        with pytest.raises(BlockingIOError):
            other.lock(".lock")
        other.close()

    run(tmp_path, script)


def test_when_the_sync_process_dies_its_requests_fail_and_later_ones_work(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        file = disk.open("f", create=True)
        await disk.sync([file])
        pid = disk._client.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        promises = [disk.sync([file]), disk.sync([file], background=True), disk.replace("x", b"")]
        os.kill(pid, signal.SIGKILL)
        for promise in promises:
            with pytest.raises(OSError, match="sync process died"):
                await promise
        await disk.sync([file])
        assert disk._client.pid not in (None, pid)

    run(tmp_path, script)


def test_a_sync_process_that_never_replied_is_started_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    working = sync_process.__file__
    monkeypatch.setattr(sync_process, "__file__", str(broken))
    monkeypatch.setattr(sync_client, "RESTART_WAIT_S", 0.05)

    async def script(disk: RealDisk) -> None:
        file = disk.open("f", create=True)
        with pytest.raises(OSError, match="the sync process died"):
            await disk.sync([file])
        assert disk._client.pid is None
        with pytest.raises(OSError, match="died before its first reply"):
            await disk.sync([file])
        assert disk._client.pid is None, "no process is started at once"
        monkeypatch.setattr(sync_process, "__file__", working)
        await asyncio.sleep(0.06)
        await disk.sync([file])

    run(tmp_path, script)


def test_the_sync_process_ends_with_the_disk_and_ignores_a_terminals_signals(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        file = disk.open("f", create=True)
        await disk.sync([file])
        process = disk._client._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        await disk.sync([file])
        disk.close()
        assert process.returncode == 0
        with pytest.raises(OSError, match="closed"):
            await disk.sync([file])

    run(tmp_path, script)


def test_many_concurrent_requests_all_get_replies(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        files = [disk.open(str(number), create=True) for number in range(200)]
        for file in files:
            file.pwrite(b"x" * 100, 0)
        syncs = [disk.sync_each(files) for _ in range(20)] + [disk.sync_each(files[:1]) for _ in range(100)]
        for sync in syncs:
            assert not any(await sync)
        reads = [disk.prefetch(file, 0, 100) for file in files]
        for read in reads:
            await read

    run(tmp_path, script)


def test_each_file_has_its_own_sync_result(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        good = disk.open("f", create=True)
        os.symlink("/dev/full", disk.full_path("bad"))  # fdatasync of a character device: EINVAL
        results = await disk.sync_each([good, disk.open("bad"), good])
        assert [error and error.errno for error in results] == [None, errno.EINVAL, None]
        with pytest.raises(OSError):
            await disk.sync([disk.open("bad")])
        os.unlink(disk.full_path("f"))
        good.close()
        await disk.sync([good], ["deleted"])

    run(tmp_path, script)


def test_the_limit_on_open_files_is_raised_to_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 9999))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: requested.append(limits))
    assert open_files.raise_limit() == 9999
    assert requested == [(9999, 9999)]


def test_dirty_files_are_not_searched_at_each_open() -> None:
    class DirtyFile:
        path, written = "partitions/x", 1
        checks = 0

        @property
        def synced(self) -> int:
            DirtyFile.checks += 1
            return 0

        @synced.setter
        def synced(self, value: int) -> None:
            raise AssertionError(value)

        def close(self) -> None:
            raise AssertionError("it has unsynced bytes")

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        files = open_files.OpenFiles(256)
        for _ in range(2_000):
            files.on_opened(DirtyFile())
        assert 256 < DirtyFile.checks < 2_000 * 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_paths_of(disk: RealDisk) -> list[str]:
    """Paths of the data folder's files that the sync process has open."""
    pid = disk._client.pid
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            links.append(os.readlink(path))
    return sorted(link.removeprefix(f"{disk.root}/") for link in links if link.startswith(disk.root))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_sync_process_keeps_only_the_journal_file_open_until_it_is_closed(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        disk.make_folder("journal")
        first, second = disk.open("journal/1", create=True), disk.open("journal/2", create=True)
        other = disk.open("f", create=True)
        for _ in range(2):
            first.pwrite(b"x", 0)
            await disk.sync([first])
            await disk.sync([other], ["journal"])
            assert open_paths_of(disk) == ["journal/1"]
        await disk.sync([second])
        assert open_paths_of(disk) == ["journal/2"]
        first.close()
        await disk.sync([second])
        assert open_paths_of(disk) == ["journal/2"]
        second.close()
        while open_paths_of(disk):
            await asyncio.sleep(0.001)
        await disk.sync([first])
        assert open_paths_of(disk) == ["journal/1"]

    run(tmp_path, script)


@pytest.mark.parametrize("how", ["open", "not open", "closed later", "folder"])
def test_the_blocks_of_a_large_deleted_file_are_freed_in_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """That takes long on a busy disk, and nothing else would run meanwhile. It happens when the last name and
    the last descriptor are gone: in this thread a name may go only while a descriptor is open, and no
    descriptor without a name may be closed."""
    real_close, real_unlink = os.close, os.unlink
    closed_here: list[int] = []
    unlinked: list[str] = []

    def close(descriptor: int) -> None:
        if threading.current_thread() is threading.main_thread():
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                closed_here.append(descriptor)
        real_close(descriptor)

    def unlink(path: str) -> None:
        assert path in {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
        unlinked.append(path)
        real_unlink(path)

    async def script(disk: RealDisk) -> None:
        disk.make_folder("a")
        file = disk.open("a/f", create=True)
        file.pwrite(bytes(2 << 20), 0)
        if how == "not open":
            file.close()
        monkeypatch.setattr(os, "close", close)
        monkeypatch.setattr(os, "unlink", unlink)
        if how == "folder":
            disk.remove_folder("a")
        else:
            disk.unlink("a/f")
        assert not disk.exists("a/f")
        if how == "closed later":
            await asyncio.sleep(0.05)
        file.close()
        assert len(unlinked) == 1

    run(tmp_path, script)
    assert closed_here == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority")
def test_checkpoints_wait_for_the_disk_with_a_priority_relative_to_the_servers() -> None:
    """An absolute one is far below that of a server with a high priority, whose journal fills meanwhile, and
    above that of a server with a low one."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    pairs = [socket.socketpair() for _ in sync_process.CHANNEL_THREADS]
    theirs = [pair[1].fileno() for pair in pairs]
    command = ["nice", "-n", "7", sys.executable, "-I", "-S", sync_process.__file__, *map(str, theirs)]
    checkpoints = sync_process.CHANNEL_THREADS[sync_process.BACKGROUND]
    others = 1 + sum(sync_process.CHANNEL_THREADS) - checkpoints
    expected = sorted([min(own + 7, 19)] * others + [min(own + 12, 19)] * checkpoints)
    with subprocess.Popen(command, pass_fds=theirs) as process, contextlib.ExitStack() as sockets:
        for pair in pairs:
            pair[1].close()
            sockets.enter_context(pair[0])  # when they are closed, the process ends
        deadline = time.monotonic() + 20
        while nice_values(process.pid) != expected and time.monotonic() < deadline:
            time.sleep(0.01)
        assert nice_values(process.pid) == expected
    assert process.returncode == 0


def nice_values(pid: int) -> list[int]:
    """Of the process's threads."""
    stats = [task.joinpath("stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sorted(int(line.rsplit(")", 1)[1].split()[16]) for line in stats)


def test_a_new_sync_process_gets_the_journal_file_again(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        disk.make_folder("journal")
        file = disk.open("journal/1", create=True)
        await disk.sync([file])
        pid = disk._client.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(OSError, match="sync process died"):
            await disk.sync([file])
        await disk.sync([file])
        await disk.sync([file])
        file.close()

    run(tmp_path, script)


def test_a_journal_file_that_cannot_be_synced_fails_each_time(tmp_path: Path) -> None:
    async def script(disk: RealDisk) -> None:
        disk.make_folder("journal")
        os.symlink("/dev/full", disk.full_path("journal/1"))  # fdatasync of a character device: EINVAL
        file = disk.open("journal/1")
        assert isinstance(file, RealFile)
        file.written = 1
        for _ in range(2):
            with pytest.raises(OSError, match="journal/1"):
                await disk.sync([file])
        assert file.synced == 0

    run(tmp_path, script)


def test_the_sync_process_can_be_started_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(disk: RealDisk) -> None:
        with monkeypatch.context() as broken:
            broken.setattr("mainstem.log.disk.sync_client.sys.executable", str(tmp_path / "none"))
            disk.start()
        assert disk._client.pid is None
        disk.start()
        pid = disk._client.pid
        assert pid is not None
        await disk.sync([disk.open("f", create=True)])
        assert disk._client.pid == pid

    run(tmp_path, script)
