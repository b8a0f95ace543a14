"""The probes of compare_with_kafka.py that do not produce: topics, settings, offsets, groups, the cluster.

A probe asks one server something and returns its replies. It makes what it needs by itself, under names of
its own: each can run alone."""

from __future__ import annotations

from typing import Any

from tests.compat.probing import ProbedServer, batch, probe


@probe("api-versions")
def _api_versions(server: ProbedServer) -> Any:
    return server.ask("ApiVersions", 4, client_software_name="compare", client_software_version="1")


@probe("api-versions-bad-software-name")
def _api_versions_bad(server: ProbedServer) -> Any:
    return server.ask("ApiVersions", 3, client_software_name="not a name", client_software_version="")


@probe("metadata-unknown-topics")
def _metadata(server: ProbedServer) -> Any:
    replies = []
    for version in (1, 5, 9, 12):
        for name in ("nothere", "no/such", "x" * 250, "", "__consumer_offsets_x"):
            fields: dict[str, Any] = {"topics": [{"name": name}]}
            if version >= 4:
                fields["allow_auto_topic_creation"] = False
            if name not in ("nothere", "__consumer_offsets_x") or version >= 4:
                replies.append(server.ask("Metadata", version, **fields))
    return replies


@probe("metadata-known-topic")
def _metadata_known(server: ProbedServer) -> Any:
    topic = server.topic("metadata", 3)
    fields = {"topics": [{"name": topic}], "allow_auto_topic_creation": False}
    return [server.ask("Metadata", version, **fields) for version in (4, 8, 12)]


