"""Client quotas in the HTTP door: what a client publishes and reads, and the time that its requests take, is
counted as that of Kafka clients is.

A request for which there is no room is refused, before its body is read; bodies and time count as they pass.
An HTTP client has no client id: the quotas of its user, and those of clients by default, count for it. Owns:
which routes count, and the refusal. Refuses: rates (`quota_contract.ClientQuotas`), measuring
(`request_time.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mainstem.access_contract import ResourceType
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.request_time import RequestTime
from mainstem.quota_contract import ClientQuotas, QuotaKey

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Send

    from mainstem.access_contract import Requester
    from mainstem.clock import Clock
    from mainstem.doors.http.rights import RouteRights


def quotas_of(rights: RouteRights) -> tuple[QuotaKey, ...]:
    """Which quotas a route that needs these rights counts for. Logins, health, and what needs a right to the
    cluster count for none, so that an administrator beyond a quota may still change it."""
    if not rights.login or any(right.resource_type is ResourceType.CLUSTER for right in rights.of_path):
        return ()
    if rights.writes_events:
        return QuotaKey.PRODUCE, QuotaKey.REQUEST
    return (QuotaKey.FETCH, QuotaKey.REQUEST) if rights.reads_events else (QuotaKey.REQUEST,)


class ThrottledClient:
    """The client of one request, where there are quotas."""

    def __init__(
        self,
        quotas: ClientQuotas,
        keys: tuple[QuotaKey, ...],
        requester: Requester,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        """`pause` sleeps for some seconds, but not longer than the server runs."""
        self.time = RequestTime(clock.cpu)
        """The time that the request takes."""
        self._quotas = quotas
        self._pause = pause
        self._keys = keys
        self._user = requester.principal.name
        self._client_id = requester.client_id

    def check(self) -> None:
        """Raises Problem if the client has used more than one of its quotas lately."""
        for key in self._keys:
            delay_ms = self._quotas.excess_ms(key, self._user, self._client_id)
            if delay_ms:
                raise Problem(
                    "quota-exceeded",
                    f"the quota {key} of this client is used up; there is room in {delay_ms:,} ms",
                    headers={"retry-after": str(-(-delay_ms // 1000))},
                )

    def received_from(self, receive: Receive) -> Receive:
        """Counts the body of the request, if the route publishes."""
        if QuotaKey.PRODUCE not in self._keys:
            return receive

        async def counted() -> Message:
            message = await receive()
            self._charge_bytes(QuotaKey.PRODUCE, message)
            return message

        return counted

    def sent_to(self, send: Send) -> Send:
        """Counts the body of the response, if the route reads, and slows it down where it is long, as by the
        time that it takes: a tail has no end."""
        delay_ms = 0

        async def counted(message: Message) -> None:
            nonlocal delay_ms
            if message.get("body"):
                if delay_ms:
                    await self._pause(delay_ms / 1000)
                delay_ms = self.charge_time()
                if QuotaKey.FETCH in self._keys:
                    delay_ms = max(delay_ms, self._charge_bytes(QuotaKey.FETCH, message))
            # The task that sends a long response is not the one that began it.
            await self.time.measured(send(message))

        return counted

    def charge_time(self) -> int:
        """Count the time that the request has taken since the last call. Milliseconds to wait."""
        spent_s = self.time.take_s()
        return self._charge(QuotaKey.REQUEST, 100 * spent_s) if spent_s else 0

    def _charge_bytes(self, key: QuotaKey, message: Message) -> int:
        size = len(message.get("body", b""))
        return self._charge(key, size) if size else 0

    def _charge(self, key: QuotaKey, amount: float) -> int:
        return self._quotas.charge(key, self._user, self._client_id, amount)
