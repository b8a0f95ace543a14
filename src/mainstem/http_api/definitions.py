"""What became of a document of RabbitMQ's definitions: `/rabbitmq/api/definitions?report=true`."""

from __future__ import annotations

import msgspec


class ImportReport(msgspec.Struct):
    """What became of a document."""

    taken: dict[str, int] = msgspec.field(default_factory=dict)
    """By part, how many items are there now, or were before."""
    skipped: list[dict[str, str]] = msgspec.field(default_factory=list)
    """The items that were not taken: part, name, reason."""
    error: str = ""
    """Why the rest of the document was not looked at; empty: all of it was."""
