"""The members of consumer groups as the contract describes them, from what a coordinator has about them."""

from __future__ import annotations

from mainstem.contract import MemberInfo
from mainstem.kafka_protocol.subscription import read_assignment

CONSUMER_PROTOCOLS = ("consumer", "")
"""The protocol types whose members exchange Kafka's assignments; empty for a group that has only offsets. The
workers of Kafka Connect ("connect") and schema registries ("sr") exchange something else."""


def member_info(
    protocol_type: str, member_id: str, client_id: str, host: str, instance_id: str | None, assignment: bytes
) -> MemberInfo:
    """A member of a group of this protocol type. Bytes that are not Kafka's assignment are only counted."""
    assigned = read_assignment(assignment) if protocol_type in CONSUMER_PROTOCOLS else None
    if assigned is None and not assignment:
        assigned = ()
    undecoded_bytes = len(assignment) if assigned is None else 0
    return MemberInfo(member_id, client_id, host, instance_id, assigned or (), undecoded_bytes)
