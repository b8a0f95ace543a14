"""The commands of the stream protocol as data: their keys, versions and fields.

Owns: one Struct for each frame that is not on a hot path, `decode`, `encode`.
Publish, PublishConfirm, PublishError and Deliver are in `publish_frames.py` and `chunks.py`. Source:
RabbitMQ's PROTOCOL.adoc, and the clients for the keys from 26 on, which it does not describe fully.
Refuses: bytes behind the last field, except where a client is known to send some.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, TypeVar

import msgspec

from mainstem.doors.rabbitmq_stream.wire import (
    BYTES,
    I64,
    MAP,
    MAP_AT_END,
    OFFSET_SPEC,
    STRING,
    U8,
    U16,
    U32,
    U64,
    FieldKind,
    FrameError,
    array,
)

RESPONSE = 0x8000
"""The bit of a key that says that the frame answers one of this key."""


class Key(IntEnum):
    """PROTOCOL.adoc, Stream Protocol Commands."""

    DECLARE_PUBLISHER = 1
    PUBLISH = 2
    PUBLISH_CONFIRM = 3
    PUBLISH_ERROR = 4
    QUERY_PUBLISHER_SEQUENCE = 5
    DELETE_PUBLISHER = 6
    SUBSCRIBE = 7
    DELIVER = 8
    CREDIT = 9
    STORE_OFFSET = 10
    QUERY_OFFSET = 11
    UNSUBSCRIBE = 12
    CREATE = 13
    DELETE = 14
    METADATA = 15
    METADATA_UPDATE = 16
    PEER_PROPERTIES = 17
    SASL_HANDSHAKE = 18
    SASL_AUTHENTICATE = 19
    TUNE = 20
    OPEN = 21
    CLOSE = 22
    HEARTBEAT = 23
    ROUTE = 24
    PARTITIONS = 25
    CONSUMER_UPDATE = 26
    EXCHANGE_COMMAND_VERSIONS = 27
    STREAM_STATS = 28
    CREATE_SUPER_STREAM = 29
    DELETE_SUPER_STREAM = 30
    RESOLVE_OFFSET_SPEC = 31


VERSIONS_MAX = {Key.PUBLISH: 2, Key.DELIVER: 2}
"""The highest version of the commands that have more than 1."""


class StreamFrame(msgspec.Struct, kw_only=True):
    """A frame. `KINDS`: the types of its fields, in their order."""

    KEY: ClassVar[int] = 0
    KINDS: ClassVar[tuple[FieldKind, ...]] = ()
    MAY_HAVE_MORE: ClassVar[bool] = False
    """Whether bytes behind the fields are ignored."""


class StreamRequest(StreamFrame, kw_only=True):
    """A frame that has a correlation id, and is answered with it."""

    KINDS: ClassVar[tuple[FieldKind, ...]] = (U32,)
    correlation_id: int


class StreamReply(StreamFrame, kw_only=True):
    """An answer. Most have nothing else."""

    KINDS: ClassVar[tuple[FieldKind, ...]] = (U32, U16)
    correlation_id: int
    code: int


class DeclarePublisher(StreamRequest, kw_only=True):
    """Key 1."""

    KEY = Key.DECLARE_PUBLISHER
    KINDS = (U32, U8, STRING, STRING)
    publisher_id: int
    reference: str
    stream: str


class QueryPublisherSequence(StreamRequest, kw_only=True):
    """Key 5."""

    KEY = Key.QUERY_PUBLISHER_SEQUENCE
    KINDS = (U32, STRING, STRING)
    reference: str
    stream: str


class SequenceReply(StreamReply, kw_only=True):
    """The answer to key 5: the highest publishing id."""

    KEY = Key.QUERY_PUBLISHER_SEQUENCE
    KINDS = (U32, U16, U64)
    sequence: int = 0


class DeletePublisher(StreamRequest, kw_only=True):
    """Key 6."""

    KEY = Key.DELETE_PUBLISHER
    KINDS = (U32, U8)
    publisher_id: int


class Subscribe(StreamRequest, kw_only=True):
    """Key 7."""

    KEY = Key.SUBSCRIBE
    KINDS = (U32, U8, STRING, OFFSET_SPEC, U16, MAP_AT_END)
    subscription_id: int
    stream: str
    offset_spec: tuple[int, int]
    credit: int
    properties: dict[str, str]


class Credit(StreamFrame, kw_only=True):
    """Key 9: the number of chunks that may be sent beside those that were granted before."""

    KEY = Key.CREDIT
    KINDS = (U8, U16)
    subscription_id: int
    credit: int


class CreditError(StreamFrame, kw_only=True):
    """The answer to key 9, only if it is refused."""

    KEY = Key.CREDIT | RESPONSE
    KINDS = (U16, U8)
    code: int
    subscription_id: int


class StoreOffset(StreamFrame, kw_only=True):
    """Key 10."""

    KEY = Key.STORE_OFFSET
    KINDS = (STRING, STRING, U64)
    reference: str
    stream: str
    offset: int


class QueryOffset(StreamRequest, kw_only=True):
    """Key 11."""

    KEY = Key.QUERY_OFFSET
    KINDS = (U32, STRING, STRING)
    reference: str
    stream: str


class OffsetReply(StreamReply, kw_only=True):
    """The answer to key 11."""

    KEY = Key.QUERY_OFFSET
    KINDS = (U32, U16, U64)
    offset: int = 0


class Unsubscribe(StreamRequest, kw_only=True):
    """Key 12."""

    KEY = Key.UNSUBSCRIBE
    KINDS = (U32, U8)
    subscription_id: int


class CreateStream(StreamRequest, kw_only=True):
    """Key 13."""

    KEY = Key.CREATE
    KINDS = (U32, STRING, MAP)
    stream: str
    arguments: dict[str, str]


class DeleteStream(StreamRequest, kw_only=True):
    """Key 14."""

    KEY = Key.DELETE
    KINDS = (U32, STRING)
    stream: str


class QueryMetadata(StreamRequest, kw_only=True):
    """Key 15."""

    KEY = Key.METADATA
    KINDS = (U32, array(STRING))
    streams: list[str]


class MetadataReply(StreamFrame, kw_only=True):
    """The answer to key 15. Brokers: (reference, host, port). Streams: (name, code, the leader's reference,
    those of the replicas)."""

    KEY = Key.METADATA | RESPONSE
    KINDS = (U32, array(U16, STRING, U32), array(STRING, U16, U16, array(U16)))
    correlation_id: int
    brokers: list[tuple[int, str, int]]
    streams: list[tuple[str, int, int, list[int]]]


class MetadataUpdate(StreamFrame, kw_only=True):
    """Key 16: the stream is not available any more."""

    KEY = Key.METADATA_UPDATE
    KINDS = (U16, STRING)
    code: int
    stream: str


class PeerProperties(StreamRequest, kw_only=True):
    """Key 17."""

    KEY = Key.PEER_PROPERTIES
    KINDS = (U32, MAP)
    properties: dict[str, str]


class PropertiesReply(StreamReply, kw_only=True):
    """The answer to keys 17 and 21."""

    KEY = Key.PEER_PROPERTIES
    KINDS = (U32, U16, MAP)
    properties: dict[str, str] = {}


class SaslHandshake(StreamRequest, kw_only=True):
    """Key 18."""

    KEY = Key.SASL_HANDSHAKE


class MechanismsReply(StreamReply, kw_only=True):
    """The answer to key 18."""

    KEY = Key.SASL_HANDSHAKE
    KINDS = (U32, U16, array(STRING))
    mechanisms: list[str] = []


class SaslAuthenticate(StreamRequest, kw_only=True):
    """Key 19."""

    KEY = Key.SASL_AUTHENTICATE
    KINDS = (U32, STRING, BYTES)
    mechanism: str
    data: bytes | None


class ChallengeReply(StreamReply, kw_only=True):
    """The answer to key 19 if the exchange goes on."""

    KEY = Key.SASL_AUTHENTICATE
    KINDS = (U32, U16, BYTES)
    data: bytes


class Tune(StreamFrame, kw_only=True):
    """Key 20. Bytes and seconds; 0: no limit, no heartbeats."""

    KEY = Key.TUNE
    KINDS = (U32, U32)
    frame_max: int
    heartbeat: int


class OpenVhost(StreamRequest, kw_only=True):
    """Key 21."""

    KEY = Key.OPEN
    KINDS = (U32, STRING)
    vhost: str


class OpenReply(PropertiesReply, kw_only=True):
    """The answer to key 21."""

    KEY = Key.OPEN


class CloseRequest(StreamRequest, kw_only=True):
    """Key 22, of either side."""

    KEY = Key.CLOSE
    KINDS = (U32, U16, STRING)
    code: int
    reason: str


class HeartbeatFrame(StreamFrame, kw_only=True):
    """Key 23."""

    KEY = Key.HEARTBEAT


class RouteRequest(StreamRequest, kw_only=True):
    """Key 24."""

    KEY = Key.ROUTE
    KINDS = (U32, STRING, STRING)
    routing_key: str
    super_stream: str


class RouteReply(StreamReply, kw_only=True):
    """The answer to key 24."""

    KEY = Key.ROUTE
    KINDS = (U32, U16, array(STRING))
    streams: list[str] = []


class PartitionsRequest(StreamRequest, kw_only=True):
    """Key 25."""

    KEY = Key.PARTITIONS
    KINDS = (U32, STRING)
    super_stream: str


class PartitionsReply(RouteReply, kw_only=True):
    """The answer to key 25."""

    KEY = Key.PARTITIONS


class ConsumerUpdate(StreamRequest, kw_only=True):
    """Key 26, of the server: whether the consumer is the active one of its group now."""

    KEY = Key.CONSUMER_UPDATE
    KINDS = (U32, U8, U8)
    subscription_id: int
    active: int


class ConsumerUpdateReply(StreamReply, kw_only=True):
    """The answer to key 26, of the client: where the consumer goes on."""

    KEY = Key.CONSUMER_UPDATE
    KINDS = (U32, U16, OFFSET_SPEC)
    MAY_HAVE_MORE = True  # rstream sends a number behind every type
    offset_spec: tuple[int, int] = (0, 0)


class ExchangeCommandVersions(StreamRequest, kw_only=True):
    """Key 27. Commands: (key, lowest version, highest version)."""

    KEY = Key.EXCHANGE_COMMAND_VERSIONS
    KINDS = (U32, array(U16, U16, U16))
    commands: list[tuple[int, int, int]]


class CommandVersionsReply(StreamReply, kw_only=True):
    """The answer to key 27."""

    KEY = Key.EXCHANGE_COMMAND_VERSIONS
    KINDS = (U32, U16, array(U16, U16, U16))
    commands: list[tuple[int, int, int]] = []


class StreamStats(StreamRequest, kw_only=True):
    """Key 28."""

    KEY = Key.STREAM_STATS
    KINDS = (U32, STRING)
    stream: str


class StreamStatsReply(StreamReply, kw_only=True):
    """The answer to key 28."""

    KEY = Key.STREAM_STATS
    KINDS = (U32, U16, array(STRING, I64))
    stats: list[tuple[str, int]] = []


class CreateSuperStream(StreamRequest, kw_only=True):
    """Key 29."""

    KEY = Key.CREATE_SUPER_STREAM
    KINDS = (U32, STRING, array(STRING), array(STRING), MAP)
    name: str
    partitions: list[str]
    binding_keys: list[str]
    arguments: dict[str, str]


class DeleteSuperStream(StreamRequest, kw_only=True):
    """Key 30."""

    KEY = Key.DELETE_SUPER_STREAM
    KINDS = (U32, STRING)
    name: str


class ResolveOffsetSpec(StreamRequest, kw_only=True):
    """Key 31."""

    KEY = Key.RESOLVE_OFFSET_SPEC
    KINDS = (U32, STRING, OFFSET_SPEC, MAP_AT_END)
    stream: str
    offset_spec: tuple[int, int]
    properties: dict[str, str]


class ResolvedOffsetReply(StreamReply, kw_only=True):
    """The answer to key 31."""

    KEY = Key.RESOLVE_OFFSET_SPEC
    KINDS = (U32, U16, OFFSET_SPEC)
    offset_spec: tuple[int, int] = (4, 0)


def _by_key(*kinds: type[StreamFrame]) -> dict[int, type[StreamFrame]]:
    return {int(kind.KEY) & ~RESPONSE: kind for kind in kinds}


REQUESTS = _by_key(
    DeclarePublisher, QueryPublisherSequence, DeletePublisher, Subscribe, Credit, StoreOffset, QueryOffset,
    Unsubscribe, CreateStream, DeleteStream, QueryMetadata, PeerProperties, SaslHandshake, SaslAuthenticate,
    Tune, OpenVhost, CloseRequest, HeartbeatFrame, RouteRequest, PartitionsRequest, ExchangeCommandVersions,
    StreamStats, CreateSuperStream, DeleteSuperStream, ResolveOffsetSpec, ConsumerUpdate, MetadataUpdate,
)  # fmt: skip
"""What either side sends without being asked, by key."""
REPLIES = _by_key(
    SequenceReply, OffsetReply, MetadataReply, PropertiesReply, MechanismsReply, OpenReply, RouteReply,
    PartitionsReply, ConsumerUpdateReply, CommandVersionsReply, StreamStatsReply, ResolvedOffsetReply,
    CreditError,
)  # fmt: skip
"""The answers that have more than a code, by key."""

F = TypeVar("F", bound=StreamFrame)
HEAD_BYTES = 4
"""Key and version, at the start of a frame behind its length."""


def decode(kind: type[F], data: bytes) -> F:
    """The frame of this kind that `data`, without length, is. FrameError."""
    values, position = [], HEAD_BYTES
    for part in kind.KINDS:
        value, position = part.read(data, position)
        values.append(value)
    if position != len(data) and not kind.MAY_HAVE_MORE:
        raise FrameError(f"{len(data) - position} bytes behind a {kind.__name__}")
    return kind(**dict(zip(kind.__struct_fields__, values, strict=True)))


def encode(frame: StreamFrame, key: int | None = None, version: int = 1) -> bytes:
    """The frame with its length. `key`: of an answer that has only a code, the key of its request."""
    number = frame.KEY if key is None else key
    if isinstance(frame, StreamReply):
        number |= RESPONSE
    out = bytearray(4)
    U16.write(out, number)
    U16.write(out, version)
    for kind, name in zip(frame.KINDS, frame.__struct_fields__, strict=True):
        kind.write(out, getattr(frame, name))
    out[:4] = (len(out) - 4).to_bytes(4, "big")
    return bytes(out)
