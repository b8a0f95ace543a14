"""An authorizer whose rules a test sets, and one request of each API key that names a topic or a group."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

from mainstem.access_contract import (
    AccessDecision,
    Operation,
    Requester,
    Resource,
    ResourceType,
)
from mainstem.doors.contract import Access
from mainstem.engines.kafka.access import NoMasks
from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.masking.contract import Masks
from tests.authentication.kit import MemoryAdmin, authentication

IMPLIED = {
    Operation.DESCRIBE: {Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER},
    Operation.DESCRIBE_CONFIGS: {Operation.ALTER_CONFIGS},
}
TOPIC, OTHER, GROUP = "secret-orders", "shown", "secret-group"
TOPIC_DENIED, GROUP_DENIED, CLUSTER_DENIED, TRANSACTION_DENIED = 29, 30, 31, 53
MEMBER = str(uuid.UUID(int=77))


class MemoryAuthorizer:
    """Allows everything, and records what it was asked; once `rules` is set, only what a rule allows."""

    def __init__(self) -> None:
        self.on_decision: Any = None
        self.on_change: list[Callable[[], None]] = []
        self.version = 0
        self.rules: set[tuple[Operation, ResourceType, str]] | None = None
        """(operation, type, name), where the name `*` is every name."""
        self.asked: set[tuple[Operation, ResourceType]] = set()

    @property
    def is_on(self) -> bool:
        return self.rules is not None

    def set(self, *rules: tuple[Operation, ResourceType, str]) -> None:
        """Replace the rules, as a change of entries does."""
        self.rules = set(rules)
        self.version += 1
        for call in self.on_change:
            call()

    def allows(
        self, requester: Requester, operation: Operation, resource: Resource, *, is_filter: bool = False
    ) -> bool:
        self.asked.add((operation, resource.type))
        if self.rules is None:
            return True
        operations = {operation, *IMPLIED.get(operation, ())}
        return any(
            rule in operations and kind == resource.type and name in ("*", resource.name)
            for rule, kind, name in self.rules
        )

    def decide(self, requester: Requester, operation: Operation, resource: Resource) -> AccessDecision:
        return AccessDecision(self.allows(requester, operation, resource))

    def allowed_operations(
        self, requester: Requester, operations: tuple[Operation, ...], resource: Resource
    ) -> tuple[Operation, ...]:
        return tuple(item for item in operations if self.allows(requester, item, resource, is_filter=True))

    def allows_any(self, requester: Requester, operation: Operation, resource_type: ResourceType) -> bool:
        self.asked.add((operation, resource_type))
        if self.rules is None:
            return True
        return any(rule == operation and kind == resource_type for rule, kind, _ in self.rules)


def memory_access(
    authorizer: MemoryAuthorizer | None = None,
    users: MemoryAdmin | None = None,
    masks: Masks | None = None,
) -> Access:
    """Access by such an authorizer, with users in memory."""
    users = users or MemoryAdmin()
    return Access(
        authorizer=authorizer or MemoryAuthorizer(),
        admin=users,
        masks=masks or NoMasks(),
        authentication=authentication(users),
    )


def error_codes(message: Message, path: str = "") -> Iterator[tuple[str, int]]:
    """(path, code) of every error code of a reply."""
    for name, value in vars(message).items():
        if name.endswith("error_code"):
            yield f"{path}{name}", value
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Message):
                yield from error_codes(item, f"{path}{name}.")


def values(message: Message, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in a reply."""
    for name, value in vars(message).items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Message):
                yield from values(item, f"{path}{name}.")
            else:
                yield f"{path}{name}", item


def _partitions(**fields: Any) -> list[Message]:
    return [Message(**fields)]


def requests(topic_id: uuid.UUID, share_group: str = GROUP) -> dict[int, Message]:
    """A request of each API key that needs rights, with all its names: of topic TOPIC, of group GROUP and of
    a share group. It has the fields of all versions."""
    return {
        **_of_topics(topic_id),
        **_of_groups(topic_id),
        **_of_share_groups(topic_id, share_group),
        **_of_cluster(),
    }


def _of_topics(topic_id: uuid.UUID) -> dict[int, Message]:
    both = {"name": TOPIC, "topic_id": topic_id}

    def resources(**fields: Any) -> list[Message]:
        return [
            Message(resource_type=kind, resource_name=name, **fields)
            for kind, name in ((2, TOPIC), (32, GROUP), (4, "1"), (16, "m"))
        ]

    change = {"name": "retention.ms", "value": "5"}
    return {
        0: Message(
            transactional_id=None,
            acks=-1,
            timeout=20_000,
            topic_data=[Message(**both, partition_data=_partitions(index=0, records=b"x"))],
        ),
        1: Message(
            max_wait=0,
            min_bytes=0,
            max_bytes=1,
            session_epoch=-1,
            topics=[
                Message(
                    topic=TOPIC,
                    topic_id=topic_id,
                    partitions=_partitions(partition=0, fetch_offset=0, partition_max_bytes=1),
                )
            ],
        ),
        2: Message(topics=[Message(name=TOPIC, partitions=_partitions(partition_index=0, timestamp=-1))]),
        3: Message(
            topics=[Message(name=TOPIC, topic_id=NO_UUID), Message(name="new-one", topic_id=NO_UUID)],
            allow_auto_topic_creation=True,
            include_cluster_authorized_operations=True,
        ),
        19: Message(
            topics=[
                Message(name="new-two", num_partitions=1, replication_factor=1, assignments=[], configs=[])
            ],
            timeout=20_000,
            validate_only=False,
        ),
        20: Message(topic_names=[TOPIC], topics=[Message(name=None, topic_id=topic_id)], timeout=20_000),
        21: Message(
            topics=[Message(name=TOPIC, partitions=_partitions(partition_index=0, offset=0))], timeout=1
        ),
        22: Message(transactional_id=None, transaction_timeout=20_000, producer_id=-1, producer_epoch=-1),
        23: Message(topics=[Message(topic=TOPIC, partitions=_partitions(partition=0, leader_epoch=0))]),
        32: Message(resources=resources(configuration_keys=None)),
        33: Message(resources=resources(configs=[Message(**change)]), validate_only=True),
        37: Message(
            topics=[Message(name=TOPIC, count=3, assignments=None)], timeout=20_000, validate_only=True
        ),
        44: Message(resources=resources(configs=[Message(**change, config_operation=0)]), validate_only=True),
        61: Message(topics=[Message(name=TOPIC, partition_indexes=[0])]),
        75: Message(topics=[Message(name=TOPIC)], response_partition_limit=9, cursor=None),
    }


