"""Masking rules: what is accepted, what survives, who gets which mask, and that reloading shows nothing."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.access_contract import EVERYBODY, ROLE, PatternType, Principal
from mainstem.contract import Event
from mainstem.coordinator.access import mask_rules as module
from mainstem.coordinator.access.mask_rules import MaskSecretDrawn
from mainstem.coordinator.runtime import runtime
from mainstem.masking.mask import HIDDEN_BYTES, TopicMask
from mainstem.masking.rules import MaskKind, MaskPath, MaskRule
from tests.coordinator.state_rig import code, done
from tests.support.access import ALICE, BOB, AccessRig, requester

SUPPORT = Principal(ROLE, "support")
PAYLOAD = b'{"card":"4111111111111234"}'


def rule(name: str = "cards", **fields: Any) -> MaskRule:
    whole = MaskRule(
        name, "orders", PatternType.LITERAL, MaskPath.parse("card"), MaskKind.HASHED, (EVERYBODY,)
    )
    return whole._replace(**fields)


def shown(mask: TopicMask | None) -> bytes | None:
    event = Event("orders", 0, 0, 0, None, PAYLOAD, ())
    return PAYLOAD if mask is None else mask.masked(event).value


def test_rules_and_hashes_survive_a_restart_and_a_snapshot() -> None:
    rig = AccessRig()
    done(rig.masks.put_rule(rule()))
    done(rig.masks.put_rule(rule("old")))
    done(rig.masks.put_rule(rule("pins", path=MaskPath.parse('*."p.i.n"'), exempt=(BOB, SUPPORT))))
    assert done(rig.masks.delete_rule("old"))
    assert not done(rig.masks.delete_rule("old"))
    rules, before = rig.masks.rules(), shown(rig.masks.mask_of(requester(), "orders"))
    assert [item.name for item in rules] == ["cards", "pins"]
    assert before != PAYLOAD
    for _ in range(2):
        rig.restart()
        assert rig.masks.rules() == rules
        assert shown(rig.masks.mask_of(requester(), "orders")) == before
        rig.runtime.take_snapshot()
        rig.clock.run()


def test_a_change_holds_for_the_next_mask() -> None:
    rig = AccessRig()
    assert not rig.masks.has_rules, "before any mask was asked for"
    assert rig.masks.mask_of(requester(), "orders") is None
    done(rig.masks.put_rule(rule(kind=MaskKind.HIDDEN)))
    assert rig.masks.has_rules
    assert shown(rig.masks.mask_of(requester(), "orders")) == b'{"card":"[hidden]"}'
    assert rig.masks.mask_of(requester(), "flights") is None
    done(rig.masks.put_rule(rule(kind=MaskKind.LAST4)))
    assert shown(rig.masks.mask_of(requester(), "orders")) == '{"card":"…1234"}'.encode()
    done(rig.masks.delete_rule("cards"))
    assert rig.masks.mask_of(requester(), "orders") is None


def test_those_who_wait_learn_of_a_change_that_is_durable() -> None:
    rig, learned = AccessRig(), []
    rig.masks.on_change.append(lambda: learned.append(len(rig.masks.rules())))
    done(rig.masks.put_rule(rule()))
    done(rig.masks.delete_rule("cards"))
    rig.masks.put_rule(rule("no:target", topic=""))
    rig.clock.run()
    assert learned == [1, 0]


def test_super_users_and_those_exempt_see_everything() -> None:
    rig = AccessRig()
    done(rig.masks.put_rule(rule(exempt=(SUPPORT,))))
    assert rig.masks.mask_of(requester(ALICE), "orders") is not None
    assert rig.masks.mask_of(requester(ALICE, roles=[SUPPORT]), "orders") is None
    assert rig.masks.mask_of(requester(Principal("User", "admin")), "orders") is None


def test_a_mask_is_made_once_and_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_MAX", 3)
    rig = AccessRig()
    done(rig.masks.put_rule(rule(topic="*")))
    first = rig.masks.mask_of(requester(), "orders")
    assert rig.masks.mask_of(requester(host="10.9.9.9"), "orders") is first
    for number in range(10):
        rig.masks.mask_of(requester(), f"t{number}")
    assert rig.masks.mask_of(requester(), "orders") is not first


def test_while_rules_are_loaded_again_everything_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "READ_BYTES", 1)
    rig = AccessRig(auto_commit=False)
    for name in ("a", "b", "c"):
        rig.masks.put_rule(rule(name, kind=MaskKind.LAST4))
    rig.log.commit()
    rig.masks.put_rule(rule(kind=MaskKind.HIDDEN))
    assert shown(rig.masks.mask_of(requester(), "orders")) == b'{"card":"[hidden]"}'
    rig.log.fail()
    seen = []
    while rig.runtime.fenced is not None:
        seen.append(shown(rig.masks.mask_of(requester(), "orders")))
        rig.clock.turn()
    assert seen.count(HIDDEN_BYTES) > 1
    assert PAYLOAD not in seen
    last4 = '{"card":"…1234"}'.encode()
    assert shown(rig.masks.mask_of(requester(), "orders")) == last4, "the other rule was not durable"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "n" * 256},
        {"topic": ""},
        {"topic": "t" * 256},
        {"pattern": PatternType.MATCH},
        {"principals": ()},
        {"principals": (ALICE,) * 101},
        {"exempt": (Principal("User", "u" * 600),)},
    ],
)
def test_what_is_no_rule_is_refused(fields: dict[str, Any]) -> None:
    rig = AccessRig()
    assert code(rig.masks.put_rule(rule(**fields))) == "INVALID_REQUEST"
    assert code(rig.masks.put_rule(rule(**fields), validate_only=True)) == "INVALID_REQUEST"
    done(rig.masks.put_rule(rule(), validate_only=True))
    assert rig.masks.rules() == []


def test_there_are_not_too_many_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RULES_MAX", 1)
    rig = AccessRig()
    done(rig.masks.put_rule(rule()))
    done(rig.masks.put_rule(rule(kind=MaskKind.LAST4)))
    assert code(rig.masks.put_rule(rule("another"))) == "INVALID_REQUEST"


def test_the_secret_is_never_shown() -> None:
    record = MaskSecretDrawn(b"secret-secret-secret")
    assert "secret-" not in repr(record)
    rig = AccessRig()
    done(rig.masks.put_rule(rule()))
    assert rig.masks.preview(rule()).rules == (rule(),)
