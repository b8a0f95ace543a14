"""Connections to the brokers of a cluster. Blocking: for search workers and for threads of the Kafka engine.

Owns: one connection to each broker, which broker leads which partition, and how long to retry while a broker
does not answer or a partition has no leader, and the login to each. Refuses: to interpret records
(`span_reader.py`).
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from mainstem import sasl_client
from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.clock import BlockingClock
from mainstem.kafka_protocol.message import Message, ProtocolError, decode_reply, encode_request
from mainstem.sasl_client import SaslError
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.client_protocol import (
    BrokerAddress,
    BrokerRequest,
    ClusterMetadata,
    TopicPartition,
)

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 15.0
RETRY_S = 10.0
"""Seconds to retry while a partition has no leader or a broker does not answer."""
NONCE_BYTES = 24
PAUSE_S = 0.2
"""Seconds between two attempts."""
REPLY_BYTES_MIN, REPLY_BYTES_MAX = 4, 256 << 20
"""Limits of a reply's size. The smallest reply is a correlation id."""

OUT_OF_RANGE, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INCONSISTENT_ID = 1, 3, 100, 103
RETRIABLE = frozenset({5, 6, 7, 8, 9, 13, 56, 74, 75, 78})
"""Error codes after which a request is repeated: the partition has no leader at the moment, or another one;
the broker is starting."""
ERROR_TEXTS = {
    -1: "the broker failed to read it",
    2: "the broker reports that it is damaged",
    UNKNOWN_TOPIC: "there is no such topic or partition",
    29: "reading this topic is not authorized",
    76: "the broker does not support its compression",
}

_REPLY_SIZE = struct.Struct(">i")


class ClusterError(Exception):
    """Raised if a broker refused a request or did not answer. Its text is shown to the user."""


class LoginRefused(OSError):
    """The error for a broker that refuses the login, or that the client does not trust with it."""


class SentRequest(NamedTuple):
    """A request whose reply has not been read yet."""

    correlation_id: int
    key: int
    version: int


