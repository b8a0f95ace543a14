"""Decides which doors are on, and binds the sockets of their listeners.

Owns: the meaning of `--doors`, `--bind` and each door's address, whether an address is safe to serve on, and
what a taken port means. Two doors with the same address share one listener. The sockets do not listen yet:
until the log is recovered, clients are refused and try again. Refuses: settings that contradict each other,
and addresses that other machines reach, unless that is permitted.
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
from mainstem.doors.net.address import LOOPBACK, AddressError, HostPort
from mainstem.serve.errors import CannotServe
from mainstem.settings import Settings

log = logging.getLogger("mainstem.serve.binding")

ALL_DOORS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPlan:
    """A door that the settings turn on, and the addresses to bind for it."""

    door: Door
    addresses: tuple[HostPort, ...]
    flag: str
    """The flag that set the addresses, for messages: the door's own flag, or --bind."""
    must_bind: bool
    """Whether a taken port fails the start; else the door is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundListener:
    """A listener and its bound socket, which does not listen yet."""

    listener: Listener
    socket: socket.socket


def plan_doors(settings: Settings, doors: Sequence[Door]) -> list[DoorPlan]:
    """The doors that the settings turn on, in the order of `doors`. CannotServe: settings that contradict
    each other, an address that cannot be read, or one that is not safe."""
    names = _names(settings, doors)
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
        addresses = tuple(_addresses(given, door, settings))
        for address in addresses:
            _check_safe(settings, door, address, flag)
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


def _addresses(given: str | None, door: Door, settings: Settings) -> Iterator[HostPort]:
    if given is None:
        yield HostPort(settings.bind.strip("[]"), door.port)
        return
    for text in given.split(","):
        with usage_errors():
            yield HostPort.parse(text.strip(), door.flag)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Convert an AddressError raised in the context to CannotServe(usage), which has its message."""
    try:
        yield
    except AddressError as error:
        raise CannotServe("usage", str(error)) from None


def _check_safe(settings: Settings, door: Door, address: HostPort, flag: str) -> None:
    refuse_unless_safe(address, flag, allow_anonymous=settings.allow_anonymous)
    if address.is_wildcard and settings.advertise is None and door.needs_advertised_address:
        raise CannotServe(
            "refused",
            f"{flag} {address} is a wildcard, and clients need one address to connect to:"
            " add --advertise HOST:PORT with the name they know this machine by",
        )


def refuse_unless_safe(address: HostPort, flag: str, *, allow_anonymous: bool) -> None:
    """CannotServe(refused) for an address that other machines reach, unless that is permitted."""
    if not allow_anonymous and not address.is_loopback:
        raise CannotServe(
            "refused",
            f"{flag} {address} is open to others and there is no authentication: anybody could read and"
            " write; use 127.0.0.1, or add --allow-anonymous if the network is trusted",
        )


def bind_listeners(
    settings: Settings, plans: Sequence[DoorPlan], sockets: contextlib.ExitStack
) -> tuple[list[BoundListener], dict[str, str]]:
    """Bind every address; the sockets are closed with `sockets`. Also why each door that is left out is off,
    by its name. CannotServe(address): a port is taken that must not be."""
    bound: dict[HostPort, tuple[socket.socket, list[str]]] = {}
    off_reasons: dict[str, str] = {}
    for plan in plans:
        for address in plan.addresses:
            if address.port and address in bound:  # given to another door, too
                bound[address][1].append(plan.door.name)
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
            bound[key] = (sock, [plan.door.name])
    listeners = [
        BoundListener(socket=sock, listener=_listener(settings, sock, doors, plans))
        for sock, doors in bound.values()
    ]
    on = {name for bound_listener in listeners for name in bound_listener.listener.doors}
    for name in on.intersection(off_reasons):
        del off_reasons[name]  # it has another address
    return listeners, off_reasons


def _listener(
    settings: Settings, sock: socket.socket, doors: Sequence[str], plans: Sequence[DoorPlan]
) -> Listener:
    address = advertised = HostPort.of(sock)
    if any(plan.door.needs_advertised_address for plan in plans if plan.door.name in doors):
        advertised = advertised_address(settings, address)
    return Listener(name="PLAINTEXT", address=address, advertised=advertised, doors=tuple(doors))


def advertised_address(settings: Settings, bound: HostPort) -> HostPort:
    """The address that clients are given to connect to: `advertise`, whose port may be 0 or left out for the
    bound one; else the bound address."""
    if settings.advertise is None:
        return bound
    with usage_errors():
        advertised = HostPort.parse(settings.advertise, "--advertise", port=0)
    if advertised.is_wildcard:
        raise CannotServe(
            "refused", f"--advertise {advertised}: clients cannot connect to a wildcard address; name a host"
        )
    return HostPort(advertised.host, advertised.port or bound.port)


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