def _of_groups(topic_id: uuid.UUID) -> dict[int, Message]:
    both = {"name": TOPIC, "topic_id": topic_id}
    member = {"group_id": GROUP, "generation_id": 1, "member_id": "m", "group_instance_id": None}
    return {
        8: Message(
            group_id=GROUP,
            generation_id_or_member_epoch=-1,
            member_id="",
            topics=[Message(**both, partitions=_partitions(partition_index=0, committed_offset=0))],
        ),
        9: Message(
            group_id=GROUP,
            topics=[Message(name=TOPIC, partition_indexes=[0])],
            groups=[Message(group_id=GROUP, topics=[Message(**both, partition_indexes=[0])])],
        ),
        10: Message(key=GROUP, key_type=0, coordinator_keys=[GROUP]),
        11: Message(
            group_id=GROUP,
            session_timeout=10_000,
            rebalance_timeout=10_000,
            member_id="",
            protocol_type="consumer",
            protocols=[],
        ),
        12: Message(**member),
        13: Message(group_id=GROUP, member_id="m", members=[Message(member_id="m")]),
        14: Message(**member, protocol_type="consumer", protocol_name="range", assignments=[]),
        15: Message(groups=[GROUP]),
        16: Message(),
        42: Message(groups_names=[GROUP]),
        47: Message(group_id=GROUP, topics=[Message(name=TOPIC, partitions=_partitions(partition_index=0))]),
    }


def _of_share_groups(topic_id: uuid.UUID, group: str) -> dict[int, Message]:
    acks = [Message(first_offset=0, last_offset=0, acknowledge_types=[1])]
    named = [
        Message(
            topic_id=topic_id,
            partitions=_partitions(partition_index=0, acknowledgement_batches=[]),
        )
    ]
    return {
        76: Message(
            group_id=group, member_id=MEMBER, member_epoch=0, rack_id=None, subscribed_topic_names=[TOPIC]
        ),
        77: Message(group_ids=[group]),
        78: Message(
            group_id=group,
            member_id=MEMBER,
            share_session_epoch=0,
            max_wait=0,
            min_bytes=0,
            max_bytes=9,
            max_records=9,
            batch_size=9,
            topics=named,
            forgotten_topics_data=[],
        ),
        79: Message(
            group_id=group,
            member_id=MEMBER,
            share_session_epoch=1,
            topics=[
                Message(
                    topic_id=topic_id,
                    partitions=_partitions(partition_index=0, acknowledgement_batches=acks),
                )
            ],
        ),
        90: Message(groups=[Message(group_id=group, topics=[Message(topic_name=TOPIC, partitions=[0])])]),
        91: Message(
            group_id=group,
            topics=[Message(topic_name=TOPIC, partitions=_partitions(partition_index=0, start_offset=0))],
        ),
        92: Message(group_id=group, topics=[Message(topic_name=TOPIC)]),
    }


def _of_cluster() -> dict[int, Message]:
    entry = {
        "resource_type": 2,
        "resource_name": TOPIC,
        "resource_pattern_type": 3,
        "principal": "User:alice",
        "host": "*",
        "operation": 3,
        "permission_type": 3,
    }
    filter_ = {
        "resource_type_filter": 1,
        "resource_name_filter": None,
        "pattern_type_filter": 1,
        "principal_filter": None,
        "host_filter": None,
        "operation": 1,
        "permission_type": 1,
    }
    return {
        29: Message(**filter_),
        30: Message(creations=[Message(**entry)]),
        31: Message(filters=[Message(**filter_)]),
        34: Message(dirs=[Message(path="/x", topics=[Message(name=TOPIC, partitions=[0])])]),
        35: Message(topics=None),
        43: Message(election_type=0, topic_partitions=[Message(topic=TOPIC, partitions=[0])], timeout=20_000),
        45: Message(
            timeout=20_000,
            topics=[Message(name=TOPIC, partitions=_partitions(partition_index=0, replicas=None))],
        ),
        46: Message(timeout=20_000, topics=None),
        48: Message(components=[], strict=False),
        49: Message(entries=[Message(entity=[Message(entity_type="user", entity_name="a")], ops=[])]),
        50: Message(users=[Message(name="a")]),
        51: Message(deletions=[Message(name="a", mechanism=1)], upsertions=[]),
        55: Message(
            topics=[Message(topic_name="__cluster_metadata", partitions=_partitions(partition_index=0))]
        ),
        60: Message(include_cluster_authorized_operations=True, endpoint_type=1),
        74: Message(resource_types=[]),
    }
