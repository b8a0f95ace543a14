"""Which protocol a connection to the Pub/Sub door speaks, by its first bytes.

Owns: what HTTP/2 and HTTP/1.1 begin with. Refuses: imports, for every start loads it.
"""

from __future__ import annotations

METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")
"""What requests of HTTP/1.1 begin with."""
BEGINNINGS = (b"PRI * HTTP/2.0\r\n", *METHODS)


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes begin a connection of HTTP/2 or HTTP/1.1; None: they may be its beginning."""
    return _begins(first_bytes, BEGINNINGS)


def is_http1(first_bytes: bytes) -> bool | None:
    """Whether the bytes begin with a method of HTTP/1.1; None: they may be the beginning of one."""
    return _begins(first_bytes, METHODS)


def _begins(first_bytes: bytes, beginnings: tuple[bytes, ...]) -> bool | None:
    if first_bytes.startswith(beginnings):
        return True
    return None if any(beginning.startswith(first_bytes) for beginning in beginnings) else False
