"""The types, with bounds, of fields that several requests have: offsets, partitions, times, names."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, UnsetType

LONG_MAX = 2**63 - 1

TopicName = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]
TopicGlob = Annotated[str, Meta(min_length=1, max_length=300)]
PartitionNumber = Annotated[int, Meta(ge=0, le=2**31 - 1)]
PartitionCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Offset = Annotated[int, Meta(ge=0, le=LONG_MAX)]
SignedOffset = Annotated[int, Meta(ge=-LONG_MAX, le=LONG_MAX)]
"""An offset; a negative one counts from the end of the partition."""
Milliseconds = Annotated[int, Meta(ge=0, le=LONG_MAX)]
"""A duration in milliseconds, or a time in milliseconds since 1970."""
Operations = Annotated[
    list[str] | UnsetType,
    Meta(description="What the requester may do to it; absent if nothing limits what they may do."),
]
"""Operations on a resource, by Kafka's names."""
