"""The heartbeats of members of share groups, looked at without the state.

Owns: what a request may say. Refuses: members and groups (`share_groups.py`).
"""

from __future__ import annotations

from mainstem.coordinator.errors import InvalidRequest
from mainstem.coordinator.groups.epoch_group import MemberFacts
from mainstem.coordinator.groups.share_types import GROUP_NAME_MAX, LEAVE_EPOCH, ShareHeartbeat


def check_heartbeat(request: ShareHeartbeat) -> None:
    """Check a request by itself. InvalidRequest, with Kafka's texts."""
    if not request.member_id.strip():
        raise InvalidRequest("MemberId can't be empty.")
    if not request.group_id.strip():
        raise InvalidRequest("GroupId can't be empty.")
    if request.rack_id is not None and not request.rack_id.strip():
        raise InvalidRequest("RackId can't be empty.")
    if request.member_epoch == 0 and not request.topics:
        raise InvalidRequest("SubscribedTopicNames must be set in first request.")
    if request.member_epoch < LEAVE_EPOCH:
        raise InvalidRequest("MemberEpoch is invalid.")
    if max(len(request.group_id), len(request.member_id)) > GROUP_NAME_MAX:
        raise InvalidRequest(f"GroupId and MemberId have {GROUP_NAME_MAX:,} characters at most.")


def facts_of(request: ShareHeartbeat, old: MemberFacts | None) -> MemberFacts:
    """What a member says of itself now. `old`: what it has said before; None: it is new."""
    topics = () if old is None else old.topics
    if request.topics is not None:
        topics = tuple(sorted(set(request.topics)))
    rack_id = request.rack_id if request.rack_id is not None or old is None else old.rack_id
    return MemberFacts(request.member_id, rack_id, request.client_id, request.client_host, topics)
