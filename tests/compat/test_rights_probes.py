"""A user's requests are refused by mainstem as by Apache Kafka with its StandardAuthorizer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import msgspec
import pytest

from mainstem.access_contract import ScramMechanism
from mainstem.authentication.scram import make_verifier
from mainstem.http_api.access import NewUserJson, verifier_json
from tests.compat import apache_kafka
from tests.compat.rights_probes import PASSWORD, SITUATIONS, USER, transcript
from tests.support.ports import free_port
from tests.support.server import Server

KAFKA_SETTINGS = """
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


@contextlib.contextmanager
def kafka_with_users() -> Iterator[tuple[str, str]]:
    """A fresh Apache Kafka with access control: the addresses for the administrator, who is anonymous, and
    for alice."""
    port, sasl, controller = free_port(), free_port(), free_port()
    extra = KAFKA_SETTINGS.format(port=port, sasl=sasl, controller=controller, user=USER, password=PASSWORD)
    with apache_kafka.apache_kafka(port, extra) as address:
        yield address, f"127.0.0.1:{sasl}"


@contextlib.contextmanager
def mainstem_with_users(folder: Path) -> Iterator[tuple[str, str]]:
    """As `kafka_with_users`, for mainstem."""
    settings = {
        "kafka": "127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0",
        "http": "127.0.0.1:0",
        "doors": "kafka,http",
        "sasl_enabled_mechanisms": "PLAIN",
        "access_control": "true",
        "super_users": "User:ANONYMOUS",
    }
    with Server(folder / "data", **settings).start() as server:
        verifier = make_verifier(ScramMechanism.SHA_256, PASSWORD, b"salt of the test")
        body = msgspec.json.encode(NewUserJson(USER, [verifier_json(verifier)]))
        headers = {"Content-Type": "application/json"}
        urlopen(Request(f"http://{server.http}/api/v1/users", body, headers)).close()
        ports = re.findall(r"127\.0\.0\.1:(\d+)", server.ready_line.partition("  http=")[0])
        yield f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_requests_without_a_right_are_refused_as_by_apache_kafka(tmp_path: Path) -> None:
    if not list(apache_kafka.JARS.glob("kafka_2.13-*.jar")):
        pytest.skip("no Apache Kafka: run `make deps-all`")
    with mainstem_with_users(tmp_path) as addresses:
        ours = transcript(*addresses)
    with kafka_with_users() as addresses:
        theirs = transcript(*addresses)
    for situation in SITUATIONS:
        assert ours[situation] == theirs[situation], situation
