"""The lockout: by user, by address and by both, in bounded memory."""

from mainstem.authentication.attempts import (
    ADDRESS_FREE,
    DELAY_MAX_S,
    ENTRIES_MAX,
    FORGET_S,
    KNOWN_S,
    PAIR_FREE,
    USER_FREE,
    Attempts,
    address_key,
)
from tests.support.clock import SimClock


def fail(attempts: Attempts, count: int, user: str = "alice", host: str = "10.0.0.1") -> None:
    for _ in range(count):
        attempts.failed(user, host)


def test_failures_lock_for_a_time_that_doubles_up_to_a_minute() -> None:
    clock = SimClock()
    attempts = Attempts(clock)
    fail(attempts, PAIR_FREE - 1)
    assert attempts.delay_s("alice", "10.0.0.1") == 0
    delays = []
    for _ in range(9):
        attempts.failed("alice", "10.0.0.1")
        delays.append(attempts.delay_s("alice", "10.0.0.1"))
        clock.advance(delays[-1])
        assert attempts.delay_s("alice", "10.0.0.1") == 0
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert delays[-1] == DELAY_MAX_S


def test_a_pair_that_fails_locks_no_other() -> None:
    attempts = Attempts(SimClock())
    fail(attempts, PAIR_FREE)
    assert attempts.delay_s("alice", "10.0.0.1")
    assert not attempts.delay_s("bob", "10.0.0.1")
    assert not attempts.delay_s("alice", "10.0.0.2")


def test_a_user_is_locked_for_strangers_by_failures_from_many_addresses() -> None:
    attempts = Attempts(SimClock())
    attempts.succeeded("alice", "10.9.9.9")
    for number in range(USER_FREE):
        attempts.failed("alice", f"10.0.0.{number}")
    assert attempts.delay_s("alice", "10.1.1.1")
    assert not attempts.delay_s("alice", "10.9.9.9"), "where she has authenticated before"
    assert not attempts.delay_s("bob", "10.1.1.1")


def test_an_address_is_locked_by_failures_of_many_users() -> None:
    clock = SimClock()
    attempts = Attempts(clock)
    attempts.succeeded("known", "10.0.0.1")
    for number in range(ADDRESS_FREE):
        attempts.failed(f"user{number}", "10.0.0.1")
    assert attempts.delay_s("stranger", "10.0.0.1")
    assert not attempts.delay_s("known", "10.0.0.1")
    clock.advance(KNOWN_S)
    assert not attempts.delay_s("stranger", "10.0.0.1")


def test_a_success_forgets_the_failures_of_the_user_and_not_those_of_the_address() -> None:
    attempts = Attempts(SimClock())
    fail(attempts, PAIR_FREE)
    fail(attempts, ADDRESS_FREE, user="other")
    attempts.succeeded("alice", "10.0.0.1")
    assert not attempts.delay_s("alice", "10.0.0.1")
    assert attempts.delay_s("bob", "10.0.0.1")


def test_failures_are_forgotten_after_a_while() -> None:
    clock = SimClock()
    attempts = Attempts(clock)
    fail(attempts, PAIR_FREE + 3)
    clock.advance(FORGET_S + 1)
    attempts.failed("alice", "10.0.0.1")
    assert not attempts.delay_s("alice", "10.0.0.1")


def test_the_counters_are_bounded() -> None:
    attempts = Attempts(SimClock())
    for number in range(ENTRIES_MAX + 500):
        attempts.failed(f"user{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        attempts.succeeded(f"other{number}", "10.0.0.1")
    assert attempts.counters <= 4 * ENTRIES_MAX


def test_addresses_of_one_ipv6_network_are_one() -> None:
    assert address_key("2001:db8:1:2:3:4:5:6") == address_key("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert address_key("::ffff:10.0.0.1") == "10.0.0.1"
    assert address_key("fe80::1%eth0") == "fe80::/64"
    assert address_key("unknown") == "unknown"
    assert address_key("not:an:address") == "not:an:address"
