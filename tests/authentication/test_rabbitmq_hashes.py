"""Verifiers that are made of RabbitMQ's hashes of passwords."""

from __future__ import annotations

import pytest

from mainstem.authentication.identity import AuthenticationFailed
from mainstem.authentication.rabbitmq_hashes import (
    DEFAULT_ALGORITHM,
    is_of_hash,
    password_of_verifier,
    verifiers_of_hash,
)
from mainstem.authentication.scram import SALT_BYTES
from tests.authentication.kit import (
    SHA_256,
    SHA_512,
    Counted,
    MemoryAdmin,
    ScramClient,
    authentication,
)

HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
"""Of test12, from RabbitMQ's documentation."""


def admin_with_a_hash() -> MemoryAdmin:
    admin = MemoryAdmin(bob="test12")
    admin.put_verifiers("alice", [make() for make in verifiers_of_hash(HASH, DEFAULT_ALGORITHM, Counted())])
    return admin


def test_the_password_of_the_hash_is_right_and_others_are_wrong() -> None:
    service = authentication(admin_with_a_hash())
    assert (
        service.check_password("alice", "test12", "10.0.0.1", door="amqp091").result().principal.name
        == "alice"
    )
    for password in ("test13", "", HASH):
        with pytest.raises(AuthenticationFailed):
            service.check_password("alice", password, "10.0.0.1", door="amqp091").result()
    assert service.check_password("bob", "test12", "10.0.0.1", door="amqp091").result()


def test_each_mechanism_has_a_verifier_with_a_salt_as_long_as_others() -> None:
    first, second = (make() for make in verifiers_of_hash(HASH, DEFAULT_ALGORITHM, Counted()))
    assert {first.mechanism, second.mechanism} == {SHA_256, SHA_512}
    assert len(first.salt) == len(second.salt) == SALT_BYTES
    assert is_of_hash(first.salt)
    assert password_of_verifier(b"s" * SALT_BYTES, "test12") == "test12"


def test_scram_shows_such_a_user_as_one_that_is_not_there() -> None:
    """The salt would say that there is the user, and what its hash's salt is."""
    service = authentication(admin_with_a_hash())
    exchange = service.exchange("SCRAM-SHA-512", "10.0.0.1")
    answer = exchange.step(ScramClient("alice", "test12").first()).result()
    assert b"AHJhYmJpdG1x" not in answer  # the mark in base64


@pytest.mark.parametrize(
    ("password_hash", "algorithm", "words"),
    [
        (HASH, "rabbit_password_hashing_md5", "by rabbit_password_hashing_md5 cannot be used"),
        (HASH, "rabbit_password_hashing_sha512", "has 36 bytes"),
        (HASH[:-4], DEFAULT_ALGORITHM, "has 33 bytes"),
        ("secret password", DEFAULT_ALGORITHM, "base64"),
    ],
)
def test_what_is_no_hash_is_refused(password_hash: str, algorithm: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        verifiers_of_hash(password_hash, algorithm, Counted())
