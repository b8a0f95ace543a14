"""Client quotas in the HTTP door: 429 with Retry-After for what is published, read or computed beyond."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mainstem.quota_contract import DEFAULT, QuotaEntity, QuotaKey
from tests.doors.http.door_kit import RunningHttpDoor, problem

EVENTS = "/api/v1/topics/t/events"
READ = "/api/v1/topics/t/partitions/0/events?offset=0"
USER = QuotaEntity("ANONYMOUS")


@pytest.fixture
def limited(door: RunningHttpDoor) -> Iterator[RunningHttpDoor]:
    """A door with a topic, whose quotas are removed at the end."""
    door.http.post("/api/v1/topics", json={"name": "t", "partitions": 1})
    yield door
    for entity, values in dict(door.node.quotas.quotas()).items():
        for key in list(values):
            set_quota(door, entity, key, None)


def set_quota(door: RunningHttpDoor, entity: QuotaEntity, key: QuotaKey, value: float | None) -> None:
    async def alter() -> None:
        await door.node.quotas.alter(entity, {key: value})
        door.node.quotas._rates.clear()

    asyncio.run_coroutine_threadsafe(alter(), door.loop).result(10)


def publish(door: RunningHttpDoor, size: int) -> int:
    return door.http.post(EVENTS, json=[{"value": "x" * size}]).status_code


def test_a_publisher_beyond_its_quota_has_to_wait(limited: RunningHttpDoor) -> None:
    assert publish(limited, 5_000) == 200
    set_quota(limited, USER, QuotaKey.PRODUCE, 100.0)
    assert publish(limited, 500) == 200
    assert publish(limited, 3_000) == 200, "what is too much is known when it has come"
    before = limited.http.get("/api/v1/topics/t").json()
    reply = limited.http.post(EVENTS, json=[{"value": "one more"}])
    problem(reply, 429, "quota-exceeded")
    assert 20 <= int(reply.headers["retry-after"]) <= 30
    assert limited.http.get("/api/v1/topics/t").json() == before, "and reading is not limited"
    assert limited.http.get(READ).status_code == 200


def test_a_reader_beyond_its_quota_has_to_wait(limited: RunningHttpDoor) -> None:
    assert publish(limited, 5_000) == 200
    set_quota(limited, QuotaEntity(None, DEFAULT), QuotaKey.FETCH, 100.0)
    assert limited.http.get(READ).status_code == 200
    reply = limited.http.get(READ)
    problem(reply, 429, "quota-exceeded")
    assert int(reply.headers["retry-after"]) > 20
    for path in ("/api/v1/topics", "/readyz", "/metrics"):
        assert limited.http.get(path).status_code == 200
    assert publish(limited, 10) == 200


def test_the_quota_of_somebody_else_does_not_count(limited: RunningHttpDoor) -> None:
    set_quota(limited, QuotaEntity("alice"), QuotaKey.PRODUCE, 1.0)
    assert [publish(limited, 5_000) for _ in range(3)] == [200] * 3


def test_a_client_beyond_its_time_has_to_wait_and_an_administrator_can_change_that(
    limited: RunningHttpDoor,
) -> None:
    set_quota(limited, USER, QuotaKey.REQUEST, 0.001)
    assert limited.http.get("/api/v1/topics").status_code == 200
    for reply in (limited.http.get("/api/v1/topics"), limited.http.get(READ), limited.http.post(EVENTS)):
        problem(reply, 429, "quota-exceeded")
        assert "request_percentage" in reply.json()["detail"]
        assert int(reply.headers["retry-after"]) > 1, "the whole time, not the second of Kafka clients"
    for path in ("/livez", "/readyz", "/metrics", "/api/v1/me", "/api/v1/quotas"):
        assert limited.http.get(path).status_code == 200
    lifted = limited.http.post("/api/v1/quotas:delete", json={"user": "ANONYMOUS"})
    assert lifted.status_code == 200
    assert publish(limited, 500) == 200


def test_a_search_takes_time_of_its_client_too(limited: RunningHttpDoor) -> None:
    assert publish(limited, 500) == 200
    set_quota(limited, QuotaEntity(DEFAULT), QuotaKey.REQUEST, 100.0)
    for method, path, body in (
        ("POST", "/api/v1/search", {"query": "x*", "topics": ["t"]}),
        ("GET", READ, None),
    ):
        limited.node.quotas._rates.clear()
        assert limited.http.request(method, path, json=body).status_code == 200
        assert limited.node.quotas._rates[QuotaKey.REQUEST, "ANONYMOUS", None]._level > 0


def test_metrics_show_what_quotas_did(limited: RunningHttpDoor) -> None:
    set_quota(limited, USER, QuotaKey.PRODUCE, 1.0)
    publish(limited, 500)
    assert publish(limited, 10) == 429
    lines = limited.http.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("mainstem_quota_"))
    assert float(values['mainstem_quota_throttled_total{quota="producer_byte_rate"}']) >= 2
    assert float(values['mainstem_quota_delay_seconds_total{quota="producer_byte_rate"}']) > 100