class BrokerConnection:
    """A connection to one broker. Replies to requests that the caller gave up are skipped."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float = REPLY_TIMEOUT_S,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        """Connect, ask for the broker's versions, and log in. Raises OSError if there is no listener, no
        reply in `timeout_s`, or the login is refused; ProtocolError if it is not a Kafka broker."""
        self._socket = socket.create_connection((host, port), min(CONNECT_TIMEOUT_S, timeout_s))
        self._socket.settimeout(timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation_id = 0
        try:
            if security.has_tls:
                self._socket = security.ssl_context().wrap_socket(self._socket, server_hostname=host)
            self.versions = wire.api_versions_reply(self.call(wire.api_versions_request()))
            if security.has_login:
                self._log_in(security)
        except BaseException:
            self._socket.close()
            raise

    def _log_in(self, security: ClientSecurity) -> None:
        """Authenticate by SASL (KIP-43, KIP-152)."""
        reply = self.call(wire.sasl_handshake_request(security.mechanism))
        if reply.error_code:
            raise LoginRefused(f"the broker offers {', '.join(reply.mechanisms)}, not {security.mechanism}")
        try:
            messages = sasl_client.exchange(security, secrets.token_hex(NONCE_BYTES))
            message = next(messages)
            while True:
                reply = self.call(wire.sasl_authenticate_request(message))
                if reply.error_code:
                    raise LoginRefused(f"the login as {security.user or 'the owner of the token'} is refused")
                message = messages.send(bytes(reply.auth_bytes))
        except StopIteration:
            pass
        except SaslError as error:
            raise LoginRefused(str(error)) from None

    def send(self, request: BrokerRequest) -> SentRequest:
        """Send a request. `receive` returns its reply. Raises OSError."""
        self._correlation_id += 1
        key, version, message = request
        self._socket.sendall(encode_request(key, version, self._correlation_id, wire.CLIENT_ID, message))
        return SentRequest(self._correlation_id, key, version)

    def receive(self, sent: SentRequest) -> Message:
        """Wait for the reply to a request. Raises OSError, ProtocolError; then the connection cannot be used
        any more."""
        while True:
            (size,) = _REPLY_SIZE.unpack(self._read_exactly(_REPLY_SIZE.size))
            if not REPLY_BYTES_MIN <= size <= REPLY_BYTES_MAX:
                raise ProtocolError(f"a reply of {size} bytes")
            frame = self._read_exactly(size)
            if int.from_bytes(frame[:4], "big", signed=True) == sent.correlation_id:
                return decode_reply(sent.key, sent.version, frame)

    def call(self, request: BrokerRequest) -> Message:
        """Send a request and return its reply. Raises OSError, ProtocolError."""
        return self.receive(self.send(request))

    def _read_exactly(self, size: int) -> memoryview:
        buffer = memoryview(bytearray(size))
        filled = 0
        while filled < size:
            count = self._socket.recv_into(buffer[filled:])
            if not count:
                raise ConnectionError("the broker closed the connection")
            filled += count
        return buffer

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()


class BrokerClient:
    """The brokers of a cluster. `addresses`: (host, port) of those to contact first. `timeout_s`: how long a
    broker may take to reply. `security`: how to connect to each."""

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        clock: BlockingClock,
        timeout_s: float = REPLY_TIMEOUT_S,
        security: ClientSecurity = PLAINTEXT,
    ) -> None:
        self.clock = clock
        self._security = security
        self._timeout_s = timeout_s
        self._addresses = list(addresses)
        self._brokers: dict[int, BrokerAddress] = {}
        self._connections: dict[tuple[str, int], BrokerConnection] = {}
        self._leaders: dict[TopicPartition, int] = {}
        self._down_since: dict[tuple[str, int], float] = {}
        self._no_metadata_since: float | None = None

    def connection(self, host: str, port: int) -> BrokerConnection:
        """The connection to this broker, opened if necessary. Raises ClusterError if it does not answer."""
        address = host, port
        if address not in self._connections:
            try:
                self._connections[address] = BrokerConnection(host, port, self._timeout_s, self._security)
            except (OSError, ProtocolError) as error:
                self._down_since.setdefault(address, self.clock.monotonic())
                raise ClusterError(f"broker {host}:{port} does not answer ({reason_of(error)})") from None
            self._down_since.pop(address, None)
        return self._connections[address]

    def discard(self, failed: BrokerConnection) -> None:
        """Close a connection that failed; the next request to its broker opens a new one."""
        failed.close()
        self._connections = {
            address: connection
            for address, connection in self._connections.items()
            if connection is not failed
        }

    def fetch_metadata(self, topics: Sequence[str] | None) -> ClusterMetadata:
        """The brokers of the cluster and these topics (None: all), from the first broker that answers. Raises
        ClusterError if none does."""
        known = [(broker.host, broker.port) for broker in self._brokers.values()]
        problem = ClusterError("no broker is known")
        for host, port in dict.fromkeys([*self._connections, *known, *self._addresses]):
            try:
                connection = self.connection(host, port)
            except ClusterError as error:
                problem = error
                continue
            try:
                ids = wire.has_topic_ids(connection.versions)
                metadata = wire.metadata_reply(connection.call(wire.metadata_request(topics, ids=ids)))
            except (OSError, ProtocolError) as error:
                problem = ClusterError(f"broker {host}:{port}: {reason_of(error)}")
                self.discard(connection)
                continue
            self._brokers = {broker.id: broker for broker in metadata.brokers}
            for topic in metadata.topics:
                for row in topic.partitions:
                    self._leaders[topic.name, row.partition] = row.leader
            self._no_metadata_since = None
            return metadata
        if self._no_metadata_since is None:
            self._no_metadata_since = self.clock.monotonic()
        raise problem

    def leader(self, partition: TopicPartition) -> BrokerConnection:
        """A connection to the partition's leader, according to the last metadata. Raises ClusterError if
        there is no leader or it does not answer."""
        if partition not in self._leaders:
            self.fetch_metadata([partition[0]])
        broker = self._leading_broker(partition)
        if broker is None:
            raise ClusterError("the partition has no leader")
        return self.connection(broker.host, broker.port)

    def forget_leader(self, partition: TopicPartition) -> None:
        """Ask for the partition's leader again before the next request."""
        self._leaders.pop(partition, None)

    def retry_time_left_s(self, partition: TopicPartition) -> float:
        """How many seconds to go on retrying requests about this partition. RETRY_S begins when its broker
        stops answering, so that a broker that is down is not waited for again with each of its partitions."""
        broker = self._leading_broker(partition)
        down_since = None if broker is None else self._down_since.get((broker.host, broker.port))
        failing_since = [since for since in (down_since, self._no_metadata_since) if since is not None]
        return RETRY_S - (self.clock.monotonic() - min(failing_since)) if failing_since else RETRY_S

    def _leading_broker(self, partition: TopicPartition) -> BrokerAddress | None:
        return self._brokers.get(self._leaders.get(partition, -1))

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()


def reason_of(error: Exception) -> str:
    """Why a connection failed, in words for the text of a ClusterError."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return f"not a reply of Kafka's protocol: {error}"


def refusal(code: int) -> ClusterError:
    """The ClusterError, with a text for the user, for an error code of a reply."""
    return ClusterError(ERROR_TEXTS.get(code, f"the broker refuses the request with error {code}"))
