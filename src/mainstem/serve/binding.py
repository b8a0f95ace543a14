"""Decides which doors are on, and binds the sockets of their listeners.

Owns: the meaning of `--doors`, `--bind` and each door's address, whether an address is safe to serve on, and
what a taken port means. Two doors with the same address share one listener. The sockets do not listen yet:
until the log is recovered, clients are refused and try again. Refuses: settings that contradict each other,
addresses that other machines reach and whose clients do not authenticate, unless that is permitted, and
logins that others could read.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mainstem.doors.contract import Door, Listener
from mainstem.doors.net.address import LOOPBACK, HostPort
from mainstem.doors.net.security import is_safe
from mainstem.doors.net.tls import ServerTls
from mainstem.serve.certificate_watch import server_tls
from mainstem.serve.errors import CannotServe
from mainstem.serve.listener_names import ListenerNames, NamedAddress
from mainstem.settings import Settings

log = logging.getLogger("mainstem.serve.binding")

ALL_DOORS = "all"
WAYS_TO_BE_SAFE = (
    "use 127.0.0.1, or --secure, which does what these three commands do: `mainstem certs`, `mainstem users"
    " add admin --data DIR`, `mainstem serve --security-protocol SASL_SSL --tls-cert FILE --tls-key FILE"
    " --access-control --super-users User:admin`; or add --allow-anonymous if the network is trusted"
)
"""What makes an address safe, for the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPlan:
    """A door that the settings turn on, and the addresses to bind for it."""

    door: Door
    addresses: tuple[NamedAddress, ...]
    flag: str
    """The flag that set the addresses, for messages: the door's own flag, or --bind."""
    must_bind: bool
    """Whether a taken port fails the start; else the door is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundListener:
    """A listener and its bound socket, which does not listen yet."""

    listener: Listener
    socket: socket.socket
    tls: ServerTls | None = None


def plan_doors(settings: Settings, doors: Sequence[Door]) -> list[DoorPlan]:
    """The doors that the settings turn on, in the order of `doors`. CannotServe: settings that contradict
    each other, an address that cannot be read, or one that is not safe."""
    names = _names(settings, doors)
    listeners = ListenerNames(settings)
    plans = []
    for door in doors:
        given = settings.door_values.get(door.name)
        if door.name not in names:
            if given is None:
                continue
            if settings.doors is not None:
                raise CannotServe(
                    "usage",
                    f"{door.flag} {given} contradicts --doors {settings.doors}, which leaves that door off:"
                    f" add {door.name} to --doors",
                )
        flag = "--bind" if given is None and settings.bind != LOOPBACK else door.flag
        addresses = tuple(_addresses(given, door, settings, listeners, flag))
        for named in addresses:
            _check_safe(settings, door, named, flag, listeners)
        must_bind = given is not None or door.on_by_default
        plans.append(DoorPlan(door=door, addresses=addresses, flag=flag, must_bind=must_bind))
    return plans


def _names(settings: Settings, doors: Sequence[Door]) -> set[str]:
    """The doors that `--doors` names, or those that are on by default."""
    if settings.doors is None:
        return {door.name for door in doors if door.on_by_default}
    known = {door.name for door in doors}
    names = set(settings.doors.replace(",", " ").split())
    if names == {ALL_DOORS}:
        return known
    if not names:
        raise CannotServe("usage", f"--doors names no door; give some of {', '.join(sorted(known))}, or all")
    for name in sorted(names - known):
        near = difflib.get_close_matches(name, [*known, ALL_DOORS], n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}, or all"
        raise CannotServe("usage", f"--doors: there is no door {name}; {hint}")
    return names


def _addresses(
    given: str | None, door: Door, settings: Settings, listeners: ListenerNames, flag: str
) -> Iterator[NamedAddress]:
    if given is None:
        yield listeners.named(HostPort(settings.bind.strip("[]"), door.port), flag)
        return
    for text in given.split(","):
        yield listeners.parse(text.strip(), door.flag)


def _check_safe(
    settings: Settings, door: Door, named: NamedAddress, flag: str, listeners: ListenerNames
) -> None:
    address, security = named.address, listeners.security(named.name)
    shows_certificate = security.tls and listeners.value(named.name, "tls_client_auth") == "required"
    if security.authenticates:
        _check_login(door, named, flag, listeners)
    elif not (shows_certificate or settings.allow_anonymous or address.is_loopback):
        raise CannotServe(
            "refused",
            f"{flag} {named} is open to others and there is no authentication: anybody could read and"
            f" write; {WAYS_TO_BE_SAFE}",
        )
    if address.is_wildcard and not listeners.is_advertised(named.name) and door.needs_advertised_address:
        raise CannotServe(
            "refused",
            f"{flag} {address} is a wildcard, and clients need one address to connect to:"
            " add --advertise HOST:PORT with the name they know this machine by",
        )


def _check_login(door: Door, named: NamedAddress, flag: str, listeners: ListenerNames) -> None:
    """CannotServe unless clients can log in to the door there, and others cannot read what they send."""
    enabled = [name for name in listeners.mechanisms(named.name) if name in door.mechanisms]
    if not enabled:
        raise CannotServe(
            "usage",
            f"{flag} {named}: the {door.title} door has none of the mechanisms that are enabled"
            f" ({listeners.value(named.name, 'sasl_enabled_mechanisms')}), so no client could log in",
        )
    if not _safe_mechanisms(named, listeners, enabled):
        raise CannotServe(
            "refused",
            f"{flag} {named}: without TLS others can read the passwords that clients of the {door.title} door"
            f" send ({', '.join(enabled)}); use SASL_SSL, or 127.0.0.1",
        )


def _safe_mechanisms(
    named: NamedAddress, listeners: ListenerNames, mechanisms: Sequence[str]
) -> tuple[str, ...]:
    security = listeners.security(named.name)
    is_loopback = named.address.is_loopback
    return tuple(name for name in mechanisms if is_safe(name, security, is_loopback=is_loopback))


def bind_listeners(
    settings: Settings, plans: Sequence[DoorPlan], sockets: contextlib.ExitStack
) -> tuple[list[BoundListener], dict[str, str]]:
    """Bind every address; the sockets are closed with `sockets`. Also why each door that is left out is off,
    by its name. CannotServe(address): a port is taken that must not be."""
    names = ListenerNames(settings)
    bound: dict[HostPort, tuple[socket.socket, NamedAddress, list[str]]] = {}
    off_reasons: dict[str, str] = {}
    for plan in plans:
        for named in plan.addresses:
            address = named.address
            if address.port and address in bound:  # given to another door, too
                _, shared, of_doors = bound[address]
                if shared.name != named.name:
                    raise CannotServe("usage", f"{plan.flag} {named} contradicts {shared}, the same address")
                if names.security(named.name).tls:
                    raise CannotServe(
                        "usage", f"{plan.flag} {named}: with TLS, each door needs an address of its own"
                    )
                of_doors.append(plan.door.name)
                continue
            try:
                sock = sockets.enter_context(listen_on(address, plan.flag))
            except CannotServe as error:
                if plan.must_bind or error.reason != "address" or error.errno != errno.EADDRINUSE:
                    raise
                off_reasons[plan.door.name] = f"port {address.port} in use"
                log.warning(
                    "the %s door is off: %s; %s HOST:PORT gives it another port at the next start",
                    plan.door.title,
                    error,
                    plan.door.flag,
                )
                continue
            key = address if address.port else HostPort.of(sock)
            bound[key] = (sock, named, [plan.door.name])
    listeners = [
        BoundListener(
            socket=sock,
            listener=_listener(names, named, sock, of_doors, plans),
            tls=_tls(names, named, of_doors, plans),
        )
        for sock, named, of_doors in bound.values()
    ]
    on = {name for bound_listener in listeners for name in bound_listener.listener.doors}
    for name in on.intersection(off_reasons):
        del off_reasons[name]  # it has another address
    return listeners, off_reasons


def _listener(
    names: ListenerNames,
    named: NamedAddress,
    sock: socket.socket,
    doors: Sequence[str],
    plans: Sequence[DoorPlan],
) -> Listener:
    address = advertised = HostPort.of(sock)
    if any(plan.door.needs_advertised_address for plan in plans if plan.door.name in doors):
        advertised = names.advertised(named.name, address)
    return Listener(
        name=named.name,
        address=address,
        advertised=advertised,
        doors=tuple(doors),
        security=names.security(named.name),
        mechanisms=_safe_mechanisms(named, names, names.mechanisms(named.name)),
        default_principal=names.default_principal(named.name),
    )


def _tls(
    names: ListenerNames, named: NamedAddress, doors: Sequence[str], plans: Sequence[DoorPlan]
) -> ServerTls | None:
    if not names.security(named.name).tls:
        return None
    alpn = [protocol for plan in plans if plan.door.name in doors for protocol in plan.door.alpn]
    return server_tls(named.name, names, alpn)


def listen_on(address: HostPort, flag: str) -> socket.socket:
    """A socket bound to the address. CannotServe(address) names the flag that gave it."""
    try:
        candidates = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise CannotServe("address", f"{flag} {address}: {error.strerror}") from None
    family, kind, protocol, _, name = min(candidates, key=lambda candidate: candidate[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(name)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise CannotServe(
            "address",
            f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()};"
            f" stop what listens there, or give {flag} another port (port 0 picks a free one)",
            errno=error.errno,
        ) from None
    return sock
