"""The settings of groups: the table, their values, and that a share group's subscription follows them."""

from __future__ import annotations

import pytest

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.group_configs import (
    DEAD_LETTER_TOPIC,
    DELIVERY_COUNT_LIMIT,
    GROUP_CONFIGS,
    LOCK_DURATION,
    OFFSET_RESET,
    RECORD_LOCKS_MAX,
    SHARE_GROUP_DEFAULTS,
    check_group_configs,
    duration_ms,
    share_group_settings,
    shown_configs,
    with_configs,
)
from mainstem.coordinator.groups.share_types import LEAVE_EPOCH
from mainstem.coordinator.topics.types import ConfigChange
from tests.coordinator.test_share_groups import ShareNodeRig
from tests.test_node import refusal


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT1H", 3_600_000),
        ("P1DT2H3M4.5S", 93_784_500),
        ("pt0.001s", 1),
        ("P2D", 172_800_000),
        ("PT0S", 0),
        ("PT", None),
        ("P", None),
        ("P1DT", None),
        ("-PT1H", None),
        ("PT-1H", None),
        ("P1M", None),
        ("PT1H ", None),
        ("PT" + "9" * 30 + "S", None),
    ],
)
def test_durations_are_javas(text: str, milliseconds: int | None) -> None:
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize("name", sorted(GROUP_CONFIGS))
def test_every_default_is_valid_and_is_the_default_of_a_share_group(name: str) -> None:
    config = GROUP_CONFIGS[name]
    assert config.doc
    value = config.parse(config.default)
    if config.field is not None:
        assert config.to_field(value) == getattr(SHARE_GROUP_DEFAULTS, config.field)
        assert config.from_field(config.to_field(value)) == config.default


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("share.session.timeout.ms", "999", "at least 1000"),
        ("share.heartbeat.interval.ms", "60001", "no more than 60000"),
        ("share.heartbeat.interval.ms", "50000", "must be greater than share.heartbeat.interval.ms"),
        (LOCK_DURATION, "999", "at least 1000"),
        (LOCK_DURATION, "abc", "Not a number of type INT"),
        (DELIVERY_COUNT_LIMIT, "1", "at least 2"),
        (RECORD_LOCKS_MAX, "99", "at least 100"),
        (OFFSET_RESET, "never", "must be either 'earliest', 'latest' or"),
        (OFFSET_RESET, "by_duration:-PT1H", "must be either 'earliest', 'latest' or"),
        ("share.isolation.level", "x", "String must be one of: read_committed, read_uncommitted"),
        ("share.renew.acknowledge.enable", "maybe", "either true or false"),
        (DEAD_LETTER_TOPIC, "__dead", "must not start with '__'"),
        (DEAD_LETTER_TOPIC, "a/b", "characters other than"),
        ("consumer.session.timeout.ms", "50000", "Unknown group config name: consumer.session.timeout.ms"),
    ],
)
def test_what_is_invalid_is_refused_with_kafkas_texts(name: str, text: str, problem: str) -> None:
    with pytest.raises(CoordinatorError) as caught:
        check_group_configs({name: text})
    assert caught.value.code == "INVALID_CONFIG"
    assert problem in str(caught.value)


def test_what_another_way_has_changed_is_shown() -> None:
    settings = with_configs(SHARE_GROUP_DEFAULTS, {LOCK_DURATION: "20000", OFFSET_RESET: "by_duration:PT1H"})
    assert (settings.lock_ms, settings.from_latest) == (20_000, False)
    configs = {LOCK_DURATION: "20000", OFFSET_RESET: "by_duration:PT1H"}
    assert shown_configs(configs, settings) == configs
    changed = with_configs(settings, {OFFSET_RESET: "latest", DELIVERY_COUNT_LIMIT: "9"})
    assert shown_configs(configs, changed) == {**configs, OFFSET_RESET: "latest", DELIVERY_COUNT_LIMIT: "9"}
    shown = share_group_settings(shown_configs(configs, settings))
    assert (shown.offset_reset, shown.reset_duration_ms, shown.lock_ms) == ("by_duration", 3_600_000, 20_000)


