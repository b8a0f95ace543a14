"""Client quotas: which are accepted, which counts for a client, what survives, and what the rates are."""

from __future__ import annotations

import random

import pytest

from mainstem.coordinator.access import quota_usage
from mainstem.coordinator.access import quotas as module
from mainstem.coordinator.errors import InvalidRequest
from mainstem.quota_contract import DEFAULT, QuotaEntity, QuotaKey
from tests.coordinator.state_rig import code, done
from tests.support.quota_rig import QuotaRig

PRODUCE, FETCH, REQUEST, CONNECTIONS = QuotaKey
IN_ORDER = (
    (QuotaEntity("u", "c"), ("u", "c")),
    (QuotaEntity("u", DEFAULT), ("u", "c")),
    (QuotaEntity("u"), ("u", None)),
    (QuotaEntity(DEFAULT, "c"), ("u", "c")),
    (QuotaEntity(DEFAULT, DEFAULT), ("u", "c")),
    (QuotaEntity(DEFAULT), ("u", None)),
    (QuotaEntity(None, "c"), (None, "c")),
    (QuotaEntity(None, DEFAULT), (None, "c")),
)
"""Kafka's order, with whom each is shared."""


def test_the_order_of_quotas_is_kafkas() -> None:
    rig = QuotaRig()
    for number, (entity, _) in enumerate(IN_ORDER):
        rig.set(entity, PRODUCE, 100.0 + number)
    for number, (entity, shared_by) in enumerate(IN_ORDER):
        assert rig.quotas.applying(PRODUCE, "u", "c") == (100.0 + number, shared_by)
        assert rig.quotas.applying(FETCH, "u", "c") is None
        rig.set(entity, PRODUCE, None)
    assert rig.quotas.applying(PRODUCE, "u", "c") is None
    assert not rig.usage.is_on
    assert rig.all() == {}


def test_a_quota_of_others_does_not_count() -> None:
    rig = QuotaRig()
    for entity in (QuotaEntity("v"), QuotaEntity("v", "c"), QuotaEntity(None, "d"), QuotaEntity(ip=DEFAULT)):
        key = PRODUCE if entity.ip is None else CONNECTIONS
        rig.set(entity, key, 1.0)
    assert rig.quotas.applying(PRODUCE, "u", "c") is None
    assert rig.quotas.applying(PRODUCE, "v", "c") == (1.0, ("v", "c"))
    assert rig.quotas.applying(PRODUCE, "v", "") == (1.0, ("v", None))


def test_quotas_survive_a_restart_and_a_snapshot() -> None:
    rig = QuotaRig()
    done(rig.quotas.alter(QuotaEntity("u", DEFAULT), {PRODUCE: 1024.0, REQUEST: 12.5}))
    rig.set(QuotaEntity(ip="2001:DB8::1"), CONNECTIONS, 5.0)
    rig.set(QuotaEntity(None, "c"), FETCH, 10.0)
    rig.set(QuotaEntity(None, "c"), FETCH, None)
    done(rig.quotas.alter(QuotaEntity("u", DEFAULT), {FETCH: 7.0, PRODUCE: None, CONNECTIONS: None}))
    expected = {
        QuotaEntity("u", DEFAULT): {REQUEST: 12.5, FETCH: 7.0},
        QuotaEntity(ip="2001:db8::1"): {CONNECTIONS: 5.0},
    }
    for _ in range(2):
        assert rig.all() == expected
        assert rig.usage.is_on
        rig.runtime.take_snapshot()
        rig.clock.run()
        rig.restart()


def test_a_change_that_changes_nothing_is_no_record() -> None:
    rig = QuotaRig()
    rig.set(QuotaEntity("u"), PRODUCE, 1.0)
    end = rig.log.log_end_offset
    rig.set(QuotaEntity("u"), PRODUCE, 1.0)
    rig.set(QuotaEntity("v"), PRODUCE, None)
    done(rig.quotas.alter(QuotaEntity("u"), {PRODUCE: 2.0}, validate_only=True))
    assert rig.log.log_end_offset == end
    assert rig.all() == {QuotaEntity("u"): {PRODUCE: 1.0}}


@pytest.mark.parametrize(
    ("entity", "key", "value"),
    [
        (QuotaEntity(), PRODUCE, 1.0),
        (QuotaEntity("u", ip="10.0.0.1"), CONNECTIONS, 1.0),
        (QuotaEntity(ip="host.test"), CONNECTIONS, 1.0),
        (QuotaEntity(ip="10.0.0.1"), PRODUCE, 1.0),
        (QuotaEntity("u"), CONNECTIONS, 1.0),
        (QuotaEntity("u"), PRODUCE, 0.0),
        (QuotaEntity("u"), PRODUCE, -1.0),
        (QuotaEntity("u"), PRODUCE, float("nan")),
        (QuotaEntity("u"), REQUEST, float("inf")),
        (QuotaEntity("u"), PRODUCE, 1.5),
        (QuotaEntity("u"), PRODUCE, 1e19),
        (QuotaEntity(ip="10.0.0.1"), CONNECTIONS, 1e10),
        (QuotaEntity("u" * 5_000), PRODUCE, 1.0),
    ],
)
def test_what_is_refused(entity: QuotaEntity, key: QuotaKey, value: float) -> None:
    rig = QuotaRig()
    assert code(rig.quotas.alter(entity, {key: value})) == InvalidRequest.code
    assert rig.all() == {}


