"""The delay runs of all views, in files: where the times are of events that wait for longer.

Owns: the files of `delays/` in the data folder (FORMAT.md, part "Delay runs"), and what happens when one is
damaged: the state is loaded again. They are derived from the state, and only of this life of the server: each
load of the state deletes all of them and writes them anew from the snapshot and the state log. Refuses: to
believe a file that it has not written itself, to sync them, and to decide what is due (`mainstem.queues`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.disk.contract import Disk, File
from mainstem.promise import Promise
from mainstem.queues.delay_run import DamagedDelayRun
from mainstem.queues.delays import DelayIndex
from mainstem.queues.stored_run import BlockRead, StoredRun
from mainstem.turns import run_in_turns

_VIEW_SHIFT = 32
_LOAD_SHIFT = 20
_LOAD_MASK = (1 << _VIEW_SHIFT - _LOAD_SHIFT) - 1

log = logging.getLogger(__name__)


class DelayStore:
    """The files of one data folder. A run's number has its view (32 bits), the load of the state in which it
    was written (12 bits), and a counter (20 bits)."""

    def __init__(self, disk: Disk, clock: Clock, on_damage: Callable[[str], None]) -> None:
        """`on_damage` loads the state again, for a reason."""
        self._disk = disk
        self._clock = clock
        self._on_damage = on_damage
        self._files: dict[int, File] = {}
        self._loads = 0
        self._has_folder = False

    def new_index(self, view_id: int) -> ViewDelays:
        """The index of a view, which is empty."""
        first_run = view_id << _VIEW_SHIFT | (self._loads & _LOAD_MASK) << _LOAD_SHIFT
        return ViewDelays(self, self._clock, first_run)

    def clear(self) -> None:
        """The state is loaded anew: delete all runs."""
        self._loads += 1
        for file in self._files.values():
            file.close()
        self._files.clear()
        with contextlib.suppress(OSError):  # what is left is not read, and is deleted at the next load
            for name in self._disk.list(paths.DELAYS):
                self._disk.unlink(f"{paths.DELAYS}/{name}")

    def damaged(self, error: DamagedDelayRun) -> None:
        """A run is not what was written. Its events have their times in the state log."""
        log.error("%s: the state of queues is loaded again", error)
        self._on_damage(str(error))

    # --- RunStore -----------------------------------------------------------------------------------------

    def write(self, run_id: int, data: bytes) -> None:
        """See `RunStore`."""
        if not self._has_folder:
            self._disk.make_folder(paths.DELAYS)
            self._has_folder = True
        self._disk.write_all(paths.delay_run_path(run_id), data)

    def read(self, run_id: int, start: int, size: int) -> bytes:
        """See `RunStore`. Waits for the disk if `fetch` was not called in time."""
        try:
            file = self._file(run_id)
            data = file.pread_nowait(size, start)
            return file.pread(size, start) if data is None else bytes(data)
        except OSError as error:
            log.warning("a run of waiting events cannot be read: %s", error)
            return b""

    def _file(self, run_id: int) -> File:
        file = self._files.get(run_id)
        if file is None:
            file = self._files[run_id] = self._disk.open(paths.delay_run_path(run_id))
        return file

    def delete(self, run_id: int) -> None:
        """See `RunStore`."""
        file = self._files.pop(run_id, None)
        if file is not None:
            file.close()
        with contextlib.suppress(OSError):
            self._disk.unlink(paths.delay_run_path(run_id))

    def fetch(self, read: BlockRead) -> Promise[None]:
        """Let a part of a run be in the page cache. Fails with OSError."""
        try:
            return self._disk.prefetch(self._file(read.run_id), read.start, read.size)
        except OSError as error:
            return Promise.failed(error)


class ViewDelays(DelayIndex):
    """What waits in one view. A damaged run is reported to the store, which has the state loaded again; until
    then nothing more is due."""

    def __init__(self, store: DelayStore, clock: Clock, first_run: int) -> None:
        super().__init__(store, on_full=self._sort_soon, first_run=first_run)
        self._delay_store = store
        self._clock = clock
        self._fetching: set[tuple[int, int]] = set()

    def _sort_soon(self) -> None:
        run_in_turns(self._clock, self.steps(), 1).then(lambda done: done.result())

    def _read_block(self, run: StoredRun, number: int) -> bytes:
        try:
            return super()._read_block(run, number)
        except DamagedDelayRun as error:
            self._delay_store.damaged(error)
            raise

    def pop_due(self, now_ms: int, max_entries: int | None = None) -> list[int]:
        """See `DelayIndex`."""
        try:
            return super().pop_due(now_ms, max_entries)
        except DamagedDelayRun:
            return []

    def fetch_soon(self, now_ms: int) -> None:
        """Read what is due within the next minute into the page cache, so that `pop_due` waits for no
        disk."""
        for read in self.blocks_due_soon(now_ms):
            name = read.run_id, read.block
            if name not in self._fetching:
                self._fetching.add(name)
                fetched = self._delay_store.fetch(read)
                fetched.then(lambda _, name=name: self._fetching.discard(name))  # type: ignore[misc]
