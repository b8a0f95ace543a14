"""The exit codes of `mainstem`, for scripts. docs/CLI.md has the same table, and a test compares them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.serve.errors import Reason


class ExitCode(IntEnum):
    """The exit code of the process. `meaning` is its text in docs/CLI.md."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        self = int.__new__(cls, code)
        self._value_ = code
        self.meaning = meaning
        return self

    DONE = (
        0,
        "The command was successful; `serve` or `run` was stopped by SIGTERM or Ctrl-C and closed cleanly.",
    )
    FAILED = 1, "The server refused, or what was asked for does not exist; `search`: no matches."
    USAGE = 2, "The command line or a setting is wrong; nothing was done. `search`: any refusal."
    NOT_REACHABLE = 3, "No server responds at `--at`, or it stopped responding."
    BAD_INPUT = (
        4,
        "`produce`, `users import`, `import`: some lines or items were bad; `tail`, `search`, `trace`,"
        " `export`, `replay`, `inspect`, `doctor`, `restore`: there is damage, and what was damaged is left"
        " out.",
    )
    REFUSED = (
        5,
        "`serve`: unsafe settings (public address without authentication, wildcard without `--advertise`),"
        " or too few open files permitted.",
    )
    ADDRESS = 6, "`serve`, `run --health`: the address is in use or cannot be bound."
    FOLDER = (
        7,
        "`serve`, `users`, `acls`, `quotas`, `masking-rules`, `doctor`, `backup`, `restore`: a data folder"
        " cannot be created, written or read.",
    )
    LOCKED = (
        8,
        "`serve`, `users`, `acls`, `quotas`, `masking-rules`, `doctor`, `restore`: another server is using"
        " the data folder.",
    )
    OUTPUT = 9, "Standard output cannot be written, for example because the disk is full."
    INTERRUPTED = 130, "Ctrl-C."
    PIPE_CLOSED = 141, "The reader of standard output closed the pipe."


CANNOT_SERVE: dict[Reason, ExitCode] = {
    "usage": ExitCode.USAGE,
    "refused": ExitCode.REFUSED,
    "limit": ExitCode.REFUSED,
    "address": ExitCode.ADDRESS,
    "folder": ExitCode.FOLDER,
    "locked": ExitCode.LOCKED,
}
"""The exit code for each reason why `serve` or `console` does not start."""
