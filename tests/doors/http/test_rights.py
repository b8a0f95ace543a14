"""Access control of the HTTP door: every route declares what it needs, and shows nothing that is hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mainstem.access_contract import Operation, ResourceType
from mainstem.doors.http.endpoint import Endpoint
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.openapi import kinds_of
from mainstem.doors.http.rights import LOGIN, OPEN
from mainstem.engines.authorized import revocation
from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door
from tests.doors.http.first_requests import BODIES, QUERIES
from tests.support.rule_authorizer import RuleAuthorizer

TOPIC, SUBSCRIPTION, GROUP = ResourceType.TOPIC, ResourceType.SUBSCRIPTION, ResourceType.GROUP
SENTINEL = "sentinel"
"""Is in all that is hidden, and in no request of the tests that look for it."""
HIDDEN = f"{SENTINEL}-topic"
FOR_ALL = {"show_cluster", "check_query", "livez", "readyz", "show_openapi", "show_me", "log_out"}
PUSH_KEYS = {"show_push_keys", "show_push_issuer"}
LOGINS = {"log_in", "begin_provider_login", "end_provider_login"}
LISTED = {
    *("list_topics", "list_groups", "list_subscriptions", "list_tokens", "show_stats", "query_fields"),
    *("search", "histogram", "facets", "compare", "trace", "export"),
}
"""Routes that leave out what is hidden instead of refusing the request."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    """A door with a hidden topic beside `orders`; each has a group and a subscription."""
    with running_door(tmp_path_factory.mktemp("http") / "data") as door:
        for name in (HIDDEN, "orders"):
            door.create_topic(name)
            rows = [{"value": {"city": f"in {name}", "n": number}, "key": "k"} for number in range(10)]
            door.post(f"topics/{name}/events", rows).raise_for_status()
            door.post(f"groups/of-{name}/reset", {"to": "earliest", "topics": [name]}).raise_for_status()
            door.post("subscriptions", {"subscription": f"of-{name}", "topics": [name]}).raise_for_status()
        both = {"to": "earliest", "topics": [HIDDEN, "orders"]}
        door.post("groups/of-both/reset", both).raise_for_status()
        both = {"subscription": "of-both", "topics": [HIDDEN, "orders"]}
        door.post("subscriptions", both).raise_for_status()

        async def sample(_: object) -> None:
            await door.door._sampler.sample_topics()
            await door.door._sampler.sample_groups()
            await door.door._sampler.queues.sample(door.engine)

        door.run(sample)
        yield door


@pytest.fixture
def rules(limited: RunningHttpDoor) -> RuleAuthorizer:
    """Nothing is allowed at first."""
    limited.rules._rules.clear()
    limited.rules.is_on = True
    limited.rules.version += 1
    return limited.rules


def visible(rules: RuleAuthorizer) -> None:
    """Allow everything about `orders`, and of the others only what both have."""
    rules.allow(TOPIC, "orders", Operation.ALL)
    for resource_type in (GROUP, SUBSCRIPTION):
        rules.allow(resource_type, "of-orders", Operation.ALL)
        rules.allow(resource_type, "of-both", Operation.ALL)


# ----------------------------------------------------------------------------------------------------------
# declarations


def test_every_route_declares_what_it_needs() -> None:
    for endpoint in ENDPOINTS:
        rights, name = endpoint.rights, endpoint.handle.__name__
        parameters = re.findall(r"{(\w+)", endpoint.path)
        for right in rights.of_path:
            assert not right.parameter or right.parameter in parameters, name
        if {"topic", "group", "subscription"} & set(parameters):
            assert rights.of_path, f"{name} checks what its path names before anything else"
        if endpoint.method != "GET" and name != "log_out":
            assert rights not in (LOGIN, OPEN), name
        assert rights.login or name in {"livez", "readyz", "log_out", "show_me", *LOGINS, *PUSH_KEYS}, name
        assert ("forbidden" in kinds_of(endpoint)) is rights.login


def request_of(door: RunningHttpDoor, endpoint: Endpoint, name: str) -> httpx.Request:
    """The request of a route, about the topic of this name and its group and subscription."""
    names = {"topic": name, "group:text": f"of-{name}", "subscription:word": f"of-{name}"}
    path = endpoint.path
    for parameter, value in (
        names | {"partition": "0", "offset": "0", "snapshot:word": "s", "token:word": "t", "rule:word": "r"}
    ).items():
        path = path.replace(f"{{{parameter}}}", value)
    handle = endpoint.handle.__name__
    query = QUERIES.get(handle, "").replace("first", name)
    body = json.loads(json.dumps(BODIES.get(handle)).replace("first", name).replace("workers", f"of-{name}"))
    request = door.http.build_request(endpoint.method, f"{path}?{query}", json=body)
    if body is None:
        request = door.http.build_request(endpoint.method, f"{path}?{query}")
    return request


@pytest.mark.parametrize(
    "endpoint", [pytest.param(endpoint, id=endpoint.handle.__name__) for endpoint in ENDPOINTS]
)
def test_without_rights_a_route_refuses_or_shows_nothing(
    limited: RunningHttpDoor, rules: RuleAuthorizer, endpoint: Endpoint
) -> None:
    name = endpoint.handle.__name__
    existing, missing = (
        limited.http.send(request_of(limited, endpoint, topic)) for topic in (HIDDEN, "no-such-topic")
    )
    assert existing.status_code == missing.status_code
    if name in LOGINS | PUSH_KEYS:
        problem(existing, 404, "not-offered")  # this door asks for no login, and its server signs nothing
    elif name == "delete_token":
        problem(existing, 404, "unknown-token")
    elif name in FOR_ALL or ("first" not in QUERIES.get(name, "") + str(BODIES.get(name)) and name in LISTED):
        assert existing.status_code == 200
        assert SENTINEL not in existing.text
    else:
        members = problem(existing, 403, "forbidden")
        assert members["detail"].replace(HIDDEN, "no-such-topic") == missing.json()["detail"]


# ----------------------------------------------------------------------------------------------------------
# lists and figures


@pytest.mark.parametrize(
    "path",
    [
        *("topics", "topics?internal=true", "groups", "groups/of-both", "subscriptions", "stats"),
        *("subscriptions/of-both", "query/fields", "histogram", "trace?value=in", "cluster"),
        "topics/orders/partitions/0/events/0/subscriptions",
        *("subscriptions?topic=" + "orders", "stats/groups/of-both", "stats/subscriptions/of-both"),
    ],
)
def test_what_is_hidden_is_in_no_reply(limited: RunningHttpDoor, rules: RuleAuthorizer, path: str) -> None:
    visible(rules)
    reply = limited.http.get(f"/api/v1/{path}")
    assert reply.status_code == 200
    assert SENTINEL not in reply.text


def test_totals_are_those_of_what_is_visible(limited: RunningHttpDoor, rules: RuleAuthorizer) -> None:
    visible(rules)
    stats = limited.get("stats")
    assert (stats["topics"], stats["partitions"], stats["events"], stats["groups"]) == (1, 1, 10, 2)
    assert stats["disk"] is None
    rules.allow_cluster(Operation.DESCRIBE)
    stats = limited.get("stats")
    assert (stats["topics"], stats["events"], stats["groups"]) == (2, 20, 3)
    assert SENTINEL not in json.dumps(stats)
    assert limited.get("topics")["total"] == 1
    assert limited.get("subscriptions", topic=HIDDEN)["total"] == 0


def test_metrics_have_what_is_visible(limited: RunningHttpDoor, rules: RuleAuthorizer) -> None:
    visible(rules)
    for path in ("/metrics", "/metrics/per-object"):
        problem(limited.http.get(path), 403, "forbidden")
    rules.allow_cluster(Operation.DESCRIBE)
    for path in ("/metrics", "/metrics/per-object"):
        text = limited.http.get(path).text
        assert "of-orders" in text
        assert SENTINEL not in text
    assert "kafka_controller_kafkacontroller_globaltopiccount 1" in limited.http.get("/metrics").text


def test_readiness_shows_its_reasons_to_those_who_may_see_the_cluster(
    limited: RunningHttpDoor, rules: RuleAuthorizer
) -> None:
    ready = limited.http.get("/readyz").json()
    assert ready == {"ready": True, "reasons": [], "notes": [], "damaged": [], "doors": {}}
    rules.allow_cluster(Operation.DESCRIBE)
    assert limited.http.get("/readyz").status_code == 200


# ----------------------------------------------------------------------------------------------------------
# searching


def counts(lines: list[dict[str, Any]]) -> dict[str, Any]:
    totals: dict[str, Any] = lines[-1]["done"]["totals"]
    return totals


def test_a_search_is_as_if_hidden_topics_did_not_exist(
    limited: RunningHttpDoor, rules: RuleAuthorizer
) -> None:
    visible(rules)
    lines = limited.post_lines("search", {"query": "city:*in*", "limit": 100})
    hits = [line["hit"] for line in lines if line.get("hit")]
    assert {hit["topic"] for hit in hits} == {"orders"}
    only = counts(limited.post_lines("search", {"query": "city:*in*", "limit": 100, "topics": ["orders"]}))
    every = counts(lines)
    for name in ("matches", "events", "partitions", "scanned_bytes", "skipped_bytes", "total_bytes"):
        assert every[name] == only[name], name
    assert every["matches"] == 10


@pytest.mark.parametrize("topic", [HIDDEN, "no-such-topic"])
def test_a_search_that_names_a_hidden_topic_is_refused(
    limited: RunningHttpDoor, rules: RuleAuthorizer, topic: str
) -> None:
    visible(rules)
    for body in ({"query": "", "topics": [topic]}, {"query": f"topic:{topic}"}):
        refusal = problem(limited.post("search", body), 403, "forbidden")
        assert refusal["detail"] == f"not authorized to READ topic {topic}"
    lines = limited.post_lines("search", {"query": "", "topics": ["s*"]})
    assert counts(lines)["partitions"] == 0


def test_a_resume_token_does_not_open_a_hidden_topic(limited: RunningHttpDoor, rules: RuleAuthorizer) -> None:
    rules.allow(TOPIC, "*", Operation.READ)
    lines = limited.post_lines("search", {"query": "", "topics": [HIDDEN], "limit": 1})
    token = lines[-1]["done"]["resume"]
    assert token
    rules.forbid(TOPIC, "*")
    visible(rules)
    problem(limited.post("search", {"query": "", "resume": token}), 403, "forbidden")


def test_counts_of_fields_are_those_of_visible_topics(
    limited: RunningHttpDoor, rules: RuleAuthorizer
) -> None:
    visible(rules)
    lines = limited.post_lines("facets", {"query": "", "fields": ["city", "topic"]})
    facets = [line["facets"] for line in lines if line.get("facets")][-1]
    assert facets["events"] == 10
    assert SENTINEL not in json.dumps(lines)
    lines = limited.post_lines("compare", {"selection": {"query": "n:1"}, "baseline": {"query": ""}})
    comparison = [line["comparison"] for line in lines if line.get("comparison")][-1]
    assert (comparison["selected"], comparison["baseline"]) == (1, 10)
    assert sum(bucket["count"] for bucket in limited.get("histogram")["buckets"]) == 10


def test_an_export_has_only_visible_topics(limited: RunningHttpDoor, rules: RuleAuthorizer) -> None:
    visible(rules)
    reply = limited.post("export", {"query": "", "format": "ndjson"})
    assert reply.status_code == 200
    assert reply.text.count("\n") == 10
    assert SENTINEL not in reply.text
    problem(limited.post("export", {"query": "", "topics": [HIDDEN]}), 403, "forbidden")


def test_a_replay_needs_the_right_to_its_source_and_its_target(
    limited: RunningHttpDoor, rules: RuleAuthorizer
) -> None:
    visible(rules)
    chosen = {"to": "orders", "events": [{"topic": HIDDEN, "partition": 0, "offset": 0}]}
    (line,) = [line for line in limited.post_lines("replay", chosen) if line.get("problem")]
    assert line["problem"]["type"] == "urn:mainstem:forbidden"
    matching = {"to": "orders", "matches": {"query": f"topic:{HIDDEN}"}, "dry_run": True}
    assert limited.post("replay", matching).status_code == 403
    chosen = {"to": HIDDEN, "events": [{"topic": "orders", "partition": 0, "offset": 0}]}
    problem(limited.post("replay", chosen), 403, "forbidden")
    assert limited.get("topics/orders")["events"] == 10


# ----------------------------------------------------------------------------------------------------------
# revocation


def test_a_tail_ends_when_the_right_is_revoked(limited: RunningHttpDoor, rules: RuleAuthorizer) -> None:
    visible(rules)
    with limited.http.stream("GET", "/api/v1/topics/orders/tail?from=begin") as reply:
        lines = reply.iter_lines()
        assert any(line.startswith("data:") for line in lines)
        limited.loop.call_soon_threadsafe(rules.forbid, TOPIC, "orders")
        rest = "\n".join(lines)
    assert "event: problem" in rest
    assert "urn:mainstem:forbidden" in rest


def test_a_pull_that_waits_ends_when_the_right_is_revoked(
    limited: RunningHttpDoor, rules: RuleAuthorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "RECHECK_S", 0.02)
    visible(rules)
    rules.allow(SUBSCRIPTION, "empty", Operation.ALL)
    reply = limited.post(
        "subscriptions",
        {"subscription": "empty", "topics": ["orders"], "settings": {"from_latest": True}},
    )
    assert reply.status_code == 201, reply.text
    asked = len(rules.asked)

    def revoke() -> None:
        if any(resource.name == "orders" for _, resource in rules.asked[asked:]):  # the pull has begun
            rules.forbid(TOPIC, "orders")
        else:
            limited.loop.call_later(0.01, revoke)

    limited.loop.call_soon_threadsafe(revoke)
    problem(limited.post("subscriptions/empty:pull", {"consumer": "c", "wait_ms": 20_000}), 403, "forbidden")
