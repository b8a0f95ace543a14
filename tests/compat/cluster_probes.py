"""The probes of compare_with_kafka.py about what a cluster has and one node has not: replicas, elections, a
quorum; and about access rules, quotas and users.

A probe asks one server something and returns its replies. It makes what it needs by itself, under names of
its own: each can run alone."""

from __future__ import annotations

from typing import Any

from tests.compat.probing import ProbedServer, probe


@probe("elect-leaders")
def _elect(server: ProbedServer) -> Any:
    topic = server.topic("elected", 2)

    def elect(version: int, partitions: list[dict[str, Any]] | None, kind: int = 0) -> Any:
        fields: dict[str, Any] = {"topic_partitions": partitions, "timeout_ms": 5000}
        if version:
            fields["election_type"] = kind
        return server.ask("ElectLeaders", version, **fields)

    known = [{"topic": topic, "partitions": [0, 1, 9]}, {"topic": "nothere", "partitions": [0]}]
    return [
        elect(0, known),
        elect(1, known),
        elect(2, known),
        elect(2, known, 1),
        elect(2, known, 7),
        elect(2, []),
        elect(2, [{"topic": topic, "partitions": [0, 0]}]),
        elect(2, [{"topic": topic, "partitions": []}]),
        elect(2, [{"topic": "", "partitions": [0]}, {"topic": "a/b", "partitions": [-1]}]),
    ]


@probe("elect-leaders-of-all")
def _elect_all(server: ProbedServer) -> Any:
    server.topic("elected")
    return [
        server.ask("ElectLeaders", version, election_type=0, topic_partitions=None, timeout_ms=5000)
        for version in (1, 2)
    ]


REASSIGNMENTS: dict[str, list[int] | None] = {
    "cancel": None,
    "same": [1],
    "other": [2],
    "both": [1, 2],
    "twice": [1, 1],
    "none": [],
    "negative": [-1],
}


@probe("alter-reassignments")
def _reassign(server: ProbedServer) -> Any:
    topic = server.topic("moved")
    replies = []
    for version in (0, 1):
        for replicas in REASSIGNMENTS.values():
            for name, index in ((topic, 0), (topic, 9), ("nothere", 0)):
                part = {"partition_index": index, "replicas": replicas}
                topics = [{"name": name, "partitions": [part]}]
                replies.append(
                    server.ask("AlterPartitionReassignments", version, timeout_ms=5000, topics=topics)
                )
    replies.append(server.ask("AlterPartitionReassignments", 0, timeout_ms=5000, topics=[]))
    return replies


@probe("list-reassignments")
def _reassignments(server: ProbedServer) -> Any:
    topic = server.topic("moved")
    named = [{"name": topic, "partition_indexes": [0, 9]}, {"name": "nothere", "partition_indexes": [0]}]
    return [
        server.ask("ListPartitionReassignments", 0, timeout_ms=5000, topics=topics)
        for topics in (None, [], named)
    ]


def log_dir(server: ProbedServer, topic: str) -> str:
    """The path of the server's folder."""
    reply = server.ask("DescribeLogDirs", 1, topics=[{"topic": topic, "partitions": [0]}])
    path: str = reply["results"][0]["log_dir"]
    return path


@probe("alter-replica-log-dirs")
def _move_folders(server: ProbedServer) -> Any:
    topic = server.topic("folder")
    replies = []
    for version in (1, 2):
        for path in (log_dir(server, topic), "/no/such/folder", "relative", ""):
            for name, index in ((topic, 0), (topic, 9), ("nothere", 0), ("a/b", 0)):
                dirs = [{"path": path, "topics": [{"name": name, "partitions": [index]}]}]
                replies.append(server.ask("AlterReplicaLogDirs", version, dirs=dirs))
    return replies


@probe("describe-quorum")
def _quorum(server: ProbedServer) -> Any:
    replies = []
    for version in (0, 1, 2):
        for name, index in (("__cluster_metadata", 0), ("__cluster_metadata", 1), ("nothere", 0)):
            topics = [{"topic_name": name, "partitions": [{"partition_index": index}]}]
            replies.append(server.ask("DescribeQuorum", version, topics=topics))
        replies.append(server.ask("DescribeQuorum", version, topics=[]))
    return replies


