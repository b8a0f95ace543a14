"""A member of a consumer group that speaks the protocol itself: any protocol type, any assignment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mainstem.kafka_protocol.message import Message
from mainstem.search.cluster.broker_client import BrokerConnection
from mainstem.search.cluster.client_protocol import BrokerRequest

JOIN_GROUP, SYNC_GROUP, LEAVE_GROUP = 11, 14, 13


@contextmanager
def group_member(
    address: str, group: str, assignment: bytes, *, protocol_type: str = "consumer", metadata: bytes = b""
) -> Iterator[str]:
    """The id of the only member of `group`, to which its leader (itself) has assigned these bytes."""
    host, _, port = address.rpartition(":")
    connection = BrokerConnection(host, int(port))
    try:
        joined = connection.call(
            BrokerRequest(
                JOIN_GROUP,
                2,
                Message(
                    group_id=group,
                    session_timeout=30_000,
                    rebalance_timeout=30_000,
                    member_id="",
                    protocol_type=protocol_type,
                    protocols=[Message(name="any", metadata=metadata)],
                ),
            )
        )
        assert joined.error_code == 0, joined.error_code
        synced = connection.call(
            BrokerRequest(
                SYNC_GROUP,
                1,
                Message(
                    group_id=group,
                    generation_id=joined.generation_id,
                    member_id=joined.member_id,
                    assignments=[Message(member_id=joined.member_id, assignment=assignment)],
                ),
            )
        )
        assert synced.error_code == 0, synced.error_code
        yield joined.member_id
        connection.call(BrokerRequest(LEAVE_GROUP, 1, Message(group_id=group, member_id=joined.member_id)))
    finally:
        connection.close()
