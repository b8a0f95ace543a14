"""Listeners with names: what the settings say for each, and which addresses are safe to serve."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest

from mainstem.access_contract import ANONYMOUS, Principal
from mainstem.doors.contract import Door, DoorStatus, Listener
from mainstem.doors.http import DOOR as HTTP
from mainstem.doors.kafka import DOOR as KAFKA
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.security import SecurityProtocol
from mainstem.serve.binding import bind_listeners, plan_doors
from mainstem.serve.errors import CannotServe
from mainstem.settings import load

WITH_LOGIN = (
    dataclasses.replace(KAFKA, mechanisms=("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER")),
    dataclasses.replace(HTTP, mechanisms=("PLAIN", "OAUTHBEARER")),
)
WITHOUT_LOGIN = tuple(dataclasses.replace(door, mechanisms=()) for door in (KAFKA, HTTP))


def bound(declared: tuple[Door, ...] = WITH_LOGIN, **given: Any) -> list[Listener]:
    """The listeners that these settings bind."""
    of_doors = tuple(definition for door in declared for definition in door.definitions)
    settings = load({"doors": "kafka", **given}, of_doors=of_doors)
    with contextlib.ExitStack() as sockets:
        listeners, _ = bind_listeners(settings, plan_doors(settings, declared), sockets)
        return [entry.listener for entry in listeners]


def refusal(declared: tuple[Door, ...] = WITH_LOGIN, **given: Any) -> tuple[str, str]:
    """Why these settings are refused."""
    with pytest.raises(CannotServe) as refused:
        bound(declared, **given)
    return refused.value.reason, str(refused.value)


def test_an_address_without_a_name_is_plaintext() -> None:
    (listener,) = bound(kafka="127.0.0.1:0")
    assert (listener.name, listener.security) == ("PLAINTEXT", SecurityProtocol.PLAINTEXT)
    assert (listener.mechanisms, listener.default_principal) == ((), ANONYMOUS)
    assert listener.advertised == listener.address


def test_a_door_has_several_listeners_each_with_its_own_settings() -> None:
    inside, outside, local = bound(
        kafka="inside://127.0.0.1:0, SASL_PLAINTEXT://127.0.0.1:0, 127.0.0.1:0",
        listener_security_protocol_map="INSIDE:PLAINTEXT, OTHER:SASL_SSL",
        advertise="INSIDE://kafka.internal:9092,stream.example.org",
        listener_settings="INSIDE.default_principal=User:jobs;"
        " sasl_plaintext.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
        default_principal="User:local",
    )
    assert (inside.name, inside.security) == ("INSIDE", SecurityProtocol.PLAINTEXT)
    assert inside.advertised == HostPort("kafka.internal", 9092)
    assert inside.default_principal == Principal("User", "jobs")
    assert outside.security is SecurityProtocol.SASL_PLAINTEXT
    assert outside.mechanisms == ("PLAIN", "SCRAM-SHA-512")
    assert outside.advertised == HostPort("stream.example.org", outside.address.port)
    assert local.default_principal == Principal("User", "local")


def test_without_tls_only_loopback_is_offered_mechanisms_that_send_the_password() -> None:
    every = "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER"
    given: dict[str, Any] = {"sasl_enabled_mechanisms": every, "advertise": "a.example"}
    (listener,) = bound(kafka="SASL_PLAINTEXT://127.0.0.1:0", **given)
    assert listener.mechanisms == tuple(every.split(","))
    for address in ("0.0.0.0", ""):
        (listener,) = bound(kafka=f"SASL_PLAINTEXT://{address}:0", **given)
        assert listener.mechanisms == ("SCRAM-SHA-256", "SCRAM-SHA-512")
    given["sasl_enabled_mechanisms"] = "PLAIN"
    reason, message = refusal(kafka="SASL_PLAINTEXT://0.0.0.0:0", **given)
    assert reason == "refused"
    assert "without TLS others can read the passwords that clients of the Kafka door send (PLAIN)" in message
    # Permitting anonymous clients does not permit that passwords are read.
    assert refusal(kafka="SASL_PLAINTEXT://0.0.0.0:0", allow_anonymous=True, **given)[0] == "refused"
    assert refusal(doors="http", http="SASL_PLAINTEXT://0.0.0.0:0")[0] == "refused"  # Basic and Bearer only
    (listener,) = bound(doors="http", http="SASL_PLAINTEXT://[::1]:0")
    assert "PLAIN" in listener.mechanisms


@pytest.mark.parametrize("name", ["PLAINTEXT", "INSIDE"])
def test_an_address_of_others_is_refused_if_clients_do_not_log_in(name: str) -> None:
    given: dict[str, Any] = {"listener_security_protocol_map": "INSIDE:PLAINTEXT", "advertise": "a.example"}
    reason, message = refusal(kafka=f"{name}://0.0.0.0:0", **given)
    assert reason == "refused"
    assert "is open to others and there is no authentication" in message
    assert bound(kafka=f"{name}://0.0.0.0:0", allow_anonymous=True, **given)


def test_a_door_without_a_login_refuses_listeners_that_ask_for_one() -> None:
    for door in ("kafka", "http"):
        reason, message = refusal(WITHOUT_LOGIN, doors=door, **{door: "SASL_PLAINTEXT://127.0.0.1:0"})
        assert reason == "usage"
        assert "so no client could log in" in message


def test_the_protocol_of_all_addresses_without_a_name() -> None:
    (listener,) = bound(kafka="127.0.0.1:0", security_protocol="sasl_plaintext")
    assert (listener.name, listener.security) == ("SASL_PLAINTEXT", SecurityProtocol.SASL_PLAINTEXT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kafka": "SASLSSL://127.0.0.1:0"}, "no listener has the name SASLSSL: did you mean SASL_SSL?"),
        ({"kafka": "a b://127.0.0.1:0"}, "'a b://127.0.0.1:0' is not NAME://HOST:PORT"),
        ({"security_protocol": "nonsense"}, "no listener has the name NONSENSE"),
        ({"listener_security_protocol_map": "INSIDE"}, "'INSIDE' is not NAME:PROTOCOL"),
        ({"listener_security_protocol_map": "INSIDE:TLS"}, "'INSIDE:TLS' is not NAME:PROTOCOL"),
        ({"listener_security_protocol_map": "SSL:PLAINTEXT"}, "a listener SSL that is PLAINTEXT misleads"),
        ({"listener_settings": "INSIDE"}, "'INSIDE' is not NAME.SETTING=VALUE"),
        ({"listener_settings": "SSL.data=/"}, "'SSL.data=/' is not NAME.SETTING=VALUE"),
        ({"listener_settings": "X.default_principal=User:a"}, "no listener has the name X"),
        ({"advertise": "X://a.example"}, "no listener has the name X"),
        ({"default_principal": "anybody"}, "default_principal: 'anybody' is not a principal"),
        (
            {"kafka": "SASL_PLAINTEXT://127.0.0.1:0", "sasl_enabled_mechanisms": "GSSAPI"},
            "sasl_enabled_mechanisms: there is no mechanism GSSAPI",
        ),
        (
            {"kafka": "127.0.0.1:7,SASL_PLAINTEXT://127.0.0.1:7"},
            "--kafka SASL_PLAINTEXT://127.0.0.1:7 contradicts 127.0.0.1:7, the same address",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr("mainstem.serve.binding.listen_on", lambda *_: socket.socket())
    reason, text = refusal(**({"kafka": "127.0.0.1:0"} | given))
    assert reason == "usage"
    assert message in text


def test_a_status_names_the_protocol_unless_it_is_plaintext() -> None:
    status = DoorStatus(
        name="kafka",
        title="Kafka",
        flag="--kafka",
        addresses=(HostPort("127.0.0.1", 9092), HostPort("::", 9093)),
        security=(SecurityProtocol.PLAINTEXT, SecurityProtocol.SASL_SSL),
    )
    assert status.text == "127.0.0.1:9092,SASL_SSL://[::]:9093"
