"""The subscriptions of one connection: reads events and sends them as chunks, as far as there is credit.

Owns: one reader of the engine and the events that are read and not sent, for each subscription. Refuses: to
send without credit, while the socket is full, while another consumer of the group is active, and beyond the
rights of who subscribed: the engine checks them with each read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from mainstem.amqp.streams import StreamPlace
from mainstem.contract import Engine, Event, Position, PositionOutOfRange
from mainstem.doors.rabbitmq_stream.chunks import chunk_length, deliver_frame
from mainstem.doors.rabbitmq_stream.messages import filter_value_of, from_event
from mainstem.doors.rabbitmq_stream.single_active import GroupKey
from mainstem.promise import Promise

CHUNK_BYTES = 256 << 10
READ_EVENTS = 1_000
WAIT_MS = 60_000
CREDIT_MAX = 65_535


class ChunkFilter:
    """Which chunks a subscription wants: those with an event of one of these filter values, or, with
    `match_unfiltered`, without any. The client looks at each event by itself."""

    __slots__ = ("_match_unfiltered", "_values")

    def __init__(self, values: Sequence[str], match_unfiltered: bool) -> None:
        self._values = frozenset(values)
        self._match_unfiltered = match_unfiltered

    @classmethod
    def of(cls, properties: dict[str, str]) -> ChunkFilter | None:
        """The filter of a subscription's properties; None: it wants everything."""
        values = [value for name, value in properties.items() if name.startswith("filter.")]
        return cls(values, properties.get("match-unfiltered") == "true") if values else None

    def wants(self, events: Sequence[Event]) -> bool:
        """Whether one of the events matches."""
        for event in events:
            value = filter_value_of(event)
            if self._match_unfiltered if value is None else value in self._values:
                return True
        return False


class ConsumerTask(Protocol):
    """A running `StreamConsumer.run`."""

    def cancel(self) -> object:
        """End it."""


class StreamConsumer:
    """One subscription. `send` sends pieces and returns whether the socket takes more; `run` starts a task;
    `ask_client` says to the client whether it is the active consumer."""

    def __init__(
        self,
        subscription_id: int,
        stream: str,
        place: StreamPlace,
        engine: Engine,
        *,
        filter_: ChunkFilter | None = None,
        group: GroupKey | None = None,
        knows_committed: bool = False,
        send: Callable[[list[bytes], int], bool],
        run: Callable[[Coroutine[Any, Any, None]], ConsumerTask],
        ask_client: Callable[[StreamConsumer, bool], None],
    ) -> None:
        self.subscription_id = subscription_id
        self.stream = stream
        self.place = place
        self.group = group
        """The group of single active consumers; None: it is in none."""
        self.credit = 0
        self.requested_offset = 0
        """Where a single active consumer begins, unless its client says otherwise."""
        self.is_active = group is None
        """Whether the client is, or is about to be, the one that is sent events."""
        self._engine = engine
        self._filter = filter_
        self._knows_committed = knows_committed
        self._send = send
        self._run = run
        self._ask_client = ask_client
        self._task: ConsumerTask | None = None
        """From `start` until the consumer stops."""
        self._more: Promise[None] | None = None
        """What `run` waits for while nothing may be sent."""
        self._is_blocked = False

    # --- what its connection calls

    def start(self, offset: int) -> None:
        """Send events from this offset on."""
        self._stop_reading()
        self._task = self._run(self.run(offset))

    def add_credit(self, chunks: int) -> None:
        """Allow this many more chunks."""
        self.credit = min(self.credit + chunks, CREDIT_MAX)
        self._go_on()

    def set_blocked(self, is_blocked: bool) -> None:
        """The socket is full, or is not any more."""
        self._is_blocked = is_blocked
        self._go_on()

    def set_active(self, is_active: bool) -> None:
        """See `single_active.GroupedConsumer`. Events are sent when the client has answered."""
        self.is_active = is_active
        if not is_active:
            self._stop_reading()
        self._ask_client(self, is_active)

    def close(self) -> None:
        """Send nothing more. Idempotent."""
        self._stop_reading()
        self.is_active = False

    # --- reading and sending

    def _stop_reading(self) -> None:
        self._more = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def _may_send(self) -> bool:
        return self.credit > 0 and not self._is_blocked

    def _go_on(self) -> None:
        if self._more is not None and self._may_send:
            more, self._more = self._more, None
            more.resolve(None)

    async def _until_may_send(self) -> None:
        while not self._may_send:
            self._more = Promise()
            await self._more

    async def run(self, offset: int) -> None:
        """Read and send from this offset on, until it is cancelled. NotAuthorized, and errors of the disk."""
        reader = await self._engine.reader([Position(*self.place, offset)])
        try:
            while True:
                await self._until_may_send()
                try:
                    events = (await reader.read(max_events=READ_EVENTS, wait_ms=WAIT_MS)).events
                except PositionOutOfRange:  # retention was faster
                    begin = (await self._engine.bounds(*self.place)).begin
                    reader.seek(Position(*self.place, begin))
                    continue
                if events:
                    await self._send_events(events)
        finally:
            await reader.close()

    async def _send_events(self, events: Sequence[Event]) -> None:
        end = (await self._engine.bounds(*self.place)).end if self._knows_committed else 0
        messages = [from_event(event) for event in events]
        sizes = list(map(len, messages))
        first = 0
        while first < len(events):
            count = chunk_length(events[first:], sizes[first:], CHUNK_BYTES)
            chunk = events[first : first + count]
            if self._filter is None or self._filter.wants(chunk):
                await self._until_may_send()
                committed = max(end - 1, chunk[-1].offset) if self._knows_committed else None
                pieces = deliver_frame(
                    self.subscription_id, chunk, messages[first : first + count], committed
                )
                self.credit -= 1
                self._is_blocked = not self._send(pieces, count)
            first += count