def test_the_number_of_entities_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTITIES_MAX", 2)
    rig = QuotaRig()
    rig.set(QuotaEntity("a"), PRODUCE, 1.0)
    rig.set(QuotaEntity("b"), PRODUCE, 1.0)
    assert code(rig.quotas.alter(QuotaEntity("c"), {PRODUCE: 1.0})) == InvalidRequest.code
    rig.set(QuotaEntity("b"), PRODUCE, 2.0)


# --- rates ------------------------------------------------------------------------------------------------


def test_ten_seconds_may_be_used_at_once_and_more_delays_until_the_rate_is_the_quota() -> None:
    rig = QuotaRig()
    rig.set(QuotaEntity("u"), PRODUCE, 100.0)
    assert rig.usage.charge(PRODUCE, "u", "a", 1_000) == 0
    assert rig.usage.charge(PRODUCE, "u", "b", 100) == 1_000
    assert rig.usage.excess_ms(PRODUCE, "u", "c") == 1_000
    assert rig.usage.charge(PRODUCE, "v", "a", 1_000_000) == 0
    rig.clock.advance(1.0)
    assert rig.usage.excess_ms(PRODUCE, "u", "a") == 0
    assert rig.usage.charge(PRODUCE, "u", "a", 50) == 500
    rig.clock.advance(11.0)
    assert rig.usage.charge(PRODUCE, "u", "a", 1_000) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_client_that_waits_as_it_is_asked_has_the_rate_of_its_quota(seed: int) -> None:
    rig, chance = QuotaRig(), random.Random(seed)
    limit = chance.choice((10.0, 1_000.0, 1_000_000.0))
    rig.set(QuotaEntity("u"), PRODUCE, limit)
    used, began = 0.0, rig.clock.monotonic()
    while rig.clock.monotonic() - began < 300:
        amount = limit * chance.choice((0.01, 0.5, 3, 20))
        used += amount
        rig.clock.advance(chance.random() / 100 + rig.usage.charge(PRODUCE, "u", "c", amount) / 1000)
    seconds = rig.clock.monotonic() - began
    assert limit * (seconds * 0.98 - 20) <= used <= limit * (seconds + quota_usage.AT_ONCE_S) * 1.001


def test_the_time_of_requests_delays_for_a_second_at_most() -> None:
    rig = QuotaRig()
    rig.set(QuotaEntity(None, DEFAULT), REQUEST, 1.0)
    assert rig.usage.charge(REQUEST, "u", "c", 9.0) == 0
    assert rig.usage.charge(REQUEST, "u", "c", 5_000.0) == quota_usage.REQUEST_DELAY_MS_MAX


def test_connections_of_an_address_are_counted_only_if_they_are_made() -> None:
    rig = QuotaRig()
    assert rig.usage.admits("10.0.0.1")
    rig.set(QuotaEntity(ip=DEFAULT), CONNECTIONS, 2.0)
    rig.set(QuotaEntity(ip="10.0.0.9"), CONNECTIONS, 1.0)
    assert [rig.usage.admits("10.0.0.1") for _ in range(22)] == [True] * 20 + [False] * 2
    assert [rig.usage.admits("10.0.0.9") for _ in range(11)] == [True] * 10 + [False]
    rig.clock.advance(1.0)
    assert rig.usage.admits("10.0.0.2")
    rig.clock.advance(11.0)
    assert rig.usage.admits("10.0.0.1")
    assert dict(rig.usage.use())[CONNECTIONS] == (3, 0)


def test_client_ids_that_never_come_again_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_usage, "RATES_MAX", 100)
    rig = QuotaRig()
    rig.set(QuotaEntity(None, DEFAULT), PRODUCE, 1.0)
    rig.set(QuotaEntity("u"), FETCH, 1.0)
    for number in range(1_000):
        rig.usage.charge(PRODUCE, "u", f"{number}" + "x" * 10_000, 50)
        assert rig.usage.charge(FETCH, "u", "c", 1_000) > 0, "what is used is not forgotten"
    assert len(rig.usage._rates) == 100
    assert all(len(client_id or "") <= quota_usage.CLIENT_ID_CHARS for _, _, client_id in rig.usage._rates)
