"""The settings and names of subscriptions: which values are accepted, and what is remembered of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from mainstem.coordinator.errors import InvalidSubscriptionSetting
from mainstem.coordinator.queues import subscriptions
from mainstem.coordinator.queues.types import RANGES, changed_settings
from mainstem.queues.settings import SubscriptionSettings
from tests.coordinator.queue_rig import TOPIC, QueueRig
from tests.coordinator.state_rig import code, done


def test_a_subscription_has_the_settings_that_were_asked_for_and_defaults() -> None:
    rig = QueueRig()
    made = done(rig.subscriptions.create("mail", {"lock_ms": 5_000, "in_key_order": True}))
    assert made.settings == SubscriptionSettings(lock_ms=5_000, in_key_order=True)
    rig.restart()
    assert rig.subscriptions.get("mail") == made
    changed = done(rig.subscriptions.alter("mail", {"lock_ms": 0, "dead_letter_topic": "lost"}))
    assert changed.settings == SubscriptionSettings(lock_ms=0, in_key_order=True, dead_letter_topic="lost")
    rig.restart()
    assert rig.subscriptions.all() == [changed]


def test_a_subscription_has_an_id_and_is_known_by_it() -> None:
    rig = QueueRig()
    made = done(rig.subscriptions.create("mail"))
    assert rig.subscriptions.by_id(made.id) == made
    assert rig.subscriptions.by_id(made.id + 1) is None


def test_every_setting_has_a_range_and_its_default_is_in_it() -> None:
    assert sorted(RANGES) == sorted(field.name for field in fields(SubscriptionSettings))
    for name, allowed in RANGES.items():
        assert allowed.accepts(getattr(SubscriptionSettings(), name)), name
        assert allowed.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lock_ms", -1),
        ("lock_ms", 12 * 3600 * 1000 + 1),
        ("lock_ms", "5000"),
        ("lock_ms", 1.5),
        ("lock_ms", True),
        ("lock_ms", None),
        ("failures_max", 65_536),
        ("backoff_factor", 0.5),
        ("backoff_factor", float("nan")),
        ("in_flight_max", 0),
        ("parked_max", 1_000_001),
        ("in_key_order", 1),
        ("dead_letter_topic", "a b"),
        ("dead_letter_topic", "__mainstem_x"),
        ("backoff_min_ms", 600_001),
        ("no_such", 1),
    ],
)
def test_a_value_that_a_setting_does_not_accept_is_refused(name: str, value: Any) -> None:
    rig = QueueRig()
    assert code(rig.subscriptions.create("mail", {name: value})) == "INVALID_CONFIG"
    done(rig.subscriptions.create("mail"))
    refused = rig.subscriptions.alter("mail", {name: value})
    assert code(refused) == "INVALID_CONFIG"
    assert name in str(refused.error)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a" * 250, "__mainstem_x", "ä"])
def test_a_name_follows_the_rules_for_topics(name: str) -> None:
    assert code(QueueRig().subscriptions.create(name)) == "INVALID_GROUP_ID"


def test_names_are_unique_and_unknown_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = QueueRig()
    done(rig.subscriptions.create("mail"))
    assert code(rig.subscriptions.create("mail")) == "INVALID_REQUEST"
    for refused in (
        rig.subscriptions.alter("x", {}),
        rig.subscriptions.delete("x"),
        rig.subscriptions.open_view("x", TOPIC, 0, 0, 0),
    ):
        assert code(refused) == "GROUP_ID_NOT_FOUND"
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 1)
    assert code(rig.subscriptions.create("other")) == "POLICY_VIOLATION"


@pytest.mark.parametrize(("name", "value"), [("in_key_order", True), ("filter", "x")])
def test_a_setting_that_views_are_made_by_is_not_changed(name: str, value: Any) -> None:
    rig = QueueRig()
    made = done(rig.subscriptions.create("mail"))
    assert code(rig.subscriptions.alter("mail", {name: value})) == "INVALID_CONFIG"
    assert done(rig.subscriptions.alter("mail", {name: getattr(made.settings, name)})) == made


def test_a_check_creates_nothing() -> None:
    rig = QueueRig()
    assert done(rig.subscriptions.create("mail", validate_only=True)).name == "mail"
    assert rig.subscriptions.all() == []


def test_other_settings_apply_to_the_views_that_exist() -> None:
    rig = QueueRig()
    view = rig.view(in_flight_max=5)
    done(rig.subscriptions.alter("mail", {"in_flight_max": 7}))
    assert view.sequence.rules.in_flight_max == 7
    rig.restart()
    assert rig.known().sequence.rules.in_flight_max == 7


def test_a_refused_value_is_shown_as_people_write_it() -> None:
    shown = {
        "topics": (("a", "b c"), "invalid value 'a', 'b c' for the setting topics: names of topics"),
        "lock_ms": (None, "invalid value null for the setting lock_ms: a whole number"),
        "failures_max": (True, "invalid value true for the setting failures_max: a whole number"),
    }
    for name, (value, text) in shown.items():
        with pytest.raises(InvalidSubscriptionSetting, match=text):
            changed_settings(SubscriptionSettings(), {name: value})
