"""Numbers of the stream, with their bounds, as the bodies and parameters of this door declare them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

LONG_MAX = 2**63 - 1

PartitionNumber = Annotated[int, Meta(ge=0, le=2**31 - 1)]
PartitionCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Offset = Annotated[int, Meta(ge=0, le=LONG_MAX)]
SignedOffset = Annotated[int, Meta(ge=-LONG_MAX, le=LONG_MAX)]
"""An offset; a negative one counts from the end."""
Millis = Annotated[int, Meta(ge=0, le=LONG_MAX)]
"""Milliseconds, or milliseconds since 1970."""
