"""Limits the log lines that clients can cause: a flood of requests must not fill the disk with lines.

Owns: how many lines of each kind were written in this interval, and how many were left out. A kind is a place
in the code, and the kind of a door's warning, so that many of these cannot hide one. Refuses: to leave out
what the server reports about itself (disk, recovery, start and stop), and audit lines, of which there is
one for each action.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.doors.net.warning_log import KIND

LINES = 20
"""Most lines of a kind in one interval."""
INTERVAL_S = 10.0
TEXT_CHARACTERS_MAX = 1000
MORE = "more_like_it"
"""Attribute of a record: how many lines like it were left out."""
OWN_LOGGERS = tuple(f"mainstem.{name}" for name in ("audit", "log", "node", "search", "serve", "settings"))
"""Of the server itself. Every other logger may report what a client did."""


def is_of_client(record: logging.LogRecord) -> bool:
    """Whether a client may have caused the line, and chosen what is in it."""
    return not record.name.startswith(OWN_LOGGERS)


class _Kind:
    """The lines of one kind in the interval that began at `begin`."""

    __slots__ = ("begin", "example", "left_out", "written")

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.written = 0
        self.left_out = 0
        self.example: logging.LogRecord | None = None
        """The first that was left out, without the objects that its arguments may hold."""


class ClientLineLimit(logging.Filter):
    """Passes the first `LINES` lines of each kind in `INTERVAL_S` seconds. `text_of`: the text of a record;
    `monotonic`: seconds."""

    def __init__(self, text_of: Callable[[logging.LogRecord], str], monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._text_of = text_of
        self._monotonic = monotonic
        self._kinds: dict[tuple[str, int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if MORE in record.__dict__ or not is_of_client(record):
            return True
        place, now = (record.pathname, record.lineno), self._monotonic()
        key = (*place, record.__dict__.get(KIND, ""))
        kind = self._kinds.get(key)
        if kind is None or (now - kind.begin >= INTERVAL_S and not kind.left_out):
            kind = self._kinds[key] = _Kind(now)
        if kind.written < LINES:
            kind.written += 1
            return True
        kind.left_out += 1
        if kind.example is None:
            text = self._text_of(record)[:TEXT_CHARACTERS_MAX]
            kind.example = logging.LogRecord(record.name, record.levelno, *place, text, None, None)
        return False

    def take_left_out(self, *, at_end: bool = False) -> list[logging.LogRecord]:
        """A record for each kind of which lines were left out: one of them, with the number of the others
        in its attribute `MORE`. Of the intervals that are over; `at_end`, of all. To be called every few
        seconds."""
        now, records = self._monotonic(), []
        for key, kind in list(self._kinds.items()):
            if at_end or now - kind.begin >= INTERVAL_S:
                del self._kinds[key]
                if kind.example is not None:
                    kind.example.__dict__[MORE] = kind.left_out - 1
                    records.append(kind.example)
        return records
