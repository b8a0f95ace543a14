"""The headers of a request of HTTP/2: what they must be (RFC 9113, section 8).

Owns: the rules for names, values and pseudo-headers. Refuses: a request that breaks one, which ends its
stream, not its connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mainstem.doors.pubsub.header_block import Headers

_PSEUDO = {b":method": "method", b":scheme": "scheme", b":path": "path", b":authority": "authority"}
_OF_CONNECTIONS = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_IN_VALUE = re.compile(rb"[\0\r\n]")


class MalformedRequest(Exception):
    """The error for headers that break a rule."""


@dataclass(slots=True)
class RequestHead:
    """What a request begins with."""

    method: str
    path: str
    scheme: str
    authority: str
    fields: dict[str, str]
    """The other headers; values of the same name are joined with commas."""
    content_length: int | None = None


def read_head(headers: Headers) -> RequestHead:
    """The head of a request. MalformedRequest."""
    pseudo = {"method": "", "scheme": "", "path": "", "authority": ""}
    fields: dict[str, str] = {}
    for name, value in headers:
        if name[:1] == b":":
            field = _PSEUDO.get(name)
            if field is None or fields or pseudo[field]:
                raise MalformedRequest(f"{name!r} is unknown, repeated or after other headers")
            pseudo[field] = value.decode("latin-1")
        else:
            _add_field(fields, name, value)
    if not (pseudo["method"] and pseudo["scheme"] and pseudo["path"]):
        raise MalformedRequest("there is no :method, :scheme or :path")
    head = RequestHead(pseudo["method"], pseudo["path"], pseudo["scheme"], pseudo["authority"], fields)
    length = fields.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise MalformedRequest("content-length is no number")
        head.content_length = int(length)
    return head


def check_trailers(headers: Headers) -> None:
    """MalformedRequest unless these may follow the body of a request."""
    fields: dict[str, str] = {}
    for name, value in headers:
        _add_field(fields, name, value)


def _add_field(fields: dict[str, str], name: bytes, value: bytes) -> None:
    if _NAME.fullmatch(name) is None:
        raise MalformedRequest(f"{name!r} is no name of a header")
    if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
        raise MalformedRequest(f"{name!r} is not for HTTP/2")
    if _BAD_IN_VALUE.search(value):
        raise MalformedRequest(f"the value of {name!r} has a line's end in it")
    key, text = name.decode("ascii"), value.decode("latin-1")
    fields[key] = f"{fields[key]},{text}" if key in fields else text
