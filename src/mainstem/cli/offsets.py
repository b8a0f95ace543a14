"""Reports offsets that people typed and that a topic does not have, instead of reading nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainstem.cli.common import print_error
from mainstem.stream_errors import PositionOutOfRange
from mainstem.timespec import SECONDS_MAX, StartPoint, format_iso

if TYPE_CHECKING:
    from mainstem.contract import Engine

SECONDS_MIN = 1_000_000_000
"""A number from here on (September 2001) may be meant as seconds since 1970."""


async def check_offset(
    engine: Engine, option: str, point: StartPoint | None, partitions: Iterable[tuple[str, int]]
) -> None:
    """Check that the offset of an option is not beyond the end of all partitions, and name those that end
    before it. Nothing to check if it is no offset. Raises PositionOutOfRange."""
    if point is None or point.kind != "offset":
        return
    ends = {key: (await engine.bounds(*key)).end for key in partitions}
    short = {key: end for key, end in ends.items() if end < point.value}
    if short and len(short) == len(ends):
        topics = ", ".join(sorted({topic for topic, _ in ends}))
        raise PositionOutOfRange(
            f"{option} {point.value}: offset {point.value:,} is beyond the end of {topics}, which is"
            f" {max(ends.values()):,}{_time_hint(point.value)}"
        )
    for (topic, partition), end in short.items():
        print_error(f"{option} {point.value}: {topic} partition {partition} ends at {end:,}")


def _time_hint(number: int) -> str:
    """How to write a number that looks like a time."""
    if number < SECONDS_MIN:
        return ""
    text = format_iso(number * 1000 if number < SECONDS_MAX else number)
    return "" if text.isdigit() else f"; for the time, write {text}"
