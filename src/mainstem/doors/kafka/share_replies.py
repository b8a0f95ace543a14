"""The body of a ShareFetch reply, in pieces: stored batches are not copied.

Owns: this encoding. Tests compare every byte with the schema's writer. Refuses: other replies.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from mainstem.doors.kafka.fast_replies import COPIED_BYTES
from mainstem.kafka_protocol.message import Buffer
from mainstem.kafka_protocol.writer import uvarint
from mainstem.share_contract import AcquiredRun

_HEAD = struct.Struct(">ihBi").pack
_PARTITION = struct.Struct(">ih").pack
_CODE = struct.Struct(">h").pack
_NO_LEADER = struct.pack(">iiB", -1, -1, 0)
_ACQUIRED = struct.Struct(">qqhB").pack


class ShareFetched(NamedTuple):
    """One partition of the reply."""

    partition: int
    error: int = 0
    """An `ErrorCode`: of the fetch."""
    message: str | None = None
    acknowledge_error: int = 0
    acknowledge_message: str | None = None
    pieces: Sequence[Buffer] = ()
    acquired: Sequence[AcquiredRun] = ()


def _text(text: str | None) -> bytes:
    if text is None:
        return b"\0"
    data = text.encode()
    return uvarint(len(data) + 1) + data


def share_fetch_reply(lock_ms: int, topics: Mapping[UUID, Sequence[ShareFetched]]) -> list[Buffer]:
    """The body of a reply without a top-level error, in any version."""
    pieces: list[Buffer] = []
    out = bytearray(_HEAD(0, 0, 0, lock_ms))
    out += uvarint(len(topics) + 1)
    for topic_id, partitions in topics.items():
        out += topic_id.bytes
        out += uvarint(len(partitions) + 1)
        for fetched in partitions:
            out += _PARTITION(fetched.partition, fetched.error) + _text(fetched.message)
            out += _CODE(fetched.acknowledge_error) + _text(fetched.acknowledge_message)
            out += _NO_LEADER
            out += uvarint(sum(map(len, fetched.pieces)) + 1)
            for piece in fetched.pieces:
                if len(piece) <= COPIED_BYTES:
                    out += piece
                else:
                    pieces += (out, piece)
                    out = bytearray()
            out += uvarint(len(fetched.acquired) + 1)
            out += b"".join([_ACQUIRED(*run, 0) for run in fetched.acquired])
            out += b"\0"
        out += b"\0"
    out += b"\x01\0"
    pieces.append(out)
    return pieces
