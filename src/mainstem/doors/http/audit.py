"""The audit lines: who changed something, or took it out, by HTTP.

Owns: the form of a line of the logger `mainstem.audit`: one for each action when it has ended, well or not,
a dry run too; publishing is not one. Refuses: to let what a client wrote end a line or colour it. A line is
written whatever the log level is. Used by every route that changes, deletes or exports.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from mainstem.contract import StreamError
from mainstem.doors.http.problem import KINDS, Problem, from_error

if TYPE_CHECKING:
    from mainstem.doors.http.endpoint import Call

log = logging.getLogger("mainstem.audit")
log.setLevel(logging.INFO)

TEXT_CHARACTERS = 500
"""Of a value that a client chose; the rest is cut."""
AuditOutcome = Literal["done", "refused", "failed", "cut-off"]
Value: TypeAlias = str | int | bool | None


class AuditLine:
    """What is known of one action so far. `counts` grow while it runs."""

    def __init__(self, action: str, peer: str, *, dry_run: bool, about: dict[str, Value]) -> None:
        self._head: dict[str, Value] = {"action": action, "peer": peer, "dry_run": dry_run, **about}
        self.counts: dict[str, Value] = {}
        self.outcome: AuditOutcome = "done"
        self._why: str | None = None

    def count(self, **counts: Value) -> None:
        """Events, bytes, partitions …: the last number of each stands in the line."""
        self.counts |= counts

    def ended(self, outcome: AuditOutcome, why: str) -> None:
        """It did not end well."""
        self.outcome, self._why = outcome, why

    def ended_by(self, error: Problem | StreamError) -> None:
        """It did not end well: `refused` where the request was to blame, else `failed`."""
        told = error if isinstance(error, Problem) else from_error(error)
        self.ended("refused" if KINDS[told.kind].status < 500 else "failed", told.detail)

    def fields(self) -> dict[str, Value]:
        """All of the line, in order."""
        why = {} if self._why is None else {"why": self._why}
        return {**self._head, "outcome": self.outcome, **self.counts, **why}


@contextmanager
def action(call: Call, name: str, *, dry_run: bool = False, **about: Value) -> Iterator[AuditLine]:
    """Do an action inside; its line is written at the end. `about` names its object. Errors pass through."""
    client = call.request.client
    line = AuditLine(name, client.host if client is not None else "unknown", dry_run=dry_run, about=about)
    try:
        yield line
    except (Problem, StreamError) as error:
        line.ended_by(error)
        raise
    except (asyncio.CancelledError, GeneratorExit, ConnectionError):
        line.ended("cut-off", "the client went away, or the server stopped")
        raise
    except BaseException as error:
        line.ended("failed", repr(error))
        raise
    finally:
        write(line.fields())


def write(fields: dict[str, Value]) -> None:
    """One line: `name=value …` for people, members of the object for JSON logs."""
    bounded = {
        name: value[:TEXT_CHARACTERS] if isinstance(value, str) else value for name, value in fields.items()
    }
    log.info(" ".join(f"{name}={_text(value)}" for name, value in bounded.items()), extra={"fields": bounded})


def _text(value: Value) -> str:
    if isinstance(value, str) and value.isascii() and value.replace("-", "").replace(".", "").isalnum():
        return value
    return json.dumps(value)  # escapes all but printable ASCII
