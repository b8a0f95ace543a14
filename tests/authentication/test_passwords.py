"""Checks of passwords: off the loop, bounded, remembered for a short time, the same for unknown users."""

from __future__ import annotations

import pytest

from mainstem.access_contract import ScramMechanism
from mainstem.authentication.attempts import PAIR_FREE
from mainstem.authentication.identity import FAILED, AuthenticationFailed, Identity, Login, TooManyAttempts
from mainstem.authentication.passwords import REMEMBERED_S, WAITING_MAX
from mainstem.authentication.service import Authentication
from mainstem.promise import Promise
from tests.authentication.kit import SHA_256, InlineWorker, MemoryAdmin, authentication, verifier
from tests.support.clock import SimClock


def check(service: Authentication, user: str, password: str, host: str = "10.0.0.1") -> Promise[Identity]:
    return service.check_password(user, password, host, door="http")


def test_a_right_password_is_remembered_until_it_changes_or_time_passes() -> None:
    admin, worker, clock = MemoryAdmin(alice="pw"), InlineWorker(), SimClock()
    service = authentication(admin, worker, clock)
    for _ in range(3):
        assert check(service, "alice", "pw").result().principal.text == "User:alice"
    assert worker.count == 1
    clock.advance(REMEMBERED_S)
    check(service, "alice", "pw").result()
    assert worker.count == 2
    admin.put_verifiers("alice", [verifier("new")])
    assert check(service, "alice", "pw").error
    assert worker.count == 3
    assert check(service, "alice", "new").result()


def test_a_user_with_one_mechanism_can_log_in() -> None:
    admin = MemoryAdmin()
    admin.put_verifiers("bob", [verifier("pw", SHA_256)])
    assert check(authentication(admin), "bob", "pw").result().principal.name == "bob"


def test_unknown_users_and_wrong_passwords_cost_the_same_and_say_the_same() -> None:
    worker = InlineWorker()
    service = authentication(MemoryAdmin(alice="pw"), worker)
    errors = [check(service, user, "no").error for user in ("alice", "mallory")]
    assert worker.count == 2
    assert [str(error) for error in errors] == [FAILED, FAILED]
    assert [type(error) for error in errors] == [AuthenticationFailed] * 2


def test_equal_checks_that_run_at_once_are_one() -> None:
    worker = InlineWorker()
    worker.waits = True
    service = authentication(MemoryAdmin(alice="pw"), worker)
    results = [check(service, "alice", "pw") for _ in range(50)]
    assert worker.count == 1
    worker.work()
    assert {result.result().principal.name for result in results} == {"alice"}


def test_the_waiting_checks_are_bounded_for_an_address_and_for_all() -> None:
    worker = InlineWorker()
    worker.waits = True
    service = authentication(MemoryAdmin(), worker)
    results = [check(service, f"u{number}", "x", f"10.0.0.{number & 3}") for number in range(1_000)]
    assert worker.count == WAITING_MAX
    refused = [result.error for result in results if result.done]
    assert {type(error) for error in refused} == {TooManyAttempts}
    service = authentication(MemoryAdmin(), worker)
    assert sum(not check(service, f"u{number}", "x").done for number in range(1_000)) == WAITING_MAX // 2


def test_guesses_that_wait_when_the_lock_comes_are_not_looked_at() -> None:
    worker = InlineWorker()
    worker.waits = True
    service = authentication(MemoryAdmin(alice="pw"), worker)
    guesses = [check(service, "alice", f"guess{number}") for number in range(15)]
    right = check(service, "alice", "pw")
    worker.work()
    assert isinstance(right.error, TooManyAttempts)
    assert right.error.retry_after_s == 1.0
    looked_at = [guess for guess in guesses if not isinstance(guess.error, TooManyAttempts)]
    assert len(looked_at) == PAIR_FREE


def test_a_password_that_is_changed_during_its_check_does_not_count() -> None:
    admin, worker = MemoryAdmin(alice="pw"), InlineWorker()
    worker.waits = True
    service = authentication(admin, worker)
    result = check(service, "alice", "pw")
    admin.delete_verifiers("alice", list(ScramMechanism))
    worker.work()
    assert result.error


def test_a_check_that_breaks_is_a_failed_check() -> None:
    class Broken(InlineWorker):
        def run(self, function):  # type: ignore[no-untyped-def]
            return Promise.failed(RuntimeError("no threads"))

    error = check(authentication(MemoryAdmin(alice="pw"), Broken()), "alice", "pw").error
    assert isinstance(error, AuthenticationFailed)
    assert str(error) == FAILED


@pytest.mark.parametrize(
    ("user", "password"), [("", "pw"), ("a\0", "pw"), ("x" * 300, "pw"), ("a", "p" * 2_000)]
)
def test_names_and_passwords_that_cannot_be_are_refused_without_work(user: str, password: str) -> None:
    worker = InlineWorker()
    assert check(authentication(MemoryAdmin(), worker), user, password).error
    assert worker.count == 0


def test_each_check_is_recorded_for_the_audit_without_the_password() -> None:
    logins: list[Login] = []
    service = authentication(MemoryAdmin(alice="pw"))
    service.on_login = logins.append
    check(service, "alice", "pw")
    check(service, "alice", "secret")
    assert [(login.user, login.allowed, login.door, login.mechanism) for login in logins] == [
        ("alice", True, "http", "PLAIN"),
        ("alice", False, "http", "PLAIN"),
    ]
    assert logins[1].reason == "wrong user or password"
    assert "secret" not in repr(logins)
    assert list(service.counts.values()) == [
        (("http", "PLAIN", "failed"), 1),
        (("http", "PLAIN", "success"), 1),
    ]


def test_new_verifiers_have_their_own_salts() -> None:
    first, second = authentication(MemoryAdmin()).make_verifiers("pw").result()
    assert {first.mechanism, second.mechanism} == set(ScramMechanism)
    assert first.salt != second.salt
    assert authentication(MemoryAdmin()).make_verifiers("pw", iterations=1).error