def _creation(**change: Any) -> dict[str, Any]:
    topic = {"name": "made", "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    return topic | change


BAD_TOPICS: dict[str, dict[str, Any]] = {
    "empty-name": _creation(name=""),
    "slash": _creation(name="a/b"),
    "dots": _creation(name=".."),
    "250-letters": _creation(name="x" * 250),
    "no-partitions": _creation(num_partitions=0),
    "partitions-minus-2": _creation(num_partitions=-2),
    "replication-0": _creation(replication_factor=0),
    "replication-3": _creation(replication_factor=3),
    "unknown-config": _creation(configs=[{"name": "no.such", "value": "1"}]),
    "config-no-number": _creation(configs=[{"name": "retention.ms", "value": "soon"}]),
    "config-out-of-range": _creation(configs=[{"name": "segment.bytes", "value": "3"}]),
    "config-null": _creation(configs=[{"name": "retention.ms", "value": None}]),
    "config-bad-choice": _creation(configs=[{"name": "compression.type", "value": "rar"}]),
    "config-twice": _creation(configs=[{"name": "retention.ms", "value": "1"}] * 2),
    "assignment-broker-9": _creation(
        num_partitions=-1, replication_factor=-1, assignments=[{"partition_index": 0, "broker_ids": [9]}]
    ),
    "assignment-with-count": _creation(assignments=[{"partition_index": 0, "broker_ids": [1]}]),
    "assignment": _creation(
        num_partitions=-1, replication_factor=-1, assignments=[{"partition_index": 0, "broker_ids": [1]}]
    ),
}


def _create_probe(name: str, topic: dict[str, Any]) -> None:
    @probe(f"create-topic-{name}")
    def ask(server: ProbedServer) -> Any:
        return server.ask("CreateTopics", 5, topics=[topic], timeout_ms=10_000, validate_only=True)


for _name, _topic in BAD_TOPICS.items():
    _create_probe(_name, _topic)


@probe("create-topic-twice-and-duplicate")
def _create_twice(server: ProbedServer) -> Any:
    topic = server.topic("twice")
    again = server.ask("CreateTopics", 5, topics=[_creation(name=topic)], timeout_ms=10_000)
    both = [_creation(name="dup"), _creation(name="dup")]
    collide = server.topic("col.lide") and [_creation(name="col_lide")]
    return [
        again,
        server.ask("CreateTopics", 5, topics=both, timeout_ms=10_000),
        server.ask("CreateTopics", 5, topics=collide, timeout_ms=10_000),
    ]


@probe("delete-topic-unknown")
def _delete(server: ProbedServer) -> Any:
    return [
        server.ask("DeleteTopics", 4, topic_names=["nothere", "a/b"], timeout_ms=10_000),
        server.ask("DeleteTopics", 4, topic_names=[], timeout_ms=10_000),
    ]


@probe("create-partitions-bad")
def _create_partitions(server: ProbedServer) -> Any:
    topic = server.topic("partitions", 3)

    def grow(name: str, count: int, **more: Any) -> Any:
        topic = {"name": name, "count": count, "assignments": None} | more
        return server.ask("CreatePartitions", 1, topics=[topic], timeout_ms=10_000, validate_only=True)

    return [
        grow(topic, 2),
        grow(topic, 3),
        grow(topic, 0),
        grow(topic, -1),
        grow("nothere", 5),
        grow(topic, 5),
    ]


@probe("describe-configs-of-a-fresh-topic")
def _configs(server: ProbedServer) -> Any:
    topic = server.topic("configs", retention_ms="1000000")
    resource = {"resource_type": 2, "resource_name": topic, "configuration_keys": None}
    fields = {"resources": [resource], "include_synonyms": True, "include_documentation": False}
    return server.ask("DescribeConfigs", 4, **fields)


@probe("describe-configs-bad")
def _configs_bad(server: ProbedServer) -> Any:
    replies = []
    for kind, name in ((2, "nothere"), (2, "a/b"), (2, ""), (4, "9"), (4, "x"), (8, "1"), (99, "x")):
        resource = {"resource_type": kind, "resource_name": name, "configuration_keys": ["retention.ms"]}
        replies.append(server.ask("DescribeConfigs", 4, resources=[resource], include_synonyms=False))
    return replies


@probe("alter-configs-bad")
def _alter(server: ProbedServer) -> Any:
    topic = server.topic("alter")

    def change(key: str, value: str | None, operation: int = 0, name: str = topic) -> Any:
        configs = [{"name": key, "config_operation": operation, "value": value}]
        resource = {"resource_type": 2, "resource_name": name, "configs": configs}
        return server.ask("IncrementalAlterConfigs", 1, resources=[resource], validate_only=True)

    return [
        change("no.such", "1"),
        change("retention.ms", "soon"),
        change("retention.ms", None),
        change("retention.ms", None, 1),
        change("retention.ms", "1", 2),
        change("cleanup.policy", "delete", 2),
        change("cleanup.policy", "delete", 3),
        change("retention.ms", "1", 9),
        change("retention.ms", "1", name="nothere"),
        change("min.insync.replicas", "2"),
    ]


@probe("list-offsets-special-timestamps")
def _offsets(server: ProbedServer) -> Any:
    topic = server.topic("offsets", 2)
    base = 1_700_000_000_000
    for seconds in (0, 5, 3):
        server.produce(topic, bytes(batch(2, at_ms=base + seconds * 1000)))
    wanted = (-1, -2, -3, -4, -5, -6, -99, 0, base + 1, base + 3500, base + 9000)
    replies = [server.offsets(topic, time_ms, version=version) for version in (7, 8, 9) for time_ms in wanted]
    replies += [server.offsets(topic, time_ms, partition=1) for time_ms in (-1, -2, -3, base)]
    return [*replies, server.offsets("nothere", -1), server.offsets(topic, -1, partition=9)]


@probe("delete-records-bad")
def _delete_records(server: ProbedServer) -> Any:
    topic = server.topic("trim")
    server.produce(topic, bytes(batch(10)))

    def trim(offset: int, name: str = topic, partition: int = 0) -> Any:
        topics = [{"name": name, "partitions": [{"partition_index": partition, "offset": offset}]}]
        return server.ask("DeleteRecords", 2, topics=topics, timeout_ms=10_000)

    return [trim(3), trim(1), trim(99), trim(-2), trim(0, "nothere"), trim(0, topic, 9), trim(-1), trim(10)]


@probe("fetch-bad")
def _fetch(server: ProbedServer) -> Any:
    topic = server.topic("fetch")
    server.produce(topic, bytes(batch(3)))

    def fetch(offset: int, name: str = topic, partition: int = 0, **more: Any) -> Any:
        part = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 1000} | more
        fields = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 10_000, "session_id": 0, "session_epoch": -1}
        topics = [{"topic": name, "partitions": [part]}]
        reply = server.ask("Fetch", 12, **fields, topics=topics)
        for answer in reply["responses"]:
            for row in answer["partitions"]:
                row["records"] = bool(row["records"])
        return reply

    replies = [fetch(0), fetch(3), fetch(4), fetch(-1), fetch(0, "nothere"), fetch(0, topic, 9)]
    return [*replies, fetch(0, current_leader_epoch=7)]


@probe("offset-fetch-unknown-group")
def _offset_fetch(server: ProbedServer) -> Any:
    topic = server.topic("ofetch")
    asked = [{"name": topic, "partition_indexes": [0, 9]}, {"name": "nothere", "partition_indexes": [0]}]
    groups = [{"group_id": "unknown-group", "topics": asked}]
    return [
        server.ask("OffsetFetch", 7, group_id="unknown-group", topics=asked, require_stable=False),
        server.ask("OffsetFetch", 7, group_id="", topics=asked, require_stable=False),
        server.ask("OffsetFetch", 7, group_id="unknown-group", topics=None, require_stable=False),
        server.ask("OffsetFetch", 8, groups=groups, require_stable=False),
    ]


