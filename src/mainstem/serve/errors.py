"""The error for a server that does not start."""

from __future__ import annotations

from typing import Literal

Reason = Literal["usage", "refused", "address", "folder", "locked", "limit"]


class CannotServe(Exception):
    """The server did not start. The message is one line: what, where, what to do."""

    def __init__(self, reason: Reason, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """usage: settings that make no sense; refused: unsafe as asked; address: cannot be bound; folder:
        cannot be used; locked: another server has it; limit: the system permits too little."""
        self.errno = errno
        """The operating system's reason, where there is one."""
