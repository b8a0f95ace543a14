"""The JSON of sessions: logging in, and who is logged in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

CONSOLE_HEADER = "x-mainstem-console"
"""The header that every request of the console has. A page of another site cannot send it."""
ACTIVE = "active"
"""The value of CONSOLE_HEADER if the person at the browser has done something just now: only such a request
lets a session go on."""


class LoginJson(msgspec.Struct, forbid_unknown_fields=True):
    """User and password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"LoginJson(user={self.user!r})"


class MeJson(msgspec.Struct):
    """Who sends the request, and what they may do."""

    principal: Annotated[
        str | None, Meta(description="`User:alice`; null: a login is needed, and there is none.")
    ]
    needs_login: bool
    has_session: Annotated[bool, Meta(description="Whether a session of the console is used.")]
    provider: Annotated[
        str | None, Meta(description="The OpenID Connect provider by which one may log in, if any.")
    ]
    access_control: Annotated[
        bool, Meta(description="Whether rights are checked; without, everybody may do everything.")
    ]
    rights: Annotated[
        dict[str, list[str]],
        Meta(
            description=(
                "By type of resource, the operations that the requester may do to some resource, or to the"
                " cluster."
            )
        ),
    ]


class LoggedOutJson(msgspec.Struct):
    """The session has ended."""

    logged_out: bool
