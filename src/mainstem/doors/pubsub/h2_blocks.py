"""Header blocks as frames bring them: whole, or in HEADERS and CONTINUATION.

Owns: the fragments of the one block that may be incomplete, and the decoder of the connection. Refuses:
blocks above BLOCK_BYTES_MAX or in too many frames, before they are decoded.
"""

from __future__ import annotations

from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.frames import H2Error
from mainstem.doors.pubsub.h2_rules import (
    BLOCK_BYTES_MAX,
    CONTINUATIONS_MAX,
    ON_ITSELF,
    ConnectionFailure,
    depends_on_itself,
    unpadded,
)
from mainstem.doors.pubsub.header_block import HeaderBlockError, HeaderDecoder, HeaderListTooLarge, Headers


class BlockAssembler:
    """The header blocks of one connection."""

    __slots__ = ("_decoder", "_flags", "_fragments", "open_stream")

    def __init__(self) -> None:
        self._decoder = HeaderDecoder()
        self._fragments: list[bytes] = []
        self._flags = 0
        self.open_stream = 0
        """The stream whose block is not whole: only its CONTINUATION may follow; 0: none."""

    def begin(self, flags: int, stream: int, payload: bytes) -> tuple[int, Headers] | None:
        """A HEADERS frame: its flags and headers, or None if the block goes on. ConnectionFailure."""
        if stream == 0:
            raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "HEADERS without a stream")
        block = unpadded(flags, payload)
        if flags & frames.HAS_PRIORITY:
            if len(block) < 5:
                raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, "HEADERS without the priority it announces")
            if depends_on_itself(stream, block):
                flags |= ON_ITSELF
            block = block[5:]
        if flags & frames.END_HEADERS:
            return flags, self._decoded(block)
        self._fragments = [block]
        self.open_stream, self._flags = stream, flags
        return None

    def go_on(self, flags: int, payload: bytes) -> tuple[int, Headers] | None:
        """A CONTINUATION frame: as `begin`."""
        if not self.open_stream:
            raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._fragments.append(payload)
        size = sum(map(len, self._fragments))
        if len(self._fragments) > CONTINUATIONS_MAX or size > BLOCK_BYTES_MAX:
            raise ConnectionFailure(H2Error.ENHANCE_YOUR_CALM, "a header block that is too large")
        if not flags & frames.END_HEADERS:
            return None
        block, self._fragments, self.open_stream = b"".join(self._fragments), [], 0
        return self._flags, self._decoded(block)

    def _decoded(self, block: bytes) -> Headers:
        try:
            return self._decoder.decode(block)
        except HeaderListTooLarge as error:
            raise ConnectionFailure(H2Error.ENHANCE_YOUR_CALM, str(error)) from None
        except HeaderBlockError as error:
            raise ConnectionFailure(H2Error.COMPRESSION_ERROR, str(error)) from None
