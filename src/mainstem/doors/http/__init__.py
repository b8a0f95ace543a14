"""The HTTP door: a JSON API for programs, and the files of the console.

Owns: HTTP for an engine (`mainstem.contract.Engine`) that it is given. Refuses: any other access to the event
log. `routes/` has one file per noun, `endpoints.py` lists all routes, and the OpenAPI document is made from
that list. The JSON types are in `mainstem.http_api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door
from mainstem.settings import SettingDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"OPTIONS ", b"CONNECT ", b"TRACE ")


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes begin with an HTTP method; None: they may be the beginning of one."""
    if first_bytes.startswith(METHODS):
        return True
    return None if any(method.startswith(first_bytes) for method in METHODS) else False


def _load() -> Opener:
    from mainstem.doors.http.preload import preload
    from mainstem.doors.http.server import open_door

    preload()
    return open_door


DOOR = Door(
    name="http",
    title="HTTP",
    port=8080,
    sniff=sniff,
    load=_load,
    kafka_listener_setting="mainstem.http.listener",
    settings=(
        SettingDefinition(
            name="http_hosts",
            type=str,
            default="",
            doc="Names that the Host header of HTTP requests may give, besides localhost; with commas.",
            metavar="NAMES",
            has_flag=True,
        ),
        SettingDefinition(
            name="http_read_only",
            type=bool,
            default=False,
            doc="Refuse every HTTP request that would change something.",
            has_flag=True,
        ),
        SettingDefinition(
            name="http_max_body_bytes",
            type=int,
            default=16_777_216,
            doc="Maximum size of the body of an HTTP request, in bytes; for NDJSON, of each line.",
            minimum=1024,
        ),
    ),
    uses_search=True,
    on_by_default=True,
    preload=True,
)
