"""Clients of doors with connections are muted beyond their quotas."""

from __future__ import annotations

from mainstem.access_contract import Principal, Requester
from mainstem.doors.net.throttle import ByteThrottle
from mainstem.quota_contract import QuotaEntity, QuotaKey
from tests.support.quota_rig import QuotaRig

SHOP = Requester(principal=Principal("User", "shop"), host="127.0.0.1", client_id="orders")


class ThrottleRig:
    """A connection that notes when it is muted."""

    def __init__(self) -> None:
        self.quotas = QuotaRig()
        self.calls: list[str] = []
        self.throttle = ByteThrottle(
            self.quotas.usage,
            self.quotas.clock,
            SHOP,
            pause_reading=lambda: self.calls.append("pause reading"),
            resume_reading=lambda: self.calls.append("resume reading"),
            pause_sending=lambda: self.calls.append("pause sending"),
            resume_sending=lambda: self.calls.append("resume sending"),
        )


def test_a_client_without_a_quota_is_never_muted() -> None:
    rig = ThrottleRig()
    rig.throttle.published(1 << 30)
    rig.throttle.delivered(1 << 30)
    rig.throttle.fetched(1 << 30)
    rig.quotas.clock.advance(60)
    assert rig.calls == []


def test_a_client_beyond_its_quota_is_muted_until_its_rate_is_within_it() -> None:
    rig = ThrottleRig()
    rig.quotas.set(QuotaEntity(user="shop"), QuotaKey.PRODUCE, 1_000)
    rig.throttle.published(500)
    assert not rig.throttle.mutes_reading
    rig.throttle.published(50_000)
    assert rig.throttle.mutes_reading
    assert not rig.throttle.mutes_sending
    rig.throttle.published(50_000)
    assert set(rig.calls) == {"pause reading"}
    rig.quotas.clock.advance(600)
    assert rig.calls[-1] == "resume reading"
    assert rig.calls.count("resume reading") == 1
    assert not rig.throttle.mutes_reading


def test_what_is_delivered_and_what_is_asked_for_count_for_one_quota() -> None:
    rig = ThrottleRig()
    rig.quotas.set(QuotaEntity(client_id="orders"), QuotaKey.FETCH, 1_000)
    rig.throttle.delivered(50_000)
    assert rig.throttle.mutes_sending
    rig.throttle.fetched(1)
    assert rig.throttle.mutes_reading
    assert rig.calls == ["pause sending", "pause reading"]
    rig.throttle.end()
    rig.quotas.clock.advance(600)
    assert rig.calls == ["pause sending", "pause reading"]
