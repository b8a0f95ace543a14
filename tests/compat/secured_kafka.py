"""A real Apache Kafka with TLS, logins and its own authorizer, for tests of clients with credentials.

Owns: its two accounts and its listeners. One of the listeners asks for a login, SASL_SSL with PLAIN, the
other for a certificate. Who is no super user may do what entries of Kafka's authorizer allow, so nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mainstem.client_security import ClientSecurity
from tests.compat.apache_kafka import apache_kafka
from tests.support.certificates import client_files, server_files
from tests.support.ports import free_port

USER, PASSWORD = "alice", "a secret, with = and ,"
"""The account that may do everything."""
GUEST, GUEST_PASSWORD = "guest", "of little use"
"""The account that may do nothing until somebody adds entries."""
SETTINGS = """
listeners=SASL_SSL://127.0.0.1:{port},CERT://127.0.0.1:{cert_port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://127.0.0.1:{port},CERT://127.0.0.1:{cert_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,CERT:SSL
inter.broker.listener.name=SASL_SSL
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={module} required {logins};
listener.name.cert.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{user};User:CN={user};User:ANONYMOUS
"""


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """The broker that runs."""

    address: str
    """HOST:PORT at which clients log in."""
    cert_address: str
    """HOST:PORT at which they show a certificate."""
    ca: Path

    def login(self, user: str = USER, password: str = PASSWORD) -> ClientSecurity:
        """What a client of this account needs."""
        return ClientSecurity(
            protocol="SASL_SSL", ca=str(self.ca), mechanism="PLAIN", user=user, password=password
        )

    def certificate(self) -> ClientSecurity:
        """What a client with a certificate of the super user needs."""
        files = client_files(USER)
        return ClientSecurity(protocol="SSL", ca=str(self.ca), cert=str(files.cert), key=str(files.key))

    def write_properties(self, path: Path, user: str = USER, password: str = PASSWORD) -> Path:
        """Write a client's file of properties for this account, named as in Java."""
        path.write_text(
            f"bootstrap.servers={self.address}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n"
            "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required"
            f' username="{user}" password="{password}";\n'
            f"ssl.truststore.type=PEM\nssl.truststore.location={self.ca}\n"
        )
        path.chmod(0o600)
        return path


@contextlib.contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """Run it; `folder` gets its key."""
    port, cert_port, files = free_port(), free_port(), server_files()
    keystore = folder / "kafka.pem"
    keystore.write_text(files.key.read_text() + files.cert.read_text())
    accounts = {USER: PASSWORD, GUEST: GUEST_PASSWORD}
    logins = " ".join(f'user_{name}="{password}"' for name, password in accounts.items())
    extra = SETTINGS.format(
        port=port,
        cert_port=cert_port,
        controller=free_port(),
        module="org.apache.kafka.common.security.plain.PlainLoginModule",
        logins=f'username="{USER}" password="{PASSWORD}" {logins}',
        keystore=keystore,
        ca=files.ca,
        user=USER,
    )
    with apache_kafka(port, extra) as address:
        yield SecuredKafka(address, f"127.0.0.1:{cert_port}", files.ca)
