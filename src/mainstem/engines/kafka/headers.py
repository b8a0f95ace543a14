"""Reads the headers of events whose names are not UTF-8, which librdkafka's Python client cannot return.

Owns: fetching such an event's batch with our own client of Kafka's protocol, and the headers of the batches
that were fetched last: of a topic full of such events, few batches are fetched twice. Blocking: for a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.clock import BlockingClock
from mainstem.contract import Headers, StreamError
from mainstem.kafka_protocol.message import ProtocolError
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import decode, iter_batches
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.broker_client import BrokerClient, ClusterError, reason_of, refusal

FETCH_BYTES = 1 << 20
FETCH_WAIT_MS = 100
PARTITIONS_MAX = 32
"""Partitions of which a reply is kept, each of at most FETCH_BYTES as sent."""
ATTEMPTS = 20
PAUSE_S = 0.1


class HeaderReader:
    """Headers of single events of the cluster at `addresses`."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        clock: BlockingClock,
        timeout_s: float,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        self._cluster = BrokerClient(addresses, clock, timeout_s, security)
        self._clock = clock
        self._lock = threading.Lock()
        self._fetched: dict[tuple[str, int], dict[int, Headers]] = {}

    def read(self, topic: str, partition: int, offset: int) -> Headers:
        """The headers of an event, names with replacement characters where they are not UTF-8. StreamError:
        they cannot be read."""
        key = topic, partition
        with self._lock:
            if offset not in self._fetched.get(key, ()):
                self._fetched.pop(key, None)
                if len(self._fetched) >= PARTITIONS_MAX:
                    del self._fetched[next(iter(self._fetched))]
                self._fetched[key] = self._fetch(topic, partition, offset)
            try:
                return self._fetched[key][offset]
            except KeyError:
                raise StreamError(f"{topic} {partition}@{offset}: its headers cannot be read") from None

    def _fetch(self, topic: str, partition: int, offset: int) -> dict[int, Headers]:
        """The headers of the events from `offset` on that one reply has."""
        problem = ClusterError("no leader")
        for _ in range(ATTEMPTS):
            try:
                records = self._try_to_fetch(topic, partition, offset)
            except ClusterError as error:
                problem = error
                self._cluster.forget_leader((topic, partition))
                self._clock.sleep(PAUSE_S)
                continue
            headers: dict[int, Headers] = {}
            for position, header in iter_batches(records):
                if not header.is_control:
                    try:
                        decoded = decode(records[position : position + header.total_bytes])
                    except CorruptBatch:
                        continue
                    headers |= {record.offset: record.headers for record in decoded}
            return headers
        raise StreamError(f"{topic} {partition}@{offset}: its headers cannot be read: {problem}")

    def _try_to_fetch(self, topic: str, partition: int, offset: int) -> memoryview:
        metadata = self._cluster.fetch_metadata([topic])
        connection = self._cluster.leader((topic, partition))
        topic_id = metadata.topics[0].id if wire.has_topic_ids(connection.versions) else None
        request = wire.fetch_request(
            topic, topic_id, partition, offset, wait_ms=FETCH_WAIT_MS, max_bytes=FETCH_BYTES
        )
        try:
            reply = wire.fetch_reply(connection.call(request))
        except (OSError, ProtocolError) as error:
            self._cluster.discard(connection)
            raise ClusterError(reason_of(error)) from None
        if reply.error:
            raise refusal(reply.error)
        return reply.records

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._cluster.close()
