"""What a stream client does after Open: one method for each command.

Owns: the publishers and subscriptions of one connection, and what it has in flight. Refuses: ids that are in
use, more than IDS_MAX of them, and whatever the engine refuses to who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mainstem.access_contract import Requester
from mainstem.amqp.streams import OFFSET
from mainstem.contract import Engine, Position
from mainstem.door_contract import PublishesOnce
from mainstem.doors.rabbitmq_stream import commands, streams
from mainstem.doors.rabbitmq_stream.commands import RESPONSE, VERSIONS_MAX, Key, StreamReply, decode
from mainstem.doors.rabbitmq_stream.consumers import ChunkFilter, StreamConsumer
from mainstem.doors.rabbitmq_stream.offsets import OffsetStore
from mainstem.doors.rabbitmq_stream.publish_frames import decode_publish, error_frame
from mainstem.doors.rabbitmq_stream.publishers import DeclaredPublisher
from mainstem.doors.rabbitmq_stream.response_code import CommandRefused, ConnectionRefused, ResponseCode
from mainstem.doors.rabbitmq_stream.single_active import GroupKey

if TYPE_CHECKING:
    from mainstem.doors.contract import Listener
    from mainstem.doors.net.throttle import ByteThrottle
    from mainstem.doors.rabbitmq_stream.consumers import ConsumerTask
    from mainstem.doors.rabbitmq_stream.shared import StreamDoorState

REFERENCE_BYTES_MAX = 255
IN_FLIGHT_MESSAGES_MAX = 50_000
IN_FLIGHT_BYTES_MAX = 16 << 20
"""Most that one client has sent and that is not confirmed; then it is not read."""
METADATA_STREAMS_MAX = 10_000

OK = ResponseCode.OK


class SessionConnection(Protocol):
    """What a session uses of its connection."""

    state: StreamDoorState
    listener: Listener
    throttle: ByteThrottle

    def write(self, pieces: list[bytes]) -> bool:
        """Send bytes. Returns whether the socket takes more."""

    def send(self, frame: commands.StreamFrame, key: int | None = None) -> None:
        """Send a frame."""

    def send_reply(self, request: commands.StreamRequest, code: ResponseCode) -> None:
        """Answer a request with a code only."""

    def answer(
        self,
        request: commands.StreamRequest,
        handle: Callable[[Any], Coroutine[Any, Any, StreamReply | None]],
    ) -> Coroutine[Any, Any, None]:
        """Answer a request with what `handle` returns; with None it has answered by itself."""

    def start_task(self, work: Coroutine[Any, Any, None]) -> ConsumerTask:
        """Run `work` as a task of the connection."""

    def next_correlation_id(self) -> int:
        """The number of a request of the server."""

    def on_capacity(self) -> None:
        """Less is in flight."""


class CommandHandler(NamedTuple):
    """How a command with an answer is handled."""

    kind: type[commands.StreamRequest]
    handle: Callable[[StreamSession, Any], Coroutine[Any, Any, StreamReply | None]]


class StreamSession:
    """The commands of one connection."""

    def __init__(self, connection: SessionConnection, requester: Requester) -> None:
        self._connection = connection
        self._state = connection.state
        self.engine: Engine
        self.set_requester(requester)
        self.publishers: dict[int, DeclaredPublisher] = {}
        self.consumers: dict[int, StreamConsumer] = {}
        self._offsets = OffsetStore(self.engine, self._state.warn)
        self._versions: dict[int, int] = {}
        """The highest versions that the client knows, by key."""
        self._asked: dict[int, tuple[StreamConsumer, bool, float]] = {}
        """ConsumerUpdates that are not answered: the consumer, whether it is to be active, since when."""
        self._in_flight_messages = 0
        self.in_flight_bytes = 0
        self._is_closed = False

    def set_requester(self, requester: Requester) -> None:
        """Use the engine as this requester may, from the next command on."""
        self.engine = self._state.context.views.engine(requester)

    @property
    def is_full(self) -> bool:
        """Whether too much is unconfirmed."""
        return (
            self._in_flight_messages >= IN_FLIGHT_MESSAGES_MAX or self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX
        )

    @property
    def asked_since(self) -> float | None:
        """Since when the client has not answered a request of the server."""
        return min((since for _, _, since in self._asked.values()), default=None)

    def begin(self, key: int, version: int, frame: bytes) -> Coroutine[Any, Any, None] | None:
        """Handle a command. What is returned has to be awaited before the next one. FrameError,
        ConnectionRefused."""
        if key == Key.PUBLISH:
            self._publish(frame, version)
            return None
        if key == Key.CREDIT:
            self._credit(decode(commands.Credit, frame))
            return None
        if key == Key.STORE_OFFSET:
            return self._store_offset(decode(commands.StoreOffset, frame))
        if key == Key.CONSUMER_UPDATE | RESPONSE:
            return self._consumer_updated(decode(commands.ConsumerUpdateReply, frame))
        handler = HANDLERS.get(key)
        if handler is None or version > VERSIONS_MAX.get(Key(key), 1):
            raise ConnectionRefused(f"unknown command {key}, version {version}", ResponseCode.UNKNOWN_FRAME)
        request = decode(handler.kind, frame)
        return self._connection.answer(request, lambda request: handler.handle(self, request))

    def set_blocked(self, is_blocked: bool) -> None:
        """The socket is full, or is not any more."""
        for consumer in self.consumers.values():
            consumer.set_blocked(is_blocked)

    def close(self) -> None:
        """The connection ends. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        for publisher_id in list(self.publishers):
            self._remove_publisher(publisher_id)
        for subscription_id in list(self.consumers):
            self._remove_consumer(subscription_id)
        self._state.in_flight.release(self.in_flight_bytes)
        self.in_flight_bytes = self._in_flight_messages = 0

    # --- publishers

    def _publish(self, frame: bytes, version: int) -> None:
        if version > VERSIONS_MAX[Key.PUBLISH]:
            raise ConnectionRefused(f"a Publish of version {version}", ResponseCode.UNKNOWN_FRAME)
        published = decode_publish(frame, version)
        publisher = self.publishers.get(published.publisher_id)
        if publisher is None:
            ids = [entry.publishing_id for entry in published.entries] + published.refused
            errors = [(id_, ResponseCode.PUBLISHER_DOES_NOT_EXIST) for id_ in ids]
            self._connection.write([error_frame(published.publisher_id, errors)])
            return
        messages, size_bytes = publisher.add(published)
        self._in_flight_messages += messages
        self.in_flight_bytes += size_bytes
        self._state.in_flight.add(size_bytes)
        self._connection.throttle.published(len(frame))
        self._state.published += messages
        if not publisher.is_running:
            publisher.is_running = True
            self._connection.start_task(publisher.run())

    def _released(self, messages: int, size_bytes: int) -> None:
        if self._is_closed:
            return
        self._in_flight_messages -= messages
        self.in_flight_bytes -= size_bytes
        self._state.in_flight.release(size_bytes)
        self._connection.on_capacity()

    async def _declare_publisher(self, request: commands.DeclarePublisher) -> StreamReply:
        place = await streams.find_stream(self.engine, request.stream)
        reference = request.reference
        if len(reference.encode()) > REFERENCE_BYTES_MAX or request.publisher_id in self.publishers:
            raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
        if reference:
            if not isinstance(self.engine, PublishesOnce):
                raise CommandRefused(ResponseCode.STREAM_NOT_AVAILABLE)
            if any(
                publisher.reference == reference and publisher.place == place
                for publisher in self.publishers.values()
            ):
                raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
        await self.engine.publish(place.topic, [])  # raises what it would for any event
        self.publishers[request.publisher_id] = DeclaredPublisher(
            request.publisher_id,
            reference,
            request.stream,
            place,
            self.engine,
            self._connection.write,
            self._released,
        )
        self._state.publishers += 1
        self._state.watch(place.topic, self._on_deleted)
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    async def _delete_publisher(self, request: commands.DeletePublisher) -> StreamReply:
        if request.publisher_id not in self.publishers:
            raise CommandRefused(ResponseCode.PUBLISHER_DOES_NOT_EXIST)
        self._remove_publisher(request.publisher_id)
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    def _remove_publisher(self, publisher_id: int) -> None:
        publisher = self.publishers.pop(publisher_id)
        publisher.drop()
        self._state.publishers -= 1
        self._unwatch(publisher.place.topic)

    async def _query_sequence(self, request: commands.QueryPublisherSequence) -> StreamReply:
        place = await streams.find_stream(self.engine, request.stream)
        if not isinstance(self.engine, PublishesOnce):
            raise CommandRefused(ResponseCode.STREAM_NOT_AVAILABLE)
        last = await self.engine.last_published(place.topic, request.reference)
        return commands.SequenceReply(correlation_id=request.correlation_id, code=OK, sequence=last or 0)

    # --- consumers

    async def _subscribe(self, request: commands.Subscribe) -> StreamReply | None:
        if request.subscription_id in self.consumers:
            raise CommandRefused(ResponseCode.SUBSCRIPTION_ID_ALREADY_EXISTS)
        place = await streams.find_stream(self.engine, request.stream)
        properties = request.properties
        name = properties.get("name", "")
        is_single = properties.get("single-active-consumer") == "true"
        if is_single and not name:
            raise CommandRefused(ResponseCode.PRECONDITION_FAILED)
        offset = await streams.resolve_offset(self.engine, place, request.offset_spec)
        probe = await self.engine.reader([Position(*place, offset)])  # raises what reading would
        await probe.close()
        consumer = StreamConsumer(
            request.subscription_id,
            request.stream,
            place,
            self.engine,
            filter_=ChunkFilter.of(properties),
            group=GroupKey(place, name) if is_single else None,
            knows_committed=self._versions.get(Key.DELIVER, 1) >= VERSIONS_MAX[Key.DELIVER],
            send=self._send_chunk,
            run=self._connection.start_task,
            ask_client=self._ask_client,
        )
        consumer.credit = request.credit
        self.consumers[request.subscription_id] = consumer
        self._state.consumers += 1
        self._state.watch(place.topic, self._on_deleted)
        self._connection.send_reply(request, OK)
        if consumer.group is not None:
            partition = place.partition if "super-stream" in properties else None
            consumer.requested_offset = offset
            self._state.groups.join(consumer.group, consumer, partition)
        else:
            consumer.start(offset)
        return None

    def _send_chunk(self, pieces: list[bytes], events: int) -> bool:
        self._state.delivered += events
        takes_more = self._connection.write(pieces)
        throttle = self._connection.throttle
        throttle.delivered(sum(map(len, pieces)))
        return takes_more and not throttle.mutes_sending

    def _credit(self, credit: commands.Credit) -> None:
        consumer = self.consumers.get(credit.subscription_id)
        if consumer is not None and consumer.is_active:
            consumer.add_credit(credit.credit)
            return
        code = (
            ResponseCode.SUBSCRIPTION_ID_DOES_NOT_EXIST
            if consumer is None
            else ResponseCode.PRECONDITION_FAILED
        )
        self._connection.send(commands.CreditError(code=code, subscription_id=credit.subscription_id))

    async def _unsubscribe(self, request: commands.Unsubscribe) -> StreamReply:
        if request.subscription_id not in self.consumers:
            raise CommandRefused(ResponseCode.SUBSCRIPTION_ID_DOES_NOT_EXIST)
        self._remove_consumer(request.subscription_id)
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    def _remove_consumer(self, subscription_id: int) -> None:
        consumer = self.consumers.pop(subscription_id)
        consumer.close()
        self._state.consumers -= 1
        self._asked = {id_: asked for id_, asked in self._asked.items() if asked[0] is not consumer}
        if consumer.group is not None:
            self._state.groups.leave(consumer.group, consumer)
        self._unwatch(consumer.place.topic)

    def _ask_client(self, consumer: StreamConsumer, is_active: bool) -> None:
        id_ = self._connection.next_correlation_id()
        self._asked[id_] = consumer, is_active, self._state.clock.monotonic()
        self._connection.send(
            commands.ConsumerUpdate(
                correlation_id=id_, subscription_id=consumer.subscription_id, active=int(is_active)
            )
        )

    async def _consumer_updated(self, reply: commands.ConsumerUpdateReply) -> None:
        asked = self._asked.pop(reply.correlation_id, None)
        if asked is None:
            return
        consumer, is_active, _ = asked
        assert consumer.group is not None, "only such consumers are asked"
        if not is_active:
            self._state.groups.stopped(consumer.group, consumer)
            return
        if reply.code != OK or reply.offset_spec[0] == 0:
            offset = consumer.requested_offset
        else:
            offset = await streams.resolve_offset(self.engine, consumer.place, reply.offset_spec)
        if consumer.is_active and self.consumers.get(consumer.subscription_id) is consumer:
            consumer.start(offset)

    # --- offsets

    async def _store_offset(self, stored: commands.StoreOffset) -> None:
        try:
            place = await streams.find_stream(self.engine, stored.stream)
        except CommandRefused:
            return
        self._offsets.store(stored.reference, place, stored.offset)
        if not self._offsets.is_running:
            self._offsets.is_running = True
            self._connection.start_task(self._offsets.run())

    async def _query_offset(self, request: commands.QueryOffset) -> StreamReply:
        place = await streams.find_stream(self.engine, request.stream)
        offset = await self._offsets.query(request.reference, place)
        return commands.OffsetReply(correlation_id=request.correlation_id, code=OK, offset=offset)

    async def _resolve(self, request: commands.ResolveOffsetSpec) -> StreamReply:
        place = await streams.find_stream(self.engine, request.stream)
        offset = await streams.resolve_offset(self.engine, place, request.offset_spec)
        return commands.ResolvedOffsetReply(
            correlation_id=request.correlation_id, code=OK, offset_spec=(OFFSET, offset)
        )

    async def _stats(self, request: commands.StreamStats) -> StreamReply:
        place = await streams.find_stream(self.engine, request.stream)
        stats = await streams.stats_of(self.engine, place)
        return commands.StreamStatsReply(correlation_id=request.correlation_id, code=OK, stats=stats)

    # --- streams

    async def _create(self, request: commands.CreateStream) -> StreamReply:
        await streams.create_stream(self.engine, request.stream, request.arguments)
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    async def _delete(self, request: commands.DeleteStream) -> StreamReply:
        await streams.delete_stream(self.engine, request.stream)
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    async def _create_super(self, request: commands.CreateSuperStream) -> StreamReply:
        await streams.create_super_stream(
            self.engine, request.name, request.partitions, request.binding_keys, request.arguments
        )
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    async def _delete_super(self, request: commands.DeleteSuperStream) -> StreamReply:
        await streams.delete_super_stream(self.engine, request.name)
        return StreamReply(correlation_id=request.correlation_id, code=OK)

    async def _metadata(self, request: commands.QueryMetadata) -> None:
        if len(request.streams) > METADATA_STREAMS_MAX:
            raise ConnectionRefused("metadata of too many streams", ResponseCode.FRAME_TOO_LARGE)
        answers: list[tuple[str, int, int, list[int]]] = []
        for stream in request.streams:
            try:
                await streams.find_stream(self.engine, stream)
                answers.append((stream, OK, 0, []))
            except CommandRefused as refused:
                answers.append((stream, refused.code, 0xFFFF, []))
        advertised = self._connection.listener.advertised
        self._connection.send(
            commands.MetadataReply(
                correlation_id=request.correlation_id,
                brokers=[(0, advertised.host, advertised.port)],
                streams=answers,
            )
        )

    async def _route(self, request: commands.RouteRequest) -> StreamReply:
        partitions = await streams.find_super_stream(self.engine, request.super_stream)
        return commands.RouteReply(
            correlation_id=request.correlation_id,
            code=OK,
            streams=streams.route(partitions, request.routing_key),
        )

    async def _partitions(self, request: commands.PartitionsRequest) -> StreamReply:
        partitions = await streams.find_super_stream(self.engine, request.super_stream)
        return commands.PartitionsReply(correlation_id=request.correlation_id, code=OK, streams=partitions)

    async def _exchange_versions(self, request: commands.ExchangeCommandVersions) -> StreamReply:
        self._versions = {key: highest for key, _, highest in request.commands}
        return commands.CommandVersionsReply(
            correlation_id=request.correlation_id,
            code=OK,
            commands=[(key, 1, VERSIONS_MAX.get(key, 1)) for key in Key],
        )

    # --- deleted streams

    def _unwatch(self, topic: str) -> None:
        places = [publisher.place for publisher in self.publishers.values()]
        places += [consumer.place for consumer in self.consumers.values()]
        if all(place.topic != topic for place in places):
            self._state.unwatch(topic, self._on_deleted)

    def _on_deleted(self, topic: str) -> None:
        """A topic is deleted: say so to the client, and end what used it."""
        ended: set[str] = set()
        for publisher_id, publisher in list(self.publishers.items()):
            if publisher.place.topic == topic:
                ended.add(publisher.stream)
                self._remove_publisher(publisher_id)
        for subscription_id, consumer in list(self.consumers.items()):
            if consumer.place.topic == topic:
                ended.add(consumer.stream)
                self._remove_consumer(subscription_id)
        for stream in sorted(ended):
            self._connection.send(
                commands.MetadataUpdate(code=ResponseCode.STREAM_NOT_AVAILABLE, stream=stream)
            )


HANDLERS: dict[int, CommandHandler] = {
    int(kind.KEY): CommandHandler(kind, handle)
    for kind, handle in (
        (commands.DeclarePublisher, StreamSession._declare_publisher),
        (commands.QueryPublisherSequence, StreamSession._query_sequence),
        (commands.DeletePublisher, StreamSession._delete_publisher),
        (commands.Subscribe, StreamSession._subscribe),
        (commands.QueryOffset, StreamSession._query_offset),
        (commands.Unsubscribe, StreamSession._unsubscribe),
        (commands.CreateStream, StreamSession._create),
        (commands.DeleteStream, StreamSession._delete),
        (commands.QueryMetadata, StreamSession._metadata),
        (commands.RouteRequest, StreamSession._route),
        (commands.PartitionsRequest, StreamSession._partitions),
        (commands.ExchangeCommandVersions, StreamSession._exchange_versions),
        (commands.StreamStats, StreamSession._stats),
        (commands.CreateSuperStream, StreamSession._create_super),
        (commands.DeleteSuperStream, StreamSession._delete_super),
        (commands.ResolveOffsetSpec, StreamSession._resolve),
    )
}
