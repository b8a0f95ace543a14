"""Reads the security of a client from a file of properties, named as in Java's clients or in librdkafka.

Owns: what the names mean. Refuses: Java's key stores, encrypted keys and Kerberos, with what to do instead;
other names are ignored, because such a file is often that of another program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mainstem.client_security import MECHANISMS, ClientSecurity, ClientSecurityError, protocol_of

JAAS_OPTION = re.compile(r"""(\w+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|'([^']*)'|([^\s;"']+))""")
ALIASES = {
    "sasl.mechanisms": "sasl.mechanism",
    "ssl.ca.location": "ca",
    "ssl.truststore.location": "ca",
    "ssl.certificate.location": "cert",
    "ssl.keystore.location": "cert",
    "ssl.key.location": "key",
}
REFUSED = {
    "ssl.key.password": "an encrypted key: give one that is not, of mode 0600",
    "ssl.keystore.password": "Java's key stores: give PEM files (ssl.keystore.type=PEM)",
    "ssl.truststore.password": "Java's key stores: give PEM files (ssl.truststore.type=PEM)",
    "ssl.truststore.certificates": "certificates in the file itself: give ssl.truststore.location",
    "ssl.keystore.certificate.chain": "certificates in the file itself: give ssl.keystore.location",
    "ssl.keystore.key": "a key in the file itself: give ssl.keystore.location",
    "ssl.ca.pem": "certificates in the file itself: give ssl.ca.location",
    "ssl.key.pem": "a key in the file itself: give ssl.key.location",
}


@dataclass(frozen=True, slots=True)
class ClientProperties:
    """What a file of properties says."""

    security: ClientSecurity
    addresses: str = ""
    """`bootstrap.servers`, if it is there."""


def read_properties(path: str) -> ClientProperties:
    """The properties in the file. ClientSecurityError: it cannot be read, or has what no connection can be
    made with."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ClientSecurityError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClientSecurityError(f"{path} is not UTF-8") from None
    values = dict(_properties(text))
    try:
        return ClientProperties(_security(values), values.get("bootstrap.servers", ""))
    except ClientSecurityError as error:
        raise ClientSecurityError(f"{path}: {error}") from None


def _properties(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\r?\n\s*", "", text)  # a backslash at the end of a line continues it
    for line in joined.splitlines():
        line = line.strip()
        if line and line[0] not in "#!":
            name, _, value = line.partition("=")
            name = name.strip()
            yield ALIASES.get(name, name), value.strip()


def _security(values: Mapping[str, str]) -> ClientSecurity:
    for name, problem in REFUSED.items():
        if values.get(name):
            raise ClientSecurityError(f"{name} is for {problem}")
    for kind in ("ssl.truststore.type", "ssl.keystore.type"):
        if values.get(kind, "PEM").upper() != "PEM":
            raise ClientSecurityError(f"{kind}={values[kind]}: only PEM can be read")
    protocol = protocol_of(values.get("security.protocol", "PLAINTEXT"))
    given: dict[str, Any] = {name: values[name] for name in ("ca", "cert", "key") if values.get(name)}
    if "ssl.endpoint.identification.algorithm" in values:
        algorithm = values["ssl.endpoint.identification.algorithm"].lower()
        given["checks_host"] = algorithm not in ("", "none")
    if protocol.startswith("SASL"):
        given |= _login(values)
    return ClientSecurity(protocol=protocol, **given)


def _login(values: Mapping[str, str]) -> dict[str, str]:
    mechanism = values.get("sasl.mechanism", "GSSAPI").upper()
    if mechanism not in MECHANISMS:
        raise ClientSecurityError(f"sasl.mechanism={mechanism} is none of {', '.join(MECHANISMS)}")
    login = {
        "mechanism": mechanism,
        "user": values.get("sasl.username", ""),
        "password": values.get("sasl.password", ""),
    }
    for name, quoted, single, plain in JAAS_OPTION.findall(values.get("sasl.jaas.config", "")):
        value = re.sub(r"\\(.)", r"\1", quoted) or single or plain
        if name == "username":
            login["user"] = value
        elif name == "password":
            login["password"] = value
    if mechanism != "OAUTHBEARER" and not login["user"]:
        raise ClientSecurityError(f"{mechanism} needs sasl.username and sasl.password, or sasl.jaas.config")
    return login
