"""Client quotas in the Kafka door: what a request has used, and how its client is delayed (KIP-13, 124, 219).

A client that has used more than its quota is answered at once; the reply says for how long it is throttled
(`throttle_time_ms`), and no further request of the connection starts before that time is over. Fetched
records are sent with that reply; Apache Kafka sends an empty one, and the records later. Owns: the delay of a
connection, and where replies have it. Refuses: rates (`quota_contract.ClientQuotas`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from copy import copy

from mainstem.doors.kafka.fast_replies import PRODUCE_FLEXIBLE
from mainstem.doors.kafka.frame import PRODUCE
from mainstem.doors.kafka.handler import Reply, Request
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.kafka_protocol.schema import api
from mainstem.quota_contract import ClientQuotas, QuotaKey

FETCHES = frozenset({1, 78})
"""Fetch and ShareFetch."""
FIELD = "throttle_time"
"""As schema.json has it; a number of milliseconds."""
_I32 = struct.Struct(">i")


class Throttling:
    """What the requests of all connections use."""

    def __init__(self, quotas: ClientQuotas) -> None:
        self._quotas = quotas

    @property
    def is_on(self) -> bool:
        """Whether there are quotas of clients."""
        return self._quotas.is_on

    def charge(self, request: Request, reply: Reply) -> Reply:
        """Count what a request has used, whose reply is this. Returns the reply with the time for which the
        client is throttled; if there is one, the connection is muted."""
        requester, charge = request.requester, self._quotas.charge
        user, client_id = requester.principal.name, requester.client_id
        delay_ms = 0
        if request.key == PRODUCE:
            delay_ms = charge(QuotaKey.PRODUCE, user, client_id, request.size)
        elif request.key in FETCHES and isinstance(reply, list):
            delay_ms = charge(QuotaKey.FETCH, user, client_id, sum(map(len, reply)))
        if request.busy_s:
            percent = 100 * request.busy_s
            delay_ms = max(delay_ms, charge(QuotaKey.REQUEST, user, client_id, percent))
        if not delay_ms:
            return reply
        request.connection.mute(delay_ms / 1000)
        return with_delay(request.key, request.version, reply, delay_ms)


def with_delay(key: int, version: int, reply: Reply, delay_ms: int) -> Reply:
    """The reply with the time for which its client is throttled, where the reply has one."""
    if isinstance(reply, Message):
        fields = api(key).response.fields
        if not any(field.name == FIELD and field.in_version(version) for field in fields):
            return reply
        delayed = copy(reply)  # the handler may keep it for others
        delayed.__dict__ = {**reply.__dict__, FIELD: delay_ms}
        return delayed
    if reply:
        _write(reply, delay_ms, key == PRODUCE, version >= PRODUCE_FLEXIBLE)
    return reply


def _write(pieces: Sequence[Buffer], delay_ms: int, at_end: bool, is_flexible: bool) -> None:
    """Write the time into an encoded body, as `fast_replies` and `share_replies` make them: at the end of a
    Produce reply, before its tags, at the beginning of the others."""
    piece = pieces[-1] if at_end else pieces[0]
    assert isinstance(piece, bytearray), "the head and the end of a reply are of its own"
    _I32.pack_into(piece, len(piece) - _I32.size - is_flexible if at_end else 0, delay_ms)
