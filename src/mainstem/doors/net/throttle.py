"""Client quotas of connections: a client beyond one is muted until its rate is within it again.

What clients publish and read counts for the quotas that Kafka's clients have, of their user and of the name
that they give their connection. Owns: the times for which a connection is muted. Refuses: rates
(`quota_contract.ClientQuotas`), and the quota of time (`request_percentage`), which these doors do not count.
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.access_contract import Requester
from mainstem.clock import Clock, Timer
from mainstem.quota_contract import ClientQuotas, QuotaKey

MESSAGE_HEAD_BYTES = 64
"""Of a message on the wire beside its body, about."""


class Mute:
    """For how long a connection is not read, or sent nothing."""

    __slots__ = ("_clock", "_on_end", "_timer", "_until")

    def __init__(self, clock: Clock, on_end: Callable[[], None]) -> None:
        self._clock = clock
        self._on_end = on_end
        self._timer: Timer | None = None
        self._until = 0.0

    def __bool__(self) -> bool:
        """Whether the time is not over."""
        return self._timer is not None

    def extend(self, seconds: float) -> None:
        """For this time from now, unless it is muted for longer already."""
        until = self._clock.monotonic() + seconds
        if until <= self._until:
            return
        self._until = until
        self.cancel()
        self._timer = self._clock.call_later(seconds, self._end)

    def _end(self) -> None:
        self._timer = None
        self._on_end()

    def cancel(self) -> None:
        """The connection is lost. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ByteThrottle:
    """What the client of one connection publishes and reads. `pause_*` are called when it is beyond a quota,
    maybe again and again, and `resume_*` when it may go on."""

    __slots__ = ("_pause_reading", "_pause_sending", "_quotas", "_reading", "_sending", "requester")

    def __init__(
        self,
        quotas: ClientQuotas,
        clock: Clock,
        requester: Requester,
        *,
        pause_reading: Callable[[], None],
        resume_reading: Callable[[], None],
        pause_sending: Callable[[], None],
        resume_sending: Callable[[], None],
    ) -> None:
        self._quotas = quotas
        self._pause_reading = pause_reading
        self._pause_sending = pause_sending
        self._reading = Mute(clock, resume_reading)
        self._sending = Mute(clock, resume_sending)
        self.requester = requester
        """Who is connected, as far as it is known."""

    @property
    def mutes_reading(self) -> bool:
        """Whether the client is not to be read."""
        return bool(self._reading)

    @property
    def mutes_sending(self) -> bool:
        """Whether nothing is to be delivered."""
        return bool(self._sending)

    def published(self, size: int) -> None:
        """The client has published a message, or several, of `size` bytes."""
        if self._quotas.is_on and (delay_ms := self._charge(QuotaKey.PRODUCE, size)):
            self._reading.extend(delay_ms / 1000)
            self._pause_reading()

    def delivered(self, size: int) -> None:
        """`size` bytes were delivered."""
        if self._quotas.is_on and (delay_ms := self._charge(QuotaKey.FETCH, size)):
            self._sending.extend(delay_ms / 1000)
            self._pause_sending()

    def fetched(self, size: int) -> None:
        """The client has asked for `size` bytes, and may ask for the next later."""
        if self._quotas.is_on and (delay_ms := self._charge(QuotaKey.FETCH, size)):
            self._reading.extend(delay_ms / 1000)
            self._pause_reading()

    def _charge(self, key: QuotaKey, size: int) -> int:
        return self._quotas.charge(key, self.requester.principal.name, self.requester.client_id, size)

    def end(self) -> None:
        """The connection ends: nothing is resumed. Idempotent."""
        self._reading.cancel()
        self._sending.cancel()
