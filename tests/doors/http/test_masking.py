"""Masked fields are shown by no route, and no route can be asked about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mainstem.access_contract import Principal
from mainstem.doors.http.endpoint import Endpoint
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.masking.rules import MaskKind
from tests.doors.http.door_kit import RunningHttpDoor, problem, running_door
from tests.doors.http.test_rights import request_of
from tests.support.memory_masks import mask_rule

SECRET = "4111111111111234"
MASKED = ["orders card", "orders header.auth", "orders key"]
EVENTS = "topics/orders/partitions/0/events"


@pytest.fixture
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    """A door with events whose field `card`, header `auth` and key are masked."""
    with running_door(tmp_path_factory.mktemp("http") / "data") as running:
        running.create_topic("orders")
        running.create_topic("copies")
        headers = [{"name": "auth", "value": SECRET}]
        rows = [
            {"value": {"card": SECRET, "n": n}, "key": f"{SECRET}", "headers": headers} for n in range(10)
        ]
        running.post("topics/orders/events", rows).raise_for_status()
        running.post("subscriptions", {"subscription": "of-orders", "topics": ["orders"]}).raise_for_status()
        for path in ("card", "key", "header.auth"):
            running.masks.put_rule(mask_rule("orders", path))
        yield running


def last(endpoint: Endpoint) -> bool:
    return endpoint.method == "DELETE" or endpoint.handle.__name__ in {"delete_records", "purge_subscription"}


def test_no_route_shows_it(door: RunningHttpDoor) -> None:
    answered = set()
    for endpoint in sorted(ENDPOINTS, key=last):
        name = endpoint.handle.__name__
        if name == "tail":
            continue
        reply = door.http.send(request_of(door, endpoint, "orders"))
        assert SECRET not in reply.text, name
        assert reply.headers["cache-control"] == "no-store", name
        if "[hidden]" in reply.text:
            answered.add(name)
    assert answered >= {
        "read_events",
        "search",
        "export",
        "query_fields",
        "browse_events",
        "pull_events",
    }


def test_tail_shows_masks_and_finds_nothing_behind_them(door: RunningHttpDoor) -> None:
    def lines(query: str, count: int) -> str:
        read = []
        with door.http.stream("GET", f"/api/v1/topics/orders/tail?from=begin&{query}") as reply:
            for line in reply.iter_lines():
                read.append(line)
                if sum("[hidden]" in text for text in read) == count or "idle" in line or line == ":":
                    break
        return "\n".join(read)

    assert SECRET not in lines("", 3)
    assert SECRET not in lines("q=n:4", 1)


@pytest.mark.parametrize("query", ["card:4111*", "4111*", "n:1 OR NOT card:x", "key:4111*", "header.auth:x"])
@pytest.mark.parametrize("path", ["search", "facets", "export"])
def test_what_is_masked_cannot_be_searched(door: RunningHttpDoor, path: str, query: str) -> None:
    body = {"query": query, "topics": ["orders"], **({"format": "csv"} if path == "export" else {})}
    members = problem(door.post(path, body), 422, "unfit")
    assert "masked for you in topic orders" in members["detail"] or "masked for you (" in members["detail"]
    everywhere = body | {"topics": []}
    assert door.post(path, everywhere).status_code == 422, "it is not left out as if nothing matched"
    assert door.post(path, body | {"topics": ["copies"]}).status_code == 200


def test_facets_and_comparisons_leave_it_out(door: RunningHttpDoor) -> None:
    for body in ({"query": "n:>4", "topics": ["orders"]}, {"query": "n:>4"}):
        (facets,) = [line["facets"] for line in door.post_lines("facets", body) if "facets" in line][-1:]
        assert not {"card", "key", "header.auth"} & set(facets["fields"])
        assert "n" in facets["fields"]
        assert SECRET not in json.dumps(facets)
    for fields in (["card"], ["key"], ["n", "header.auth"]):
        problem(door.post("facets", {"query": "n:1", "topics": ["orders"], "fields": fields}), 422, "unfit")
    compared = {
        "selection": {"query": "n:1", "topics": ["orders"]},
        "baseline": {"query": "", "topics": ["orders"]},
    }
    assert SECRET not in json.dumps(door.post_lines("compare", compared))


def test_a_subscription_opens_no_way_to_it(door: RunningHttpDoor) -> None:
    settings: list[dict[str, Any]] = [
        {"dead_letter_topic": "copies"},
        {"push": {"endpoint": "http://127.0.0.1:1/"}},
    ]
    for more in settings:
        body: dict[str, Any] = {"subscription": "another", "topics": ["orders"], "settings": more}
        members = problem(door.post("subscriptions", body), 403, "forbidden")
        assert "topic orders has masked fields" in members["detail"]
        alter = door.http.patch("/api/v1/subscriptions/of-orders", json={"settings": more})
        problem(alter, 403, "forbidden")
    body = {"subscription": "another", "topics": ["orders"], "settings": {"filter": "card:4111*"}}
    problem(door.post("subscriptions", body), 422, "unfit")


def test_a_replay_of_it_is_refused(door: RunningHttpDoor) -> None:
    chosen = {"to": "copies", "events": [{"topic": "orders", "partition": 0, "offset": 0}]}
    matching = {"to": "copies", "matches": {"query": "n:1", "topics": ["orders"]}}
    for body in (chosen, matching):
        reply = door.post("replay", body)
        assert "masked fields" in reply.text
    assert door.get("topics/copies")["partitions"][0]["end"] == 0


def test_those_who_are_exempt_see_it(door: RunningHttpDoor) -> None:
    assert SECRET not in door.http.get(f"/api/v1/{EVENTS}").text
    anonymous = Principal("User", "ANONYMOUS")
    for path in ("card", "key", "header.auth"):
        door.masks.put_rule(mask_rule("orders", path, MaskKind.HIDDEN, anonymous))
    assert SECRET in door.http.get(f"/api/v1/{EVENTS}").text


def test_rules_are_put_listed_and_deleted(door: RunningHttpDoor) -> None:
    rule = {
        "rule": "n",
        "topic": "ord",
        "prefixed": True,
        "path": "n",
        "kind": "last4",
        "exempt": ["Role:ops"],
    }
    dry = door.post("masking-rules?dry_run=true", rule)
    assert (dry.status_code, dry.json()["principals"]) == (200, ["User:*"])
    assert len(door.get("masking-rules")["rules"]) == len(MASKED)
    put = door.post("masking-rules", rule)
    assert (put.status_code, put.json()) == (200, rule | {"principals": ["User:*"]})
    assert [row["rule"] for row in door.get("masking-rules")["rules"]] == ["n", *sorted(MASKED)]
    assert door.http.delete("/api/v1/masking-rules/n?dry_run=true").json() == {"rule": "n", "dry_run": True}
    assert len(door.get("masking-rules")["rules"]) == 4
    assert door.http.delete("/api/v1/masking-rules/n").status_code == 200
    problem(door.http.delete("/api/v1/masking-rules/n"), 404, "unknown-masking-rule")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"path": "a..b"}, "'a..b' is not a path"),
        ({"path": "header"}, "which header?"),
        ({"principals": ["User:x", "alice"]}, "in the body"),
        ({"kind": "secret"}, "in the body"),
        ({"rule": "a/b"}, "in the body"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(
    door: RunningHttpDoor, fields: dict[str, Any], what: str
) -> None:
    rule = {"rule": "r", "topic": "orders", "path": "n", "kind": "hidden"} | fields
    reply = door.post("masking-rules", rule)
    assert reply.status_code in (400, 422)
    assert what in reply.json()["detail"]


def test_a_preview_shows_events_with_and_without_a_rule(door: RunningHttpDoor) -> None:
    rule = {"rule": "n", "topic": "orders", "path": "n", "kind": "hidden"}
    shown = door.post("masking-rules:preview", {"rule": rule, "topic": "orders", "events": 2}).json()[
        "events"
    ]
    assert [row["plain"]["value"]["n"] for row in shown] == [9, 8]
    assert [row["masked"]["value"]["n"] for row in shown] == ["[hidden]"] * 2
    assert SECRET not in json.dumps(shown), "the one who asks does not see it either"
    assert [row["is_masked"] for row in shown] == [True, True]
    assert len(door.get("masking-rules")["rules"]) == len(MASKED)


def test_a_query_that_cannot_be_parsed_is_refused_as_without_masks(door: RunningHttpDoor) -> None:
    for path in ("search", "facets"):
        problem(door.post(path, {"query": "(", "topics": ["orders"]}), 422, "query")
    reply = door.http.get("/api/v1/trace", params={"value": "\u00a0", "topics": "orders"})
    problem(reply, 422, "query")
    body = {"subscription": "another", "topics": ["orders"], "settings": {"filter": "("}}
    assert door.post("subscriptions", body).status_code == 422
