"""Requests of HTTP, and the methods and messages that they are."""

from __future__ import annotations

import contextlib
import random
from typing import Any
from urllib.parse import parse_qsl

import pytest

from mainstem.pubsub.http_rules import RequestInvalid, find_rule, json_of, request_of, rules
from mainstem.pubsub.messages import methods

PROJECT = "projects/airline"
TOPIC = "projects/airline/topics/flights"
NAME = "projects/airline/subscriptions/gates"


def asked(http_method: str, url: str, body: object = None) -> tuple[str, Any]:
    """The name of the method, and JSON of its request."""
    path, _, query = url.partition("?")
    match = find_rule(http_method, f"/v1/{path}")
    assert match is not None
    rule, values = match
    return rule.path.rpartition("/")[2], json_of(
        rule.request_type, request_of(rule, values, parse_qsl(query), body)
    )


def test_every_method_has_a_rule_but_for_the_stream() -> None:
    paths = {rule.path for of_method in rules().values() for rule in of_method}
    assert set(methods()) - paths == {"/google.pubsub.v1.Subscriber/StreamingPull"}


@pytest.mark.parametrize(
    ("http_method", "url", "body", "name", "message"),
    [
        ("PUT", TOPIC, None, "CreateTopic", {"name": TOPIC}),
        ("PUT", TOPIC, {"name": "x", "kmsKeyName": "k"}, "CreateTopic", {"name": TOPIC, "kmsKeyName": "k"}),
        ("GET", "projects/airline.com:ops/topics/a%7Eb", None, "GetTopic",
         {"topic": "projects/airline.com:ops/topics/a~b"}),
        ("GET", "projects/airline.com:ops/topics?pageSize=5&page_token=x&alt=json&key=1", None, "ListTopics",
         {"project": "projects/airline.com:ops", "pageSize": 5, "pageToken": "x"}),
        ("GET", f"{TOPIC}/subscriptions", {}, "ListTopicSubscriptions", {"topic": TOPIC}),
        ("PATCH", TOPIC, {"topic": {"labels": {}}, "updateMask": "labels,message_retention_duration"},
         "UpdateTopic", {"topic": {"name": TOPIC}, "updateMask": "labels,messageRetentionDuration"}),
        ("PATCH", f"{NAME}?updateMask=expirationPolicy.ttl", {"subscription": {"ackDeadlineSeconds": 10}},
         "UpdateSubscription",
         {"subscription": {"name": NAME, "ackDeadlineSeconds": 10}, "updateMask": "expirationPolicy.ttl"}),
        ("POST", f"{TOPIC}:publish", {"messages": [{"data": "+/8=", "orderingKey": "k"}]}, "Publish",
         {"topic": TOPIC, "messages": [{"data": "+/8=", "orderingKey": "k"}]}),
        ("POST", f"{NAME}:pull", {"maxMessages": 10, "returnImmediately": True}, "Pull",
         {"subscription": NAME, "maxMessages": 10, "returnImmediately": True}),
        ("POST", f"{NAME}:detach", None, "DetachSubscription", {"subscription": NAME}),
        ("DELETE", NAME, None, "DeleteSubscription", {"subscription": NAME}),
        ("POST", f"{PROJECT}/schemas?schemaId=flight", {"type": "AVRO", "definition": "{}"},
         "CreateSchema",
         {"parent": PROJECT, "schemaId": "flight", "schema": {"type": "AVRO", "definition": "{}"}}),
        ("GET", "projects/airline/schemas/flight@1234?view=FULL", None, "GetSchema",
         {"name": "projects/airline/schemas/flight@1234", "view": "FULL"}),
        ("GET", "projects/airline/schemas/flight?view=1", None, "GetSchema",
         {"name": "projects/airline/schemas/flight", "view": "BASIC"}),
        ("POST", "projects/airline/schemas:validate", {}, "ValidateSchema", {"parent": "projects/airline"}),
        ("GET", f"{TOPIC}:getIamPolicy?options.requestedPolicyVersion=3", None, "GetIamPolicy",
         {"resource": TOPIC, "options": {"requestedPolicyVersion": 3}}),
        ("POST", f"{TOPIC}:testIamPermissions?permissions=a&permissions=b", {}, "TestIamPermissions",
         {"resource": TOPIC, "permissions": ["a", "b"]}),
    ],
)  # fmt: skip
def test_a_request_is_a_message(
    http_method: str, url: str, body: object, name: str, message: dict[str, Any]
) -> None:
    assert asked(http_method, url, body) == (name, message)


