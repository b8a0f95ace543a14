"""The audit in a file: a JSON object a line.

Owns: the file, which only its owner may read. It is opened anew when it was moved away, so that other
programs may rotate it. Refuses: to wait for the disk in the event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import msgspec

from mainstem.audit.events import AuditEvent
from mainstem.audit.trail import AuditSinkError

FILE_MODE = 0o600


class AuditFile:
    """Implements `AuditSink`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._encoder = msgspec.json.Encoder()

    @property
    def name(self) -> str:
        """See `AuditSink`."""
        return f"audit file {self._path}"

    def open(self) -> None:
        """Open the file, which is made if it does not exist. OSError: it cannot be written, or others may
        read it."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        if os.fstat(descriptor).st_mode & 0o077:
            os.close(descriptor)
            raise PermissionError(0, f"others may read it: chmod 600 {self._path}")
        self._descriptor = descriptor

    async def write(self, batch: Sequence[AuditEvent]) -> None:
        """See `AuditSink`."""
        lines = b"".join(self._encoder.encode(event) + b"\n" for event in batch)
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._append, lines)
        except OSError as error:
            raise AuditSinkError(error.strerror or str(error)) from None

    def close(self) -> None:
        """See `AuditSink`."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, lines: bytes) -> None:
        if self._descriptor is None or not self._is_in_place():
            self.close()
            self.open()
        assert self._descriptor is not None
        end = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, lines)
            if written != len(lines):  # a full disk: what was written is taken back, to be given again
                raise OSError(0, "no space left for the next lines")
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def _is_in_place(self) -> bool:
        assert self._descriptor is not None
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
