"""The formats of the server's log lines, for people and as JSON lines.

Owns: where they are written: standard error. Refuses: standard output, which carries the ready line alone.
Everything else uses the standard `logging` with loggers named `mainstem.…`.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}


def utc(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    whole, part = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{part:03d}Z"


class HumanFormat(logging.Formatter):
    """`2026-11-23T12:41:03.120Z info    kafka  text`; the level in colour on a terminal."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower():<7}"
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}\x1b[0m"
        line = f"{utc(record.created)} {level} {short_name(record.name)}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormat(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields of an audit line, and the traceback of
    an exception."""

    def format(self, record: logging.LogRecord) -> str:
        import msgspec

        line = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": short_name(record.name),
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})  # an audit line has some
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def short_name(name: str) -> str:
    """The logger's name without the package: `log.recovery`, `doors.kafka`."""
    return name.removeprefix("mainstem.")


def set_up(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Write the lines of all loggers, from `level` on, to `stream`; None: standard error."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormat() if as_json else HumanFormat(colour=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