@pytest.mark.parametrize(
    ("http_method", "url"),
    [("GET", ""), ("POST", TOPIC), ("PUT", f"{TOPIC}/x"), ("POST", f"{TOPIC}:shout"), ("HEAD", TOPIC)],
)
def test_what_there_is_no_rule_for(http_method: str, url: str) -> None:
    assert find_rule(http_method, f"/v1/{url}") is None


@pytest.mark.parametrize(
    ("http_method", "url", "body", "text"),
    [
        ("PUT", TOPIC, [], "an object is expected"),
        ("PUT", TOPIC, {"colour": "red"}, "colour"),
        ("PUT", TOPIC, {"labels": {"a": 1}}, "Invalid JSON"),
        ("PUT", TOPIC, {"updateMask": "a_b"}, "updateMask"),
        ("POST", f"{TOPIC}:publish", {"messages": [{"data": 7}]}, "Invalid JSON"),
        ("POST", f"{TOPIC}:publish", {"messages": [{"orderingKey": "\ud800"}]}, "Invalid JSON"),
        ("GET", f"{TOPIC}?colour=red", None, "colour"),
        ("GET", f"{TOPIC}?topic.id=1", None, "topic.id"),
        ("GET", "projects/airline/topics?pageSize=five", None, "Invalid JSON"),
        ("GET", f"{TOPIC}:getIamPolicy?options=3&options.requestedPolicyVersion=3", None, "given twice"),
        ("GET", TOPIC, {"topic": TOPIC}, "no body"),
        ("POST", f"{NAME}:pull", {"maxMessages": float("inf")}, "Invalid JSON"),
        ("POST", "projects/airline/schemas", [7], "Invalid JSON"),
    ],
)
def test_what_does_not_fit_the_message_is_refused(
    http_method: str, url: str, body: object, text: str
) -> None:
    with pytest.raises(RequestInvalid, match=text):
        asked(http_method, url, body)


ATOMS = (
    *(None, True, 0, -1, 1.5, float("inf"), 10**30, "", "x", "\0", "1s", "1e400s", "315576000001s"),
    *("a,b", "2020-01-01T00:00:00Z", "9999-99-99T00:00:00Z", "////", "====="),
)


def random_value(rng: random.Random, descriptor: Any, depth: int = 0) -> object:
    """JSON that is more or less of a message."""
    choice = rng.random()
    if depth > 4 or choice < 0.35:
        return rng.choice(ATOMS)
    if choice < 0.5:
        return [random_value(rng, descriptor, depth + 1) for _ in range(rng.randrange(3))]
    if descriptor is None:
        return {rng.choice(["a", "@type", ""]): random_value(rng, None, depth + 1)}
    return {
        field.camelcase_name: random_value(rng, field.message_type, depth + 1)
        for field in descriptor.fields
        if rng.random() < 0.5
    }


@pytest.mark.parametrize("seed", range(3))
def test_no_request_fails_in_another_way(seed: int) -> None:
    rng = random.Random(seed)
    table = [rule for of_method in rules().values() for rule in of_method]
    for _ in range(500):
        rule = rng.choice(table)
        descriptor = methods()[rule.path].input_type
        names = [*(field.name for field in descriptor.fields), "topic.name", "options.requestedPolicyVersion"]
        query = [(rng.choice(names), str(rng.choice(ATOMS))) for _ in range(rng.randrange(3))]
        with contextlib.suppress(RequestInvalid):
            request_of(rule, ["\ufffd" for _ in rule.variables], query, random_value(rng, descriptor))
