"""The names of listeners, and what the settings say for each.

Owns: the meaning of `[NAME://]HOST:PORT`, `listener_security_protocol_map`, `listener_settings` and
`advertise`. Refuses: names that no protocol is given for, and settings that a listener does not have. Whether
an address is safe to serve is decided in `binding`.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mainstem.access_contract import Principal
from mainstem.doors.net.address import AddressError, HostPort, parse_named
from mainstem.doors.net.security import MECHANISMS, SecurityProtocol
from mainstem.serve.errors import CannotServe
from mainstem.settings import Settings

SETTINGS_OF_LISTENERS = {
    "sasl_enabled_mechanisms": "sasl.enabled.mechanisms",
    "default_principal": None,
    "tls_cert": "ssl.keystore.location",
    "tls_key": None,
    "tls_client_ca": "ssl.truststore.location",
    "tls_client_auth": "ssl.client.auth",
    "tls_min_version": None,
    "ssl_principal_mapping_rules": "ssl.principal.mapping.rules",
}
"""The settings that `listener_settings` may give to one listener -> Kafka's name for them."""

C = TypeVar("C", bound=str)


@dataclass(frozen=True, slots=True)
class NamedAddress:
    """An address to bind, and the name of its listener."""

    name: str
    address: HostPort

    def __str__(self) -> str:
        plain = self.name == SecurityProtocol.PLAINTEXT
        return str(self.address) if plain else f"{self.name}://{self.address}"


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Convert an AddressError raised in the context to CannotServe(usage), which has its message."""
    try:
        yield
    except AddressError as error:
        raise CannotServe("usage", str(error)) from None


class ListenerNames:
    """What the settings say for each listener, by its name. CannotServe(usage): they make no sense."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._protocols = {protocol.value: protocol for protocol in SecurityProtocol}
        self._protocols.update(_protocol_map(settings.listener_security_protocol_map))
        self._values = _values_by_listener(settings.listener_settings)
        self._default = settings.security_protocol.upper()
        self._advertised = dict(_advertised(settings.advertise))
        for name in (self._default, *self._values, *self._advertised):
            if name:
                self.security(name, "the settings of listeners")

    def parse(self, text: str, flag: str) -> NamedAddress:
        """Read `[NAME://]HOST:PORT`, given by `flag`."""
        with usage_errors():
            name, address = parse_named(text, flag)
        return self.named(address, flag, name)

    def named(self, address: HostPort, flag: str, name: str = "") -> NamedAddress:
        """The address with the name, or that of `security_protocol` if there is none."""
        self.security(name or self._default, f"{flag} {name}://{address}")
        return NamedAddress(name or self._default, address)

    def security(self, name: str, where: str = "") -> SecurityProtocol:
        """The security protocol of a listener. `where` names what gave the name, for the error."""
        if name not in self._protocols:
            near = difflib.get_close_matches(name, self._protocols, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it is none of {', '.join(self._protocols)}"
            raise CannotServe(
                "usage",
                f"{where}: no listener has the name {name}: {hint};"
                f" listener_security_protocol_map={name}:SASL_SSL gives the name a protocol",
            )
        return self._protocols[name]

    def mechanisms(self, name: str) -> tuple[str, ...]:
        """The SASL mechanisms that are enabled on a listener, wherever they are safe; empty if its clients do
        not log in."""
        if not self.security(name).authenticates:
            return ()
        enabled = self.value(name, "sasl_enabled_mechanisms").replace(",", " ").upper().split()
        for mechanism in enabled:
            if mechanism not in MECHANISMS:
                raise CannotServe(
                    "usage",
                    f"sasl_enabled_mechanisms: there is no mechanism {mechanism};"
                    f" there are {', '.join(MECHANISMS)}",
                )
        return tuple(dict.fromkeys(enabled))

    def default_principal(self, name: str) -> Principal:
        """Who clients of a listener are that do not authenticate."""
        try:
            return Principal.parse(self.value(name, "default_principal"))
        except ValueError as error:
            raise CannotServe("usage", f"default_principal: {error}") from None

    def value(self, name: str, setting: str) -> str:
        """The value of a text setting for a listener: its own, or the one for all."""
        own = self._values.get(name, {}).get(setting)
        return str(getattr(self.settings, setting) or "") if own is None else own

    def choice(self, name: str, setting: str, choices: Iterable[C]) -> C:
        """The value of a setting for a listener that is one of `choices`."""
        value = self.value(name, setting)
        for choice in choices:
            if choice == value:
                return choice
        raise CannotServe("usage", f"{setting} of {name}: {value!r} is not one of {', '.join(choices)}")

    def is_advertised(self, name: str) -> bool:
        """Whether `advertise` gives an address for a listener."""
        return name in self._advertised or "" in self._advertised

    def advertised(self, name: str, bound: HostPort) -> HostPort:
        """The address that clients of a listener are given to connect to: `advertise`, whose port may be 0 or
        left out for the bound one; else the bound address."""
        advertised = self._advertised.get(name) or self._advertised.get("")
        if advertised is None:
            return bound
        return HostPort(advertised.host, advertised.port or bound.port)


def _protocol_map(text: str) -> Iterator[tuple[str, SecurityProtocol]]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, colon, protocol = part.upper().partition(":")
        if not (name and colon) or protocol not in SecurityProtocol.__members__:
            raise CannotServe(
                "usage",
                f"listener_security_protocol_map: {part!r} is not NAME:PROTOCOL;"
                f" the protocols are {', '.join(SecurityProtocol)}",
            )
        if name in SecurityProtocol.__members__ and protocol != name:
            raise CannotServe(
                "usage", f"listener_security_protocol_map: a listener {name} that is {protocol} misleads"
            )
        yield name, SecurityProtocol(protocol)


def _values_by_listener(text: str) -> Mapping[str, dict[str, str]]:
    by_kafka_name = {kafka: name for name, kafka in SETTINGS_OF_LISTENERS.items() if kafka}
    values: dict[str, dict[str, str]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        left, equals, value = part.partition("=")
        name, dot, setting = left.strip().partition(".")
        setting = by_kafka_name.get(setting, setting)
        if not (name and dot and equals) or setting not in SETTINGS_OF_LISTENERS:
            raise CannotServe(
                "usage",
                f"listener_settings: {part!r} is not NAME.SETTING=VALUE;"
                f" the settings are {', '.join(SETTINGS_OF_LISTENERS)}",
            )
        values.setdefault(name.upper(), {})[setting] = value.strip()
    return values


def _advertised(text: str | None) -> Iterator[tuple[str, HostPort]]:
    for part in (text or "").split(",") if text else ():
        with usage_errors():
            name, address = parse_named(part, "--advertise", port=0)
        if address.is_wildcard:
            raise CannotServe(
                "refused",
                f"--advertise {address}: clients cannot connect to a wildcard address; name a host",
            )
        yield name, address
