"""What a client may do to some topics and groups, and not to others of the same request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.kafka_protocol.message import NO_UUID, Message
from tests.doors.kafka.access_kit import GROUP, OTHER, TOPIC, error_codes, requests, values
from tests.doors.kafka.kit import batch
from tests.doors.kafka.share_kit import ShareRig

OF_TOPIC, OF_GROUP, OF_CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
CLUSTER = "kafka-cluster"
UNKNOWN_TOPIC, DENIED, GROUP_DENIED, CLUSTER_DENIED, UNKNOWN_ID = 3, 29, 30, 31, 100


@pytest.fixture(scope="module")
def rig_of_module() -> ShareRig:
    rig = ShareRig()
    for name in (TOPIC, OTHER):
        rig.wait(rig.node.topics.create(name, 1))
    rig.make_group(GROUP)
    rig.make_group("mail")
    return rig


@pytest.fixture
def rig(rig_of_module: ShareRig) -> Iterator[ShareRig]:
    """A node with a topic that the client has rights to, and one that it has none to."""
    yield rig_of_module
    rig_of_module.authorizer.rules = None


def topic(rig: ShareRig, name: str) -> TopicMetadata:
    metadata = rig.node.topics.get(name)
    assert metadata is not None
    return metadata


def metadata(rig: ShareRig, *names: str, version: int = 12, create: bool = True, **fields: object) -> Message:
    topics = [Message(name=name, topic_id=NO_UUID) for name in names]
    return rig.call(3, version, Message(topics=topics, allow_auto_topic_creation=create, **fields))


def test_metadata_of_all_topics_leaves_out_those_that_may_not_be_described(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.READ, OF_TOPIC, OTHER))
    for version in range(14):
        reply = rig.call(3, version, Message(topics=[] if version == 0 else None))
        assert [(item.name, item.error_code) for item in reply.topics] == [(OTHER, 0)], version
    page = rig.call(75, 0, Message(topics=[], response_partition_limit=9, cursor=None))
    assert [item.name for item in page.topics] == [OTHER]


def test_pages_of_topics_and_their_cursors_name_none_that_may_not_be_described(rig: ShareRig) -> None:
    def page(*names: str, cursor: Message | None = None) -> tuple[list[tuple[str, int]], str | None]:
        topics = [Message(name=name) for name in names]
        reply = rig.call(75, 0, Message(topics=topics, response_partition_limit=1, cursor=cursor))
        after = reply.next_cursor
        return [(item.name, item.error_code) for item in reply.topics], after and after.topic_name

    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, OTHER), (Operation.DESCRIBE, OF_TOPIC, "t"))
    assert page() == ([(OTHER, 0)], "t")
    assert page(cursor=Message(topic_name=TOPIC, partition_index=0)) == ([(OTHER, 0)], "t")
    assert page(TOPIC, OTHER) == ([(TOPIC, DENIED), (OTHER, 0)], None)
    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, OTHER))
    assert page() == ([(OTHER, 0)], None)


def test_metadata_by_id_names_no_topic_that_may_not_be_described(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, OTHER))
    ids = [topic(rig, TOPIC).id, topic(rig, OTHER).id]
    reply = rig.call(3, 12, Message(topics=[Message(name=None, topic_id=topic_id) for topic_id in ids]))
    assert [(item.topic_id, item.name, item.error_code) for item in reply.topics] == [
        (ids[0], None, DENIED),
        (ids[1], OTHER, 0),
    ]
    assert reply.topics[0].partitions == []


def test_metadata_creates_only_what_the_client_may_create(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, "*"), (Operation.CREATE, OF_TOPIC, "new-1"))
    reply = metadata(rig, "new-1", "new-2")
    assert [(item.name, item.error_code) for item in reply.topics] == [("new-1", 0), ("new-2", DENIED)]
    assert rig.node.topics.get("new-2") is None
    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, "*"), (Operation.CREATE, OF_CLUSTER, CLUSTER))
    assert metadata(rig, "new-2").topics[0].error_code == 0
    rig.authorizer.set((Operation.CREATE, OF_CLUSTER, CLUSTER))
    assert metadata(rig, "new-3").topics[0].error_code == DENIED  # it may not be described
    assert rig.node.topics.get("new-3") is None


def test_a_topic_that_may_be_described_and_not_created_is_unknown_unless_it_would_be_created(
    rig: ShareRig,
) -> None:
    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, "*"))
    assert metadata(rig, "absent", create=False).topics[0].error_code == UNKNOWN_TOPIC
    assert metadata(rig, "absent").topics[0].error_code == DENIED


def test_the_listed_operations_are_those_that_are_allowed(rig: ShareRig) -> None:
    rig.authorizer.set(
        (Operation.READ, OF_TOPIC, OTHER),
        (Operation.ALTER_CONFIGS, OF_GROUP, GROUP),
        (Operation.DESCRIBE, OF_GROUP, GROUP),
        (Operation.DESCRIBE, OF_CLUSTER, CLUSTER),
    )
    both = {"include_topic_authorized_operations": True, "include_cluster_authorized_operations": True}
    reply = metadata(rig, OTHER, TOPIC, version=10, **both)
    assert reply.topics[0].topic_authorized_operations == 1 << Operation.READ | 1 << Operation.DESCRIBE
    assert reply.topics[1].topic_authorized_operations == -(1 << 31)
    assert reply.cluster_authorized_operations == 1 << Operation.DESCRIBE
    described = rig.call(15, 6, Message(groups=[GROUP], include_authorized_operations=True)).groups[0]
    operations = 1 << Operation.DESCRIBE | 1 << Operation.DESCRIBE_CONFIGS | 1 << Operation.ALTER_CONFIGS
    assert described.error_code == 69  # it is no classic group
    assert described.authorized_operations == -(1 << 31)
    share = rig.call(77, 1, Message(group_ids=[GROUP], include_authorized_operations=True)).groups[0]
    assert share.authorized_operations == operations
    rig.authorizer.set((Operation.ALTER, OF_CLUSTER, "other"))
    assert metadata(rig, version=10, **both).cluster_authorized_operations == 0


def test_produce_and_fetch_refuse_the_topics_without_a_right_and_serve_the_others(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.WRITE, OF_TOPIC, OTHER), (Operation.READ, OF_TOPIC, OTHER))
    names = [OTHER, TOPIC, "absent"]
    produced = rig.call(
        0,
        9,
        Message(
            transactional_id=None,
            acks=-1,
            timeout=1000,
            topic_data=[
                Message(name=name, partition_data=[Message(index=0, records=batch(b"x"))]) for name in names
            ],
        ),
    )
    codes = [item.partition_responses[0].error_code for item in produced.responses]
    assert codes == [0, DENIED, DENIED]
    assert produced.responses[1].partition_responses[0].base_offset == -1
    for version in (12, 13):
        ids = [topic(rig, OTHER).id, topic(rig, TOPIC).id, topic(rig, "t").id]
        topics = [
            Message(
                topic=name,
                topic_id=topic_id,
                partitions=[Message(partition=0, fetch_offset=0, partition_max_bytes=999)],
            )
            for name, topic_id in zip(names, ids, strict=True)
        ]
        fetched = rig.call(
            1,
            version,
            Message(max_wait=0, min_bytes=0, max_bytes=999, session_epoch=-1, topics=topics),
        )
        parts = [item.partitions[0] for item in fetched.responses]
        assert [part.error_code for part in parts] == [0, DENIED, DENIED]
        assert [part.high_watermark for part in parts[1:]] == [-1, -1]
        assert parts[0].records
        assert not parts[1].records


def test_who_may_write_to_any_topic_may_do_so_idempotently(rig: ShareRig) -> None:
    def code() -> int:
        request = Message(transactional_id=None, transaction_timeout=1, producer_id=-1, producer_epoch=-1)
        return int(rig.call(22, 5, request).error_code)

    rig.authorizer.set((Operation.READ, OF_TOPIC, "*"))
    assert code() == CLUSTER_DENIED
    rig.authorizer.set((Operation.WRITE, OF_TOPIC, OTHER))
    assert code() == 0
    rig.authorizer.set((Operation.IDEMPOTENT_WRITE, OF_CLUSTER, CLUSTER))
    assert code() == 0


def test_creating_topics_without_a_right_to_their_settings_shows_none(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.CREATE, OF_TOPIC, "made"))
    new = {"num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    names = ("made", "not-made", TOPIC)
    reply = rig.call(19, 7, Message(topics=[Message(name=name, **new) for name in names], timeout=1))
    assert [(item.name, item.error_code) for item in reply.topics] == [
        ("made", 0),
        ("not-made", DENIED),
        (TOPIC, DENIED),
    ]
    made = reply.topics[0]
    assert (made.topic_config_error_code, made.configs, made.num_partitions) == (DENIED, None, -1)
    assert rig.node.topics.get("not-made") is None


def test_deleting_topics_hides_their_names_from_who_may_not_describe_them(rig: ShareRig) -> None:
    secret = topic(rig, TOPIC)

    def delete(*, by_id: bool, name: str = TOPIC) -> tuple[str | None, int]:
        named = Message(name=None, topic_id=secret.id) if by_id else Message(name=name, topic_id=NO_UUID)
        (item,) = rig.call(20, 6, Message(topics=[named], timeout=1)).responses
        return item.name, item.error_code

    rig.authorizer.set()
    assert delete(by_id=True) == (None, DENIED)
    assert delete(by_id=False) == (TOPIC, DENIED)
    assert delete(by_id=False, name="absent") == ("absent", DENIED)
    rig.authorizer.set((Operation.DESCRIBE, OF_TOPIC, "*"))
    assert delete(by_id=True) == (TOPIC, DENIED)
    assert delete(by_id=False) == (TOPIC, DENIED)
    assert delete(by_id=False, name="absent") == ("absent", UNKNOWN_TOPIC)
    rig.authorizer.set((Operation.DELETE, OF_CLUSTER, CLUSTER))
    assert delete(by_id=False, name="absent") == ("absent", UNKNOWN_TOPIC)
    rig.authorizer.set((Operation.DELETE, OF_TOPIC, "made-2"))
    rig.authorizer.rules, rules = None, rig.authorizer.rules
    rig.wait(rig.node.topics.create("made-2", 1))
    rig.authorizer.rules = rules
    assert delete(by_id=False, name="made-2") == ("made-2", 0)
    assert rig.node.topics.get(TOPIC) is secret


def test_lists_of_groups_have_those_that_may_be_described(rig: ShareRig) -> None:
    def listed() -> set[str]:
        return {group.group_id for group in rig.call(16, 5, Message()).groups}

    rig.authorizer.set((Operation.READ, OF_GROUP, GROUP))
    assert listed() == {GROUP}
    rig.authorizer.set((Operation.DESCRIBE, OF_CLUSTER, CLUSTER))
    assert listed() >= {GROUP, "mail"}


def commit(rig: ShareRig, *names: str) -> dict[str, int]:
    topics = [
        Message(name=name, partitions=[Message(partition_index=0, committed_offset=0)]) for name in names
    ]
    request = Message(group_id="readers", generation_id_or_member_epoch=-1, member_id="", topics=topics)
    reply = rig.call(8, 9, request)
    return {item.name: item.partitions[0].error_code for item in reply.topics}


def test_offsets_are_committed_shown_and_deleted_by_the_rights_to_their_topics(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.READ, OF_GROUP, "readers"), (Operation.READ, OF_TOPIC, "*"))
    assert commit(rig, TOPIC, OTHER) == {TOPIC: 0, OTHER: 0}
    rig.authorizer.set((Operation.READ, OF_GROUP, "readers"), (Operation.READ, OF_TOPIC, OTHER))
    assert commit(rig, TOPIC, OTHER, "absent") == {TOPIC: DENIED, OTHER: 0, "absent": DENIED}
    assert commit(rig, TOPIC) == {TOPIC: DENIED}

    everything = rig.call(9, 9, Message(groups=[Message(group_id="readers", topics=None)])).groups[0]
    assert [item.name for item in everything.topics] == [OTHER]
    ids = [topic(rig, TOPIC).id, topic(rig, OTHER).id]
    for version in (9, 10):
        asked = [
            Message(name=name, topic_id=topic_id, partition_indexes=[0])
            for name, topic_id in zip((TOPIC, OTHER), ids, strict=True)
        ]
        group = rig.call(9, version, Message(groups=[Message(group_id="readers", topics=asked)])).groups[0]
        parts = [
            (item.partitions[0].committed_offset, item.partitions[0].error_code) for item in group.topics
        ]
        assert sorted(parts) == [(-1, DENIED), (0, 0)]
    before_v8 = Message(group_id="readers", topics=[Message(name=TOPIC, partition_indexes=[0])])
    assert rig.call(9, 1, before_v8).topics[0].partitions[0].error_code == DENIED

    rig.authorizer.set((Operation.DELETE, OF_GROUP, "readers"), (Operation.READ, OF_TOPIC, OTHER))
    named = [Message(name=name, partitions=[Message(partition_index=0)]) for name in (TOPIC, OTHER)]
    deleted = rig.call(47, 0, Message(group_id="readers", topics=named))
    assert {item.name: item.partitions[0].error_code for item in deleted.topics} == {TOPIC: DENIED, OTHER: 0}


def test_a_group_that_may_not_be_described_is_refused_beside_one_that_may(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.DESCRIBE, OF_GROUP, "readers"))
    groups = rig.call(15, 6, Message(groups=[GROUP, "readers"])).groups
    assert {group.group_id: group.error_code for group in groups}[GROUP] == GROUP_DENIED
    coordinators = rig.call(10, 6, Message(key_type=0, coordinator_keys=[GROUP, "readers"])).coordinators
    assert [item.error_code for item in coordinators] == [GROUP_DENIED, 0]
    assert (coordinators[0].node_id, coordinators[0].host) == (-1, "")
    share = Message(key_type=2, coordinator_keys=[f"{GROUP}:AAAAAAAAAAAAAAAAAAAAAA:0"])
    assert rig.call(10, 6, share).coordinators[0].error_code == CLUSTER_DENIED


def test_share_groups_hide_topics_that_may_not_be_described(rig: ShareRig) -> None:
    rights = (Operation.READ, OF_GROUP, GROUP), (Operation.READ, OF_TOPIC, OTHER)
    rig.authorizer.set(*rights)
    request = requests(topic(rig, TOPIC).id)[76]
    refused = rig.call(76, 1, request)
    assert (refused.error_code, refused.member_id, refused.assignment) == (DENIED, None, None)
    rig.authorizer.set(*rights, (Operation.DESCRIBE, OF_TOPIC, TOPIC))
    assert rig.call(76, 1, request).error_code == 0
    rig.authorizer.set(*rights)
    (hidden,) = rig.call(77, 1, Message(group_ids=[GROUP])).groups
    assert (hidden.error_code, hidden.members) == (DENIED, [])
    assert TOPIC not in str(list(values(hidden)))
    left = Message(**{**vars(request), "member_epoch": -1, "subscribed_topic_names": None})
    assert rig.call(76, 1, left).error_code == 0


def test_share_fetch_and_acknowledge_refuse_the_partitions_without_a_right(rig: ShareRig) -> None:
    member = rig.member(group=GROUP)
    rig.authorizer.set((Operation.READ, OF_GROUP, GROUP))
    assert member.fetch().errors() == {0: (DENIED, 0)}
    rig.authorizer.set((Operation.READ, OF_GROUP, GROUP), (Operation.READ, OF_TOPIC, "t"))
    assert member.fetch().errors() in ({0: (0, 0)}, {})
    rig.authorizer.set((Operation.READ, OF_GROUP, GROUP))
    assert member.acknowledge({0: [(0, 0, [1])]}) == (0, {0: DENIED})
    assert member.fetch(acks={0: [(0, 0, [1])]}).errors() == {0: (DENIED, DENIED)}


def test_offsets_of_share_groups_are_shown_and_moved_by_the_rights_to_their_topics(rig: ShareRig) -> None:
    rig.authorizer.set((Operation.DESCRIBE, OF_GROUP, GROUP))
    everything = rig.call(90, 1, Message(groups=[Message(group_id=GROUP, topics=None)])).groups[0]
    assert (everything.error_code, everything.topics) == (0, [])
    for key, right in ((90, Operation.DESCRIBE), (91, Operation.READ), (92, Operation.DELETE)):
        rig.authorizer.set((right, OF_GROUP, GROUP))
        reply = rig.call(key, 0, requests(topic(rig, TOPIC).id)[key])
        assert DENIED in {code for _, code in error_codes(reply)}
        assert topic(rig, TOPIC).id not in dict(values(reply)).values()