@probe("acls-without-an-authorizer")
def _acls(server: ProbedServer) -> Any:
    filters = {
        "resource_type_filter": 1,
        "resource_name_filter": None,
        "pattern_type_filter": 1,
        "principal_filter": None,
        "host_filter": None,
        "operation": 1,
        "permission_type": 1,
    }
    creation = {
        "resource_type": 2,
        "resource_name": "t",
        "resource_pattern_type": 3,
        "principal": "User:a",
        "host": "*",
        "operation": 3,
        "permission_type": 3,
    }
    replies = []
    for version in (1, 2, 3):
        replies += [
            server.ask("DescribeAcls", version, **filters),
            server.ask("CreateAcls", version, creations=[creation, creation | {"resource_name": "u"}]),
            server.ask("CreateAcls", version, creations=[]),
            server.ask("DeleteAcls", version, filters=[filters, filters]),
            server.ask("DeleteAcls", version, filters=[]),
        ]
    return replies


@probe("client-quotas")
def _quotas(server: ProbedServer) -> Any:
    filters: tuple[list[dict[str, Any]], ...] = (
        [],
        [{"entity_type": "user", "match_type": 0, "match": "a"}],
        [{"entity_type": "user", "match_type": 1, "match": None}],
        [{"entity_type": "client-id", "match_type": 2, "match": None}],
        [{"entity_type": "colour", "match_type": 2, "match": None}],
        [{"entity_type": "user", "match_type": 9, "match": None}],
        [{"entity_type": "", "match_type": 0, "match": None}],
        [{"entity_type": "user", "match_type": 0, "match": None}],
        [{"entity_type": "user", "match_type": 1, "match": "a"}],
        [{"entity_type": "user", "match_type": 0, "match": "a"}] * 2,
        [
            {"entity_type": "ip", "match_type": 0, "match": "1.2.3.4"},
            {"entity_type": "user", "match_type": 0, "match": "a"},
        ],
    )
    return [
        server.ask("DescribeClientQuotas", version, components=components, strict=False)
        for version in (0, 1)
        for components in filters
    ]


def _verifier(name: str, mechanism: int = 1, iterations: int = 4_096) -> dict[str, Any]:
    size = 64 if mechanism == 2 else 32
    return {
        "name": name, "mechanism": mechanism, "iterations": iterations,
        "salt": b"salt", "salted_password": b"x" * size,
    }  # fmt: skip


@probe("scram-users-changed")
def _changed_users(server: ProbedServer) -> Any:
    def deletion(name: str, mechanism: int = 1) -> dict[str, Any]:
        return {"name": name, "mechanism": mechanism}

    changes: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
        ([], []),
        ([], [_verifier("a"), _verifier("b", 2)]),
        ([], [_verifier("c", 1, 4_095)]),
        ([], [_verifier("c", 1, 16_385)]),
        ([], [_verifier("")]),
        ([], [_verifier("c", 3)]),
        ([], [_verifier("c", 0)]),
        ([deletion("missing")], []),
        ([deletion("a", 2)], []),
        ([deletion("a")], [_verifier("a")]),
        ([], [_verifier("a"), _verifier("a")]),
        ([deletion("a"), deletion("a")], []),
        ([deletion("a", 9)], []),
        ([deletion("b", 2)], [_verifier("d")]),
        ([deletion("x")], [_verifier("y", 1, 1), _verifier("z")]),
    ]
    answers = [
        server.ask("AlterUserScramCredentials", 0, deletions=deletions, upsertions=upsertions)["results"]
        for deletions, upsertions in changes
    ]
    described = server.ask("DescribeUserScramCredentials", 0, users=None)["results"]
    last = [deletion("a"), deletion("d"), deletion("z")]
    server.ask("AlterUserScramCredentials", 0, deletions=last, upsertions=[])
    return [sorted(results, key=lambda result: str(result["user"])) for results in (*answers, described)]


@probe("scram-users")
def _users(server: ProbedServer) -> Any:
    return [
        server.ask("DescribeUserScramCredentials", 0, users=users)
        for users in (None, [], [{"name": "a"}], [{"name": "a"}, {"name": "a"}], [{"name": ""}])
    ]
