"""SCRAM: the exchange of RFC 7677, and what is refused."""

from __future__ import annotations

import base64

import pytest

from mainstem.access_contract import ScramMechanism, ScramVerifier
from mainstem.authentication import scram
from mainstem.authentication.identity import FAILED, AuthenticationFailed
from mainstem.authentication.scram import ScramExchange, parse_first
from tests.authentication.kit import (
    SHA_256,
    SHA_512,
    MemoryAdmin,
    ScramClient,
    authentication,
    verifier,
)

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")


def exchange_of(stored: ScramVerifier) -> ScramExchange:
    return ScramExchange(stored.mechanism, lambda user: stored, lambda: "server")


def test_the_example_of_rfc_7677() -> None:
    exchange = ScramExchange(
        SHA_256,
        lambda user: scram.make_verifier(SHA_256, "pencil", SALT),
        lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    )
    first = exchange.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert first == b"r=" + nonce + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert exchange.user == "user"
    last, _ = exchange.final(b"c=biws,r=" + nonce + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    assert last == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("mechanism", list(ScramMechanism))
def test_a_client_and_the_server_prove_the_password_to_each_other(mechanism: ScramMechanism) -> None:
    algorithm = "sha256" if mechanism is SHA_256 else "sha512"
    exchange, client = exchange_of(verifier("pw", mechanism)), ScramClient("alice", "pw", algorithm)
    answer, _ = exchange.final(client.final(exchange.first(client.first())))
    assert answer == client.server_final()


def test_a_wrong_password_fails_with_the_generic_text() -> None:
    exchange, client = exchange_of(verifier("pw")), ScramClient("alice", "other")
    with pytest.raises(AuthenticationFailed, match=f"^{FAILED}$"):
        exchange.final(client.final(exchange.first(client.first())))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "not a SCRAM message"),
        (b"n,,n=alice", "not a SCRAM message"),
        (b"n,,n=alice,r=", "not a SCRAM message"),
        (b"n,,r=x,n=alice", "not a SCRAM message"),
        (b"n,,n=alice,r=x,m=must", "not a SCRAM message"),
        (b"n,,m=must,n=alice,r=x", "not a SCRAM message"),
        (b"x,,n=alice,r=x", "not a SCRAM message"),
        (b"n,,n=al\xff,r=x", "not a SCRAM message"),
        (b"n,,n=al\0ice,r=x", "not a SCRAM message"),
        (b"n,,n=alice,r=x\xc3\xa4", "not a SCRAM message"),
        (b"n,,n=alice,r=" + b"x" * 9_000, "of 9013 bytes"),
        (b"p=tls-unique,,n=alice,r=x", "channel binding"),
        (b"n,a=bob,n=alice,r=x", "another user"),
        (b"n,,n=a=lice,r=x", "not escaped"),
        (b"n,,n=,r=x", "is empty"),
        (b"n,,n=alice,r=x,tokenauth=true", "delegation tokens"),
    ],
)
def test_first_messages_that_are_refused(message: bytes, reason: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        parse_first(message)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("message", "user"),
    [
        (b"n,,n=alice,r=x", "alice"),
        (b"y,,n=alice,r=x", "alice"),
        (b"n,a=alice,n=alice,r=x", "alice"),
        (b"n,,n=a=2Cb=3Dc,r=x", "a,b=c"),
        (b"n,,n=alice,r=x,unknown=value", "alice"),
        ("n,,n=\u00aa,r=x".encode(), "a"),
    ],
)
def test_first_messages_that_are_understood(message: bytes, user: str) -> None:
    assert parse_first(message).user == user


def test_a_proof_is_good_for_its_own_exchange_only() -> None:
    exchange = exchange_of(verifier("pw"))
    client = ScramClient("alice", "pw")
    final = client.final(exchange.first(client.first()))
    exchange.final(final)
    other = ScramExchange(SHA_512, lambda user: verifier("pw"), lambda: "another")
    other.first(client.first())
    with pytest.raises(AuthenticationFailed) as caught:
        other.final(final)
    assert "nonce" in caught.value.reason


def test_the_nonce_as_old_librdkafka_sends_it_is_understood() -> None:
    exchange, client = exchange_of(verifier("pw")), ScramClient("alice", "pw")
    client.repeats_nonce = True
    answer, _ = exchange.final(client.final(exchange.first(client.first())))
    assert answer == client.server_final()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"c=biws", b"c=eSws", "channel binding"),
        (b"c=biws", b"c=!", "not a SCRAM message"),
        (b",p=", b",p=AA==,p=", "not a SCRAM message"),
        (b",r=client", b",r=clienT", "nonce"),
        (b",p=", b",m=must,p=", "not a SCRAM message"),
        (b",p=", b",p=AAA", "not base64"),
    ],
)
def test_final_messages_that_were_changed_are_refused(old: bytes, new: bytes, reason: str) -> None:
    exchange, client = exchange_of(verifier("pw")), ScramClient("alice", "pw")
    final = client.final(exchange.first(client.first()))
    assert old in final
    with pytest.raises(AuthenticationFailed) as caught:
        exchange.final(final.replace(old, new, 1))
    assert reason in caught.value.reason


def test_a_proof_of_another_length_is_refused() -> None:
    exchange, client = exchange_of(verifier("pw")), ScramClient("alice", "pw")
    final = client.final(exchange.first(client.first()))
    with pytest.raises(AuthenticationFailed) as caught:
        exchange.final(final.partition(b",p=")[0] + b",p=AAAA")
    assert "length" in caught.value.reason


def test_unknown_users_get_a_challenge_like_the_others_and_the_same_one_each_time() -> None:
    admin = MemoryAdmin(alice="pw")
    service = authentication(admin)

    def challenge(name: str) -> dict[str, str]:
        answer = service.exchange("SCRAM-SHA-512", "h").step(ScramClient(name, "x").first()).result()
        return dict(part.split("=", 1) for part in answer.decode().split(","))

    known, unknown, again, other = map(challenge, ("alice", "mallory", "mallory", "eve"))
    assert (unknown["i"], len(unknown["s"])) == (known["i"], len(known["s"]))
    assert unknown["s"] == again["s"] != other["s"]
    assert unknown["r"] != again["r"]


def test_decoys_imitate_the_salts_and_iterations_of_the_users_that_exist() -> None:
    admin = MemoryAdmin()
    for name in ("alice", "bob"):
        admin.put_verifiers(name, [scram.make_verifier(SHA_512, "pw", b"1a2b3c4d5e", 5_000)])
    service = authentication(admin)
    answer = service.exchange("SCRAM-SHA-512", "h").step(b"n,,n=mallory,r=x").result().decode()
    assert answer.endswith(",i=5000")
    salt = base64.b64decode(answer.split(",s=")[1].split(",")[0])
    assert len(salt) == 10
    assert salt.isalnum()


def test_verifiers_out_of_range_are_refused() -> None:
    for iterations in (4_095, 16_385):
        with pytest.raises(ValueError, match="iterations"):
            scram.verifier_of(SHA_256, b"x" * 32, b"salt", iterations)
    with pytest.raises(ValueError, match="salted password"):
        scram.verifier_of(SHA_512, b"x" * 32, b"salt", 4_096)
    with pytest.raises(ValueError, match="salt of 0"):
        scram.verifier_of(SHA_256, b"x" * 32, b"", 4_096)
