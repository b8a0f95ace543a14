"""Client quotas as an administrator sees and changes them by HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainstem.engines.embedded.quota_admin import TranslatedQuotas
from mainstem.quota_contract import DEFAULT, NoQuotas, QuotaEntity, QuotaKey
from tests.doors.http.door_kit import RunningHttpDoor, audit_fields, problem, running_door

KEYS = [str(key) for key in QuotaKey]
NONE: dict[str, Any] = {"user": None, "client_id": None, "ip": None} | dict.fromkeys(KEYS)


@pytest.fixture(autouse=True)
def nothing_left(door: RunningHttpDoor) -> Iterator[None]:
    yield
    for row in door.get("quotas", limit=1000)["quotas"]:
        names = {name: row[name] for name in ("user", "client_id", "ip")}
        door.post("quotas:delete", names).raise_for_status()
    assert door.node.quotas.quotas() == {}


def test_quotas_are_set_changed_and_deleted(door: RunningHttpDoor) -> None:
    rates = {"producer_byte_rate": 1_048_576, "request_percentage": 12.5}
    row = NONE | {"user": "a/ü"} | rates
    dry = door.post("quotas", {"user": "a/ü", **rates, "dry_run": True})
    assert (dry.status_code, dry.json()) == (200, {"before": None, "after": row, "dry_run": True})
    assert door.get("quotas") == {"quotas": [], "next": None}
    assert door.post("quotas", {"user": "a/ü", **rates}).json()["after"] == row
    assert door.node.quotas.quotas() == {
        QuotaEntity("a/ü"): {QuotaKey.PRODUCE: 1_048_576.0, QuotaKey.REQUEST: 12.5}
    }
    more = row | {"consumer_byte_rate": 5.0, "request_percentage": 1e6}
    changed = door.post("quotas", {"user": "a/ü", "consumer_byte_rate": 5, "request_percentage": 1e6}).json()
    assert changed == {"before": row, "after": more, "dry_run": False}
    less = {"user": "a/ü", "quotas": ["request_percentage", "consumer_byte_rate"]}
    left = row | {"request_percentage": None}
    assert door.post("quotas:delete", less | {"dry_run": True}).json()["after"] == left
    assert door.get("quotas")["quotas"] == [more]
    assert door.post("quotas:delete", less).json() == {"before": more, "after": left, "dry_run": False}
    assert door.post("quotas:delete", {"user": "a/ü"}).json()["after"] is None
    nothing = door.post("quotas:delete", {"user": "a/ü"})
    assert (nothing.status_code, nothing.json()["before"]) == (200, None)


def test_users_clients_both_defaults_and_addresses_are_listed_in_order(door: RunningHttpDoor) -> None:
    entities = [
        *({"user": ""}, {"user": "", "client_id": ""}, {"user": "a"}, {"user": "a", "client_id": "app"}),
        *({"user": "b"}, {"client_id": ""}, {"client_id": "app"}, {"ip": ""}, {"ip": "10.0.0.1"}),
    ]
    for entity in reversed(entities):
        key = "connection_creation_rate" if "ip" in entity else "producer_byte_rate"
        door.post("quotas", {**entity, key: 10}).raise_for_status()

    def listed(**query: Any) -> list[dict[str, str]]:
        names = ("user", "client_id", "ip")
        rows = door.get("quotas", **query)["quotas"]
        return [{name: row[name] for name in names if row[name] is not None} for row in rows]

    assert listed() == entities
    assert QuotaEntity(DEFAULT, DEFAULT) in door.node.quotas.quotas()
    assert listed(user="a") == [{"user": "a"}, {"user": "a", "client_id": "app"}]
    assert listed(user="") == entities[:2]
    assert listed(client_id="app") == [{"user": "a", "client_id": "app"}, {"client_id": "app"}]
    assert listed(user="a", client_id="app") == [{"user": "a", "client_id": "app"}]
    assert listed(ip="10.0.0.1") == [{"ip": "10.0.0.1"}]
    assert listed(ip="") == [{"ip": ""}]
    assert listed(user="somebody") == []
    assert [door.get("quotas", limit=4, skip=skip)["next"] for skip in (0, 4, 5, 8)] == [4, 8, None, None]
    assert listed(limit=2, skip=8) == [{"ip": "10.0.0.1"}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"producer_byte_rate": 1}, 422),
        ({"user": "a"}, 422),
        ({"user": "a", "connection_creation_rate": 1}, 422),
        ({"ip": "10.0.0.1", "producer_byte_rate": 1}, 422),
        ({"ip": "10.0.0.1", "user": "a", "connection_creation_rate": 1}, 422),
        ({"ip": "localhost", "connection_creation_rate": 1}, 422),
        ({"user": "a", "producer_byte_rate": 1.5}, 422),
        ({"user": "a", "producer_byte_rate": 2**70}, 422),
        ({"ip": "::1", "connection_creation_rate": 2**31}, 422),
        ({"user": "a", "producer_byte_rate": 0}, 400),
        ({"user": "a", "producer_byte_rate": None}, 400),
        ({"user": "a", "producer_byte_rate": "1"}, 400),
        ({"user": "a", "controller_mutation_rate": 1}, 400),
        ({"user": "u" * 5_000, "producer_byte_rate": 1}, 400),
        ({"user": 1, "producer_byte_rate": 1}, 400),
    ],
)
def test_what_makes_no_sense_is_refused(door: RunningHttpDoor, body: dict[str, Any], status: int) -> None:
    for dry_run in (True, False):
        reply = door.post("quotas", body | {"dry_run": dry_run})
        problem(reply, status, "unfit" if status == 422 else "invalid")
    assert door.get("quotas")["quotas"] == []


def test_addresses_have_one_spelling(door: RunningHttpDoor) -> None:
    long = "2001:DB8:0:0::1"
    set_ = door.post("quotas", {"ip": long, "connection_creation_rate": 5}).json()
    assert set_["after"]["ip"] == "2001:db8::1"
    assert len(door.get("quotas", ip=long)["quotas"]) == 1
    assert door.post("quotas", {"ip": long, "connection_creation_rate": 6}).json()["before"] is not None
    assert door.post("quotas:delete", {"ip": long}).json()["after"] is None
    problem(door.http.get("/api/v1/quotas", params={"ip": "1.2.3"}), 422, "unfit")


def test_the_audit_says_who_set_what(door: RunningHttpDoor, caplog: pytest.LogCaptureFixture) -> None:
    audit_fields(caplog)
    door.post("quotas", {"user": "", "client_id": "x", "producer_byte_rate": 1e9, "request_percentage": 0.5})
    door.post("quotas:delete", {"user": "", "client_id": "x", "quotas": ["producer_byte_rate"]})
    door.post("quotas", {"ip": "here", "connection_creation_rate": 1, "dry_run": True})
    lines = audit_fields(caplog)
    assert [(line["action"], line["outcome"]) for line in lines] == [
        *(("set-quota", "done"), ("delete-quota", "done"), ("set-quota", "refused"))
    ]
    assert (lines[0]["user"], lines[0]["client_id"]) == ("", "x")
    assert lines[0]["quotas"] == "producer_byte_rate=1000000000,request_percentage=0.5"
    assert (lines[1]["quotas"], "ip" in lines[1]) == ("producer_byte_rate", False)
    assert (lines[2]["ip"], lines[2]["dry_run"]) == ("here", True)


def test_in_front_of_a_cluster_there_are_none(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TranslatedQuotas, "is_offered", NoQuotas.is_offered)
    problem(door.http.get("/api/v1/quotas"), 404, "not-offered")
    body = {"user": "a", "producer_byte_rate": 1}
    problem(door.post("quotas", body), 404, "not-offered")
    problem(door.post("quotas:delete", {"user": "a"}), 404, "not-offered")
    monkeypatch.undo()


def test_a_read_only_door_changes_none(tmp_path: Path) -> None:
    with running_door(tmp_path / "data", changes=False) as door:
        problem(door.post("quotas", {"user": "a", "producer_byte_rate": 1}), 403, "not-allowed")
        problem(door.post("quotas:delete", {"user": "a"}), 403, "not-allowed")
        assert door.get("quotas")["quotas"] == []
