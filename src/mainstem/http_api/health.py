"""The JSON of the health checks: liveness and readiness."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class LiveJson(msgspec.Struct):
    """The process responds."""

    live: bool


class DamagedOffsetsJson(msgspec.Struct):
    """Offsets of one partition that are lost; those before and after them can be read."""

    topic: str
    partition: int
    first: int
    last: int


class ReadyJson(msgspec.Struct):
    """The reply to the readiness check: whether events can be written and read, and if not, why."""

    ready: bool
    reasons: Annotated[list[str], Meta(description="Why the server is not ready; empty if it is.")]
    notes: Annotated[
        list[str],
        Meta(
            description=(
                "What the last start put aside, for an administrator to look at: writes that a crash"
                " interrupted, partitions that no topic has. No acknowledged event is among it. Also, whether"
                " it found the journal damaged: then such events may be lost."
            )
        ),
    ]
    damaged: Annotated[
        list[DamagedOffsetsJson],
        Meta(
            description=(
                "Offsets that are known to be lost, at most 100 ranges: the server serves all others and"
                " stays ready. `mainstem doctor` reports what is wrong and what to do."
            )
        ),
    ]
    doors: Annotated[
        dict[str, str],
        Meta(description="Each door's addresses, or `off`, with the reason if it was asked for."),
    ]
