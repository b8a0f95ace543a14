"""A door of one folder: it sends back what it receives. It proves that a new door needs nothing else than its
folder and one line in `DOORS`, which here is in `__main__.py`, or in a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, MetricDefinition
from mainstem.setting_definition import SettingDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener

GREETING = b"ECHO "
BREAK = b"ECHO break"
"""After this the door reports a problem."""


def sniff(first_bytes: bytes) -> bool | None:
    """Its protocol begins with a greeting."""
    if first_bytes.startswith(GREETING):
        return True
    return None if GREETING.startswith(first_bytes) else False


def _load() -> Opener:
    from tests.doors.echo.server import open_door

    return open_door


DOOR = Door(
    name="echo",
    title="Echo",
    port=7007,
    sniff=sniff,
    load=_load,
    settings=(
        SettingDefinition(
            name="echo_prefix",
            type=str,
            default="",
            doc="Text before each reply of the Echo door.",
            metavar="TEXT",
            has_flag=True,
        ),
    ),
    http_prefix="/echo/",
    metrics={"mainstem_echo_bytes_total": MetricDefinition("counter", (), "Bytes that were sent back.")},
)