# --- the state machine ------------------------------------------------------------------------------------


@pytest.fixture
def rig() -> ShareNodeRig:
    return ShareNodeRig()


def change(rig: ShareNodeRig, **values: str | None) -> None:
    names = {"lock": LOCK_DURATION, "limit": DELIVERY_COUNT_LIMIT, "reset": OFFSET_RESET}
    changes = [
        ConfigChange(names[name], "delete" if value is None else "set", value)
        for name, value in values.items()
    ]
    rig.done(rig.node.group_settings.alter("g", changes))


def test_what_is_set_before_there_is_a_group_counts_for_it(rig: ShareNodeRig) -> None:
    change(rig, lock="20000", reset="earliest")
    assert rig.node.share_groups.find("g") is None
    assert rig.node.group_settings.of("g").lock_ms == 20_000
    rig.beat("m1", 0, "a")
    group = rig.node.subscriptions.get("g")
    assert (group.settings.lock_ms, group.settings.from_latest) == (20_000, False)
    rig.start()
    assert rig.node.group_settings.configured() == ["g"]
    assert rig.node.subscriptions.get("g").settings == group.settings


def test_a_change_reaches_the_subscription_in_the_same_batch(rig: ShareNodeRig) -> None:
    configured: list[str] = []
    rig.node.group_settings.on_configured.append(configured.append)
    rig.beat("m1", 0, "a")
    change(rig, lock="20000", limit="7")
    assert rig.node.subscriptions.get("g").settings.lock_ms == 20_000
    change(rig, lock=None)
    settings = rig.node.subscriptions.get("g").settings
    assert (settings.lock_ms, settings.failures_max, settings.topics) == (30_000, 7, ("a",))
    assert configured == ["g", "g"]


def test_a_subscription_that_was_changed_otherwise_is_shown_so(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    rig.done(rig.node.subscriptions.alter("g", {"lock_ms": 40_000}))
    assert rig.node.group_settings.of("g").lock_ms == 40_000
    (entry,) = rig.node.group_settings.describe("g", [LOCK_DURATION])
    assert (entry.value, entry.source) == ("40000", "group")
    change(rig, limit="7")
    assert rig.node.subscriptions.get("g").settings.lock_ms == 40_000, "what is not named stays"
    change(rig, lock="30000")
    assert rig.node.subscriptions.get("g").settings.lock_ms == 30_000


def test_settings_outlive_their_group(rig: ShareNodeRig) -> None:
    rig.beat("m1", 0, "a")
    change(rig, lock="20000")
    rig.ask("m1", LEAVE_EPOCH)
    rig.done(rig.node.share_groups.delete("g"))
    assert rig.node.group_settings.of("g").lock_ms == 20_000
    change(rig, lock=None)
    assert rig.node.group_settings.configured() == []


def test_changes_that_contradict_themselves_are_refused(rig: ShareNodeRig) -> None:
    settings = rig.node.group_settings
    twice = [ConfigChange(LOCK_DURATION, "set", "20000"), ConfigChange(LOCK_DURATION, "delete")]
    assert refusal(settings.alter("g", twice)) == "INVALID_REQUEST"
    assert refusal(settings.alter("", twice[:1])) == "INVALID_REQUEST"
    assert refusal(settings.alter("g" * 1001, twice[:1])) == "INVALID_REQUEST"
    assert refusal(settings.alter("g", [ConfigChange(LOCK_DURATION, "set")])) == "INVALID_REQUEST"
    assert refusal(settings.alter("g", [ConfigChange(LOCK_DURATION, "append", "1")])) == "INVALID_CONFIG"
    rig.done(settings.alter("g", twice[:1], validate_only=True))
    assert settings.configured() == []
    rig.done(settings.replace("g", {LOCK_DURATION: "20000"}))
    rig.done(settings.replace("g", {DELIVERY_COUNT_LIMIT: "7"}))
    assert (settings.of("g").lock_ms, settings.of("g").failures_max) == (30_000, 7)
