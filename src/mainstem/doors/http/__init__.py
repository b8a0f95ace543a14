"""The HTTP door: a JSON API for programs, and the files of the console.

Owns: HTTP for an engine (`mainstem.contract.Engine`) that it is given. Refuses: any other access to the event
log. `routes/` has one file per noun, `endpoints.py` lists all routes, and the OpenAPI document is made from
that list. The JSON types are in `mainstem.http_api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door
from mainstem.setting_definition import SettingDefinition

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
            name="http_open_metrics",
            type=bool,
            default=False,
            doc="Serve /metrics and /metrics/per-object to everybody, without a login and with all names.",
        ),
        SettingDefinition(
            name="http_session_idle_ms",
            type=int,
            default=1_800_000,
            doc="A session of the console ends when its person has done nothing for this time, in ms.",
            minimum=1_000,
        ),
        SettingDefinition(
            name="http_session_max_ms",
            type=int,
            default=43_200_000,
            doc="A session of the console ends after this time in any case, in ms.",
            minimum=1_000,
        ),
        SettingDefinition(
            name="http_oidc_issuer",
            type=str | None,
            default=None,
            doc="OpenID Connect provider for logins to the console: its issuer, an https:// address.",
            metavar="URL",
        ),
        SettingDefinition(
            name="http_oidc_client_id",
            type=str | None,
            default=None,
            doc="Name of this server at the login provider.",
        ),
        SettingDefinition(
            name="http_oidc_client_secret_file",
            type=str | None,
            default=None,
            doc="File with the client secret for the login provider, mode 0600; none: a public client.",
            metavar="FILE",
        ),
        SettingDefinition(
            name="http_oidc_redirect",
            type=str | None,
            default=None,
            doc="URL of /api/v1/session/oidc/callback for browsers; default: by their Host header.",
            metavar="URL",
        ),
        SettingDefinition(
            name="http_oidc_scopes",
            type=str,
            default="openid profile",
            doc="Scopes that are asked of the login provider, with spaces.",
        ),
        SettingDefinition(
            name="http_oidc_user_claim",
            type=str,
            default="preferred_username",
            doc="Claim of the provider's tokens with the name of the user.",
        ),
        SettingDefinition(
            name="http_oidc_roles_claim",
            type=str,
            default="groups",
            doc="Claim of the provider's tokens with the names of roles; dots lead into it.",
        ),
        SettingDefinition(
            name="http_max_body_bytes",
            type=int,
            default=16_777_216,
            doc="Maximum size of the body of an HTTP request, in bytes; for NDJSON, of each line.",
            minimum=1024,
        ),
    ),
    mechanisms=("PLAIN", "OAUTHBEARER"),
    alpn=("http/1.1",),
    uses_search=True,
    on_by_default=True,
    preload=True,
)