@probe("offset-commit-bad")
def _offset_commit(server: ProbedServer) -> Any:
    topic = server.topic("ocommit")

    def commit(
        group: str, generation: int, member: str, name: str = topic, part: int = 0, text: str = ""
    ) -> Any:
        partition = {"partition_index": part, "committed_offset": 5, "committed_metadata": text}
        fields = {"group_id": group, "generation_id_or_member_epoch": generation, "member_id": member}
        topics = [{"name": name, "partitions": [partition | {"committed_leader_epoch": -1}]}]
        return server.ask("OffsetCommit", 8, **fields, group_instance_id=None, topics=topics)

    return [
        commit("simple-group", -1, ""),
        commit("simple-group", 3, "someone"),
        commit("other-group", 3, "someone"),
        commit("", -1, ""),
        commit("simple-group", -1, "", "nothere"),
        commit("simple-group", -1, "", topic, 9),
        commit("simple-group", -1, "", text="x" * 5000),
    ]


@probe("join-group-bad")
def _join(server: ProbedServer) -> Any:
    def join(version: int, **change: Any) -> Any:
        fields: dict[str, Any] = {
            "group_id": "join",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "member_id": "",
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b""}],
        }
        reply = server.ask("JoinGroup", version, **(fields | change))
        if isinstance(reply, dict):
            reply["member_id"] = bool(reply["member_id"])
        return reply

    return [
        join(5, group_id=""),
        join(5, session_timeout_ms=1),
        join(5, session_timeout_ms=999_999_999),
        join(5, protocols=[]),
        join(5, protocol_type=""),
        join(5, member_id="unknown"),
        join(5),
        join(7, member_id="unknown", group_instance_id="static"),
    ]


@probe("group-requests-of-an-unknown-group")
def _group(server: ProbedServer) -> Any:
    member = {"group_id": "ghost", "generation_id": 1, "member_id": "someone"}
    leaving = [{"member_id": "someone", "group_instance_id": None}]
    return [
        server.ask("Heartbeat", 3, **member, group_instance_id=None),
        server.ask("SyncGroup", 4, **member, group_instance_id=None, assignments=[]),
        server.ask("LeaveGroup", 3, group_id="ghost", members=leaving),
        server.ask("LeaveGroup", 2, group_id="ghost", member_id="someone"),
        server.ask("DescribeGroups", 5, groups=["ghost", ""], include_authorized_operations=False),
        server.ask("DescribeGroups", 6, groups=["ghost"], include_authorized_operations=False),
        server.ask("DeleteGroups", 2, groups_names=["ghost", ""]),
        server.ask("FindCoordinator", 4, key_type=0, coordinator_keys=["ghost", ""]),
    ]


@probe("find-coordinator")
def _find(server: ProbedServer) -> Any:
    return [
        server.ask("FindCoordinator", 2, key="some-group", key_type=0),
        server.ask("FindCoordinator", 2, key="", key_type=0),
        server.ask("FindCoordinator", 2, key="x", key_type=7),
        server.ask("FindCoordinator", 0, key="some-group"),
    ]


@probe("init-producer-id")
def _init_producer(server: ProbedServer) -> Any:
    def init(version: int, **fields: Any) -> Any:
        base = {"transactional_id": None, "transaction_timeout_ms": 60_000}
        return server.ask("InitProducerId", version, **(base | fields))

    return [init(0), init(2), init(4), init(4, producer_id=5), init(4, transaction_timeout_ms=-5)]


@probe("offset-for-leader-epoch")
def _epoch(server: ProbedServer) -> Any:
    topic = server.topic("epoch")
    server.produce(topic, bytes(batch(3)))

    def end(epoch: int, name: str = topic, current: int = -1, partition: int = 0) -> Any:
        part = {"partition": partition, "current_leader_epoch": current, "leader_epoch": epoch}
        topics = [{"topic": name, "partitions": [part]}]
        return server.ask("OffsetForLeaderEpoch", 4, replica_id=-2, topics=topics)

    return [end(0), end(5), end(-1), end(0, current=9), end(0, "nothere"), end(0, partition=9)]


@probe("describe-cluster")
def _cluster(server: ProbedServer) -> Any:
    fields = {"include_cluster_authorized_operations": False}
    return [server.ask("DescribeCluster", 1, **fields, endpoint_type=kind) for kind in (1, 2, 9)]


@probe("describe-producers-bad")
def _producers(server: ProbedServer) -> Any:
    topics = [
        {"name": "nothere", "partition_indexes": [0]},
        {"name": server.topic("prods"), "partition_indexes": [0, 9]},
    ]
    return server.ask("DescribeProducers", 0, topics=topics)


@probe("describe-topic-partitions")
def _describe(server: ProbedServer) -> Any:
    topics = [{"name": "nothere"}, {"name": server.topic("described", 3)}]
    return server.ask("DescribeTopicPartitions", 0, topics=topics, response_partition_limit=2, cursor=None)
