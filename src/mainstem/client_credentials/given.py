"""What follows from the credentials that are given, by name: in options of a command, or in variables.

Owns: the names, how they go together, and the variables of a program that uses the API. Refuses: a password
or a token as a value, and to send a secret where others could read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mainstem.client_credentials.contexts import contexts_path, read_context
from mainstem.client_credentials.secret_files import check_private, read_secret
from mainstem.client_properties import read_properties
from mainstem.client_security import (
    MECHANISMS,
    PLAINTEXT,
    PROTOCOLS,
    ClientSecurity,
    ClientSecurityError,
    protocol_of,
)

NAMES = (
    "ca",
    "cert",
    "cert_key",
    "user",
    "password_file",
    "token_file",
    "sasl_mechanism",
    "client_config",
)


def variable_of(name: str) -> str:
    """The environment variable of a credential, or of the address, "at"."""
    return f"MAINSTEM_{name.upper()}"


def option_of(name: str) -> str:
    """The option of a command."""
    return "--" + name.replace("_", "-")


def configured_address(given: Mapping[str, str]) -> str:
    """The address that a context or a file of properties has; empty: none. ClientSecurityError: the file
    cannot be used."""
    if address := given.get("at"):
        return address
    return read_properties(given["client_config"]).addresses if "client_config" in given else ""


def place_of_variables(environ: Mapping[str, str], address: str) -> tuple[str, ClientSecurity]:
    """Where a program that uses the API connects, and how: `address`, or what MAINSTEM_AT, the context of
    MAINSTEM_CONTEXT or the file of MAINSTEM_CLIENT_CONFIG says; empty: none of them. As for a command,
    SASL_SSL://HOST:PORT has the protocol in it. ClientSecurityError: they make no sense."""
    given: dict[str, str] = {}
    if context := environ.get("MAINSTEM_CONTEXT"):
        given = read_context(context, contexts_path(environ), NAMES)
    given |= {name: value for name in NAMES if (value := environ.get(variable_of(name)))}
    address = address or environ.get("MAINSTEM_AT") or configured_address(given)
    brokers, protocol = split_address(address)
    return brokers, security_of({**given, **protocol}, variable_of)


def split_address(address: str) -> tuple[str, dict[str, str]]:
    """The address without the security protocol in front of it, and that protocol as a credential that is
    given."""
    protocol, separator, brokers = address.rpartition("://")
    if separator and protocol.upper() in PROTOCOLS:
        return brokers, {"protocol": protocol.upper()}
    return address, {}


def security_of(given: Mapping[str, str], spelled: Callable[[str], str] = option_of) -> ClientSecurity:
    """What follows from the credentials that are given, by name; `spelled` is how messages call them.
    ClientSecurityError: they make no sense."""
    security = PLAINTEXT
    if "client_config" in given:
        security = read_properties(given["client_config"]).security
        if security.password:
            check_private(given["client_config"])
    changes: dict[str, Any] = {name: given[name] for name in ("ca", "cert", "user") if name in given}
    if "cert_key" in given:
        changes["key"] = given["cert_key"]
    if "token_file" in given:
        changes |= {"token": read_secret(given["token_file"]), "mechanism": "OAUTHBEARER"}
    if "password_file" in given:
        changes["password"] = read_secret(given["password_file"])
    if "sasl_mechanism" in given:
        changes["mechanism"] = given["sasl_mechanism"].upper()
        if changes["mechanism"] not in MECHANISMS:
            raise ClientSecurityError(
                f"{spelled('sasl_mechanism')}: {given['sasl_mechanism']} is none of {', '.join(MECHANISMS)}"
            )
    security = replace(security, **changes)
    has_login = bool(security.user or security.token)
    if security.user and not security.password and not security.token:
        raise ClientSecurityError(f"{spelled('user')} {security.user} needs {spelled('password_file')} FILE")
    if "protocol" in given:
        security = replace(security, protocol=protocol_of(given["protocol"]))
        if security.has_login and not has_login:
            raise ClientSecurityError(
                f"{security.protocol} needs {spelled('user')} and {spelled('password_file')},"
                f" or {spelled('token_file')}"
            )
    elif security.protocol == "PLAINTEXT" and changes:
        has_tls = bool(security.ca or security.cert)
        sends_secret = has_login and security.mechanism in ("PLAIN", "OAUTHBEARER")
        if sends_secret and not has_tls and "door" not in given:  # the HTTP client looks where it sends it
            raise ClientSecurityError(
                f"{security.mechanism} sends the secret itself: add {spelled('ca')} FILE, or say"
                f" {spelled('at')} SASL_PLAINTEXT://… or SASL_SSL://…"
            )
        security = replace(
            security, protocol=protocol_of("SASL_" * has_login + ("SSL" if has_tls else "PLAINTEXT"))
        )
    return security
