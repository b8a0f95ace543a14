"""A consumer of a stream: reads its topic from an offset on, and hands on what its windows have room for.

Nothing is done with an event: an answer of the client only makes room (https://www.rabbitmq.com/docs/streams).
Owns: where consumers begin, which events they want, and one reader of the requester's engine for each.
Refuses: to read more than there is room for, and beyond the rights of the requester: the engine checks them
with each read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mainstem.amqp.errors import AmqpError, amqp_error, invalid_argument
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.messages import STREAM_FILTER_VALUE, STREAM_OFFSET
from mainstem.amqp.streams import StreamPlace, consumer_start, offset_of
from mainstem.contract import Event, Position, PositionOutOfRange, StreamError
from mainstem.promise import Promise
from mainstem.queue_contract import NoSuchSubscription

if TYPE_CHECKING:
    from mainstem.amqp.topology import AmqpQueue
    from mainstem.attach_contract import DeliveryWindow
    from mainstem.doors.amqp091.channel_scope import ChannelScope

READ_EVENTS = 500
WAIT_MS = 60_000


def check_stream_consumer(vhost: str, queue: str, *, no_ack: bool, prefetch_count: int) -> None:
    """What RabbitMQ asks of consumers of streams. AmqpError: 540 or 406."""
    if no_ack:
        raise amqp_error(
            540,
            f"automatic acknowledgement not supported by stream queues queue '{queue}' in vhost '{vhost}'",
        )
    if not prefetch_count:
        raise amqp_error(406, f"consumer prefetch count is not set for 'queue '{queue}' in vhost '{vhost}''")


class EventFilter:
    """Which events a consumer wants: those with one of these filter values and, with `match_unfiltered`,
    those without any. RabbitMQ leaves a part of this to the client."""

    __slots__ = ("_match_unfiltered", "_values")

    def __init__(self, values: Sequence[str], match_unfiltered: bool) -> None:
        self._values = frozenset(value.encode() for value in values)
        self._match_unfiltered = match_unfiltered

    @classmethod
    def of(cls, arguments: FieldTable) -> EventFilter | None:
        """That of `x-stream-filter` and `x-stream-match-unfiltered`; None: everything. ValueError."""
        given = arguments.get("x-stream-filter")
        values = given if isinstance(given, list) else [] if given is None else [given]
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) != len(values):
            raise ValueError("a filter value is text")
        return cls(texts, arguments.get("x-stream-match-unfiltered") is True) if texts else None

    def wants(self, event: Event) -> bool:
        """Whether an event matches."""
        for name, value in event.headers:
            if name == STREAM_FILTER_VALUE and value is not None:
                return value in self._values
        return self._match_unfiltered


class StreamAttachment:
    """A consumer that reads: what `AttachedConsumer` is for queues. `deliver` gets an event that there is
    room for; `ended` is called once, with the error that has ended it, unless it was detached."""

    is_active = True

    def __init__(
        self,
        scope: ChannelScope,
        queue: AmqpQueue,
        place: StreamPlace,
        windows: Sequence[DeliveryWindow],
        event_filter: EventFilter | None,
        deliver: Callable[[Event], None],
        ended: Callable[[StreamError], None],
    ) -> None:
        self._scope = scope
        self._queue = queue
        self._place = place
        self._windows = windows
        self._filter = event_filter
        self._deliver = deliver
        self._ended = ended
        self._is_paused = False
        self._is_detached = False
        self._task: asyncio.Task[None] | None = None
        self._wake: Promise[None] | None = None
        """What it waits for while it may not deliver."""

    # --- what its channel calls ---------------------------------------------------------------------------

    def start(self, offset: int) -> None:
        """Deliver from this offset on, from the next turn of the loop."""
        self._queue.on_removed[self] = self._on_removed
        self._scope.connection.start_task(self._run(offset))

    def pause(self) -> None:
        """Deliver nothing more until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """Go on. Idempotent."""
        self._is_paused = False
        self._go_on()

    def detach(self, *, requeue: bool) -> None:
        """Deliver nothing more. There is nothing to give back. Idempotent."""
        self._is_detached = True
        self._queue.on_removed.pop(self, None)
        if self._task is not None:
            self._task.cancel()

    def _on_removed(self) -> None:
        """The stream is deleted."""
        if not self._is_detached:
            self.detach(requeue=False)
            self._ended(NoSuchSubscription(f"the stream '{self._queue.name}' was deleted"))

    # --- reading ------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake.resolve(None)

    @property
    def _room(self) -> int:
        return 0 if self._is_paused else min(window.room for window in self._windows)

    async def _until_room(self) -> int:
        while not (room := self._room):
            self._wake = Promise()
            for window in self._windows:
                if not window.room:
                    window.wait(self._go_on)
            await self._wake
        return room

    async def _run(self, offset: int) -> None:
        self._task = asyncio.current_task()
        if self._is_detached:
            return
        try:
            await self._read(offset)
        except StreamError as error:
            if not self._is_detached:
                self._is_detached = True
                self._queue.on_removed.pop(self, None)
                self._ended(error)

    async def _read(self, offset: int) -> None:
        engine, place = self._scope.engine, self._place
        reader = await engine.reader([Position(*place, offset)])
        try:
            while True:
                room = await self._until_room()
                try:
                    result = await reader.read(max_events=min(room, READ_EVENTS), wait_ms=WAIT_MS)
                except PositionOutOfRange:  # retention was faster
                    reader.seek(Position(*place, (await engine.bounds(*place)).begin))
                    continue
                for event in result.events:
                    if self._filter is None or self._filter.wants(event):
                        await self._until_room()
                        for window in self._windows:
                            window.take(1)
                        self._deliver(event)
        finally:
            await reader.close()


async def attach_to_stream(
    scope: ChannelScope,
    queue: AmqpQueue,
    arguments: FieldTable,
    windows: Sequence[DeliveryWindow],
    deliver: Callable[[Event], None],
    ended: Callable[[StreamError], None],
) -> StreamAttachment:
    """Begin to consume a stream. AmqpError: 406 (an argument). StreamError."""
    assert queue.place is not None, "it is a stream"

    def invalid(argument: str, error: ValueError) -> AmqpError:
        return invalid_argument(argument, queue.name, scope.vhost.name, f'"{error}"')

    try:
        spec = consumer_start(arguments.get(STREAM_OFFSET, "next"), scope.vhost.wall_ms())
    except ValueError as error:
        raise invalid(STREAM_OFFSET, error) from None
    try:
        event_filter = EventFilter.of(arguments)
    except ValueError as error:
        raise invalid("x-stream-filter", error) from None
    offset = await offset_of(scope.engine, queue.place, spec)
    reader = await scope.engine.reader([Position(*queue.place, offset)])  # it may be refused
    await reader.close()
    attachment = StreamAttachment(scope, queue, queue.place, windows, event_filter, deliver, ended)
    attachment.start(offset)
    return attachment
