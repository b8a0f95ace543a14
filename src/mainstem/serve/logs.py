"""The formats of the server's log lines, for people and as JSON lines.

Owns: where they are written: standard error; and that whatever a client sends, a line stays one line: all
that is not printable is escaped, and values that a client may have chosen are cut. Refuses: standard output,
which carries the ready line alone. Everything else uses the standard `logging` with loggers named
`mainstem.…`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import TextIO

from mainstem.clock import BlockingClock
from mainstem.printable import escape_controls, excerpt
from mainstem.serve.log_limit import MORE, TEXT_CHARACTERS_MAX, ClientLineLimit, is_of_client

TRACEBACK_LINES_MAX = 300
_MONOTONIC = BlockingClock().monotonic
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m", "DEBUG": "\x1b[2m"}


def utc(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    whole, part = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{part:03d}Z"


def text_of(record: logging.LogRecord) -> str:
    """The message of a record, on one line. If a client may have chosen what is in it, each text among the
    arguments is cut, and so is the whole."""
    if not is_of_client(record):
        return escape_controls(record.getMessage())
    text, args = str(record.msg), record.args
    if isinstance(args, tuple) and args:
        text %= tuple(excerpt(str(arg)) if isinstance(arg, str | BaseException) else arg for arg in args)
    elif args:
        text = record.getMessage()
    more = record.__dict__.get(MORE)
    return excerpt(text, TEXT_CHARACTERS_MAX) + (f" ({more} more like it)" if more else "")


class HumanFormat(logging.Formatter):
    """`2026-11-23T12:41:03.120Z info    kafka: text`; the level in colour on a terminal. The lines of a
    traceback are indented."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower():<7}"
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}\x1b[0m"
        line = f"{utc(record.created)} {level} {short_name(record.name)}: {text_of(record)}"
        return "\n  ".join([line, *_traceback(self, record)])


class JsonFormat(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields of an audit line, and the traceback of
    an exception. All but printable ASCII is escaped as JSON does it, so that the fields are exact."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": short_name(record.name),
            "message": text_of(record),
        }
        line |= getattr(record, "fields", {})  # an audit line has some
        if record.exc_info:
            line["traceback"] = "\n".join(_traceback(self, record))
        return json.dumps(line, separators=(",", ":")).replace("\x7f", "\\u007f")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The lines of the traceback of an exception, escaped; none without an exception."""
    if not record.exc_info:
        return []
    lines = formatter.formatException(record.exc_info).splitlines()[-TRACEBACK_LINES_MAX:]
    return [excerpt(line, TEXT_CHARACTERS_MAX) for line in lines]


def short_name(name: str) -> str:
    """The logger's name without the package: `log.recovery`, `doors.kafka`."""
    return name.removeprefix("mainstem.")


def set_up(
    level: str,
    *,
    as_json: bool,
    stream: TextIO | None = None,
    monotonic: Callable[[], float] = _MONOTONIC,
) -> None:
    """Write the lines of all loggers, from `level` on, to `stream`; None: standard error. `monotonic`, in
    seconds, is for the limit of lines that clients cause."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormat() if as_json else HumanFormat(colour=stream.isatty()))
    handler.addFilter(ClientLineLimit(text_of, monotonic))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def report_left_out(*, at_end: bool = False) -> None:
    """Write a line for each kind of which the limit has left out lines, see `ClientLineLimit`."""
    for handler in logging.getLogger().handlers:
        for limit in handler.filters:
            if isinstance(limit, ClientLineLimit):
                for record in limit.take_left_out(at_end=at_end):
                    handler.handle(record)
