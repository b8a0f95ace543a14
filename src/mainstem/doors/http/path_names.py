"""Names in the paths of routes: any text, or one part of a path in which slashes and colons are encoded.

A path is compared with those of the routes after it was decoded, and then `a%2Fb` cannot be distinguished
from `a/b`, nor `a%3Apull` from a verb. So in paths below ENCODED the two characters are replaced by marks
before they are decoded, and the parameter gets them back.

Owns: the marks, and the convertors of parameters. Refuses: a path that has a mark of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Router

from mainstem.doors.http.problem import Problem

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ENCODED = ("/api/v1/subscriptions/", "/api/v1/stats/subscriptions/")
"""Below these, names may have encoded slashes and colons: those of share groups and of routed queues."""
_MARKS = {"%2f": "\ufdd0", "%3a": "\ufdd1"}
"""Characters that Unicode assigns to nothing, for ever."""
_CHARACTERS = str.maketrans(dict(zip(_MARKS.values(), "/:", strict=True)))
_ENCODED_CHARACTER = re.compile("|".join(_MARKS), re.IGNORECASE)


class _AnyText(Convertor[str]):
    """Matches `{name:text}` in a path: any characters, including slashes and line ends."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _OnePart(_AnyText):
    """Matches `{name:word}` in a path: one part of it without a colon that is not encoded, for
    `/{name:word}:verb` is another path."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value.translate(_CHARACTERS)


register_url_convertor("text", _AnyText())
register_url_convertor("word", _OnePart())


class MarkingRouter(Router):
    """A router that compares paths with marks for what is encoded in them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the head of the module."""
        if scope["type"] == "http" and scope["path"].startswith(ENCODED):
            if any(mark in scope["path"] for mark in _MARKS.values()):
                await Problem("bad-path", "no name has this character").response()(scope, receive, send)
                return
            scope = {**scope, "path": _marked(scope["raw_path"].decode("latin-1"))}
        await super().__call__(scope, receive, send)


def _marked(raw_path: str) -> str:
    return unquote(_ENCODED_CHARACTER.sub(lambda match: quote(_MARKS[match[0].lower()]), raw_path))
