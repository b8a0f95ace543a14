"""Pages of lists: which resources a List call returns, and the token of the next page.

Owns: the tokens. They say behind which name a page begins, so that resources which come and go meanwhile do
no harm, and nothing is kept for them. Refuses: tokens that another list has given.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_right
from collections.abc import Sequence

PAGE_MAX = 1_000
"""The most resources of a page; also those of a page whose size is not given."""


def page_of(names: Sequence[str], size: int, token: str, scope: str) -> tuple[Sequence[str], str]:
    """The names of a page, and the token of the next one; empty: there is none. `names`: all of them, sorted;
    `scope`: says which list it is. ValueError: the size or the token is invalid."""
    if size < 0:
        raise ValueError(f"Invalid page size given (size={size}): it must not be negative.")
    size = min(size or PAGE_MAX, PAGE_MAX)
    first = bisect_right(names, _name_in(token, scope)) if token else 0
    page = names[first : first + size]
    return page, _token(page[-1], scope) if first + size < len(names) else ""


def _token(name: str, scope: str) -> str:
    return base64.urlsafe_b64encode(_check(name, scope) + name.encode()).decode()


def _name_in(token: str, scope: str) -> str:
    try:
        data = base64.b64decode(token.encode(), b"-_", validate=True)
        name = data[4:].decode()
    except (binascii.Error, ValueError):
        data, name = b"", ""
    if not name or data[:4] != _check(name, scope):
        raise ValueError(f"Invalid page token given (token={token[:100]}).")
    return name


def _check(name: str, scope: str) -> bytes:
    return zlib.crc32(f"{scope}\n{name}".encode()).to_bytes(4, "big")
