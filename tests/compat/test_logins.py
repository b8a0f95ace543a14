"""Real clients log in: each by TLS and each mechanism that it has, and Kafka's own tool manages the users.

The programs are those of the other suites; how they log in is in the variables COMPAT_LOGIN (JSON) and
COMPAT_JAVA_LOGIN (properties).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest
from confluent_kafka import Consumer, Producer

from tests.authentication.kit import jwks, signing_key
from tests.compat import suites
from tests.compat.apache_kafka import java
from tests.support.server import Server

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
PASSWORDS = (*SCRAM, "PLAIN")
MECHANISMS = {
    "confluent_kafka": (*PASSWORDS, "OAUTHBEARER"),
    "kafka_python": (*PASSWORDS, "OAUTHBEARER"),
    "aiokafka": (*PASSWORDS, "OAUTHBEARER"),
    "kcat": PASSWORDS,
    "franz": (*PASSWORDS, "OAUTHBEARER"),
    "sarama": (*PASSWORDS, "OAUTHBEARER"),
    "kafkajs": (*PASSWORDS, "OAUTHBEARER"),
    "java_clients": ("SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"),
}
PASSWORD = "p4ss w0rd!"
OTHER_PASSWORD = "another-one"
ISSUER, AUDIENCE = "https://idp.test", "mainstem"


@dataclasses.dataclass
class Rig:
    """A server with TLS, the user alice and an issuer of tokens."""

    server: Server
    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "certs" / "ca.pem"

    def token(self) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600}
        claims["iat"] = int(time.time())
        return jwt.encode(claims, signing_key("ec"), algorithm="ES256", headers={"kid": "ec"})

    def environ(self, mechanism: str, password: str = PASSWORD) -> dict[str, str]:
        """The variables for a client that logs in by the mechanism."""
        login = {"security": "SASL_SSL", "ca": str(self.ca), "mechanism": mechanism}
        if mechanism == "OAUTHBEARER":
            login["token"] = self.token()
        else:
            login |= {"user": "alice", "password": password}
        return {
            "COMPAT_LOGIN": json.dumps(login),
            "COMPAT_JAVA_LOGIN": "\n".join(f"{name}={value}" for name, value in self.java(mechanism).items()),
            "JAVA_TOOL_OPTIONS": f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.token_url}",
        }

    @property
    def token_url(self) -> str:
        return (self.folder / "token").as_uri()

    def java(self, mechanism: str) -> dict[str, str]:
        """The same as Java's properties."""
        package = "org.apache.kafka.common.security"
        settings = {
            "security.protocol": "SASL_SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            "sasl.mechanism": mechanism,
        }
        if mechanism == "OAUTHBEARER":
            (self.folder / "token").write_text(self.token())
            settings["sasl.oauthbearer.token.endpoint.url"] = self.token_url
            handler = f"{package}.oauthbearer.OAuthBearerLoginCallbackHandler"
            settings["sasl.login.callback.handler.class"] = handler
            settings["sasl.jaas.config"] = f"{package}.oauthbearer.OAuthBearerLoginModule required ;"
        else:
            module = "scram.Scram" if mechanism in SCRAM else "plain.Plain"
            user = f'username="alice" password="{PASSWORD}"'
            settings["sasl.jaas.config"] = f"{package}.{module}LoginModule required {user};"
        return settings


def mainstem(*arguments: str, text: str = "") -> None:
    """Run a command."""
    command = [sys.executable, "-m", "mainstem", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serving(tmp_path_factory.mktemp("logins")) as rig:
        yield rig


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Rig]:
    """A rig in this folder."""
    (folder / "keys.json").write_bytes(jwks("ec"))
    mainstem("certs", "--dir", str(folder / "certs"))
    with Server(folder / "data").start():
        pass  # makes the folder
    mainstem(
        "users", "add", "alice", "--data", str(folder / "data"), "--new-password-file", "-",
        text=PASSWORD + "\n",
    )  # fmt: skip
    server = Server(
        folder / "data",
        kafka="SASL_SSL://127.0.0.1:0",
        tls_cert=folder / "certs" / "server.pem",
        tls_key=folder / "certs" / "server-key.pem",
        sasl_enabled_mechanisms="SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
        sasl_oauthbearer_jwks_endpoint_url=(folder / "keys.json").as_uri(),
        sasl_oauthbearer_expected_issuer=ISSUER,
        sasl_oauthbearer_expected_audience=AUDIENCE,
        access_control=True,
        super_users="User:alice",
        **settings,
    )
    with server.start():
        yield Rig(server, folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("client", "mechanism"),
    [(client, mechanism) for client, mechanisms in MECHANISMS.items() for mechanism in mechanisms],
)
def test_a_client_logs_in_by_tls_and_each_mechanism_that_it_has(
    rig: Rig, client: str, mechanism: str
) -> None:
    suites.need(client)
    cases = ["headers", "group-commits-survive"] if mechanism == "SCRAM-SHA-512" else ["headers"]
    result = suites.run(client, rig.server.address, *cases, environ=rig.environ(mechanism))
    assert result.passed == set(cases), result.output[-4_000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kafkas_own_tool_adds_describes_and_deletes_users(rig: Rig) -> None:
    suites.need("java_tools")
    (rig.folder / "admin.properties").write_text(
        "\n".join(f"{name}={value}" for name, value in rig.java("SCRAM-SHA-256").items())
    )

    def configs(*arguments: str) -> str:
        command = java(
            "256m", "org.apache.kafka.tools.ConfigCommand", "--bootstrap-server", rig.server.address,
            "--command-config", str(rig.folder / "admin.properties"), "--entity-type", "users",
            "--entity-name", "bob", *arguments,
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    configs("--alter", "--add-config", f"SCRAM-SHA-512=[iterations=8192,password={OTHER_PASSWORD}]")
    assert "SCRAM-SHA-512=iterations=8192" in configs("--describe")
    environ = rig.environ("SCRAM-SHA-512", OTHER_PASSWORD)
    environ["COMPAT_LOGIN"] = environ["COMPAT_LOGIN"].replace('"alice"', '"bob"')
    result = suites.run("kcat", rig.server.address, "headers", environ=environ)
    assert "uthorization failed" in result.output, "bob is known, and has no rights"
    configs("--alter", "--delete-config", "SCRAM-SHA-512")
    assert "SCRAM-SHA-512" not in configs("--describe")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_clients_renew_their_sessions_and_notice_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, connections_max_reauth_ms=2_000) as rig:
        errors: list[object] = []
        settings = {
            "bootstrap.servers": rig.server.address,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(rig.ca),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "alice",
            "sasl.password": PASSWORD,
            "error_cb": errors.append,
        }
        producer = Producer(settings)
        consumer = Consumer({**settings, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["t"])
        values = []
        for number in range(24):
            producer.produce("t", str(number))
            assert producer.flush(10) == 0
            message = consumer.poll(0.25)
            values += [] if message is None or message.error() else [message.value()]
        while len(values) < 24:
            message = consumer.poll(10)
            assert message is not None
            values += [] if message.error() else [message.value()]
        consumer.close()
        assert values == [str(number).encode() for number in range(24)]
        assert errors == []
        assert "session expired" not in rig.server.logs()
