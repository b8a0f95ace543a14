"""Finds out why a cluster cannot be reached: no server, another protocol, or an address that leads nowhere.

Owns: the texts of these errors. A client connects twice: to the address that it is given, and then to the
addresses with which the cluster answers, which librdkafka reports like a server that is silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.clock import BlockingClock
from mainstem.contract import InvalidArgument, NotReachable
from mainstem.engines.kafka.refusals import PROBE_TIMEOUT_S, refusal_of
from mainstem.kafka_protocol.message import ProtocolError
from mainstem.search.cluster.broker_client import (
    BrokerClient,
    BrokerConnection,
    ClusterError,
    LoginRefused,
)

T = TypeVar("T")


ANSWER_S = 0.25
"""Seconds in which a cluster usually answers. After that it is asked which addresses it gives its clients."""


class AddressLeadsNowhere(NotReachable):
    """The error for a cluster that answers, but gives its clients an address that cannot be reached."""


def parse_addresses(text: str) -> list[tuple[str, int]]:
    """HOST:PORT, several with commas, as (host, port). InvalidArgument."""
    addresses = []
    for address in text.split(","):
        host, _, port = address.strip().rpartition(":")
        if "://" in address:
            raise InvalidArgument(f"{address} is no address of a Kafka server: this needs HOST:PORT of one")
        if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
            raise InvalidArgument(f"{address!r} is not HOST:PORT")
        addresses.append((host.strip("[]"), int(port)))
    return addresses


async def connection_problem(host: str, port: int, timeout_s: float) -> str | None:
    """Why no TCP connection to this address can be made; None if it can."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        # asyncio reports several failed addresses of a host in one OSError without a number.
        is_refused = isinstance(error, ConnectionRefusedError) or "onnect call failed" in str(error)
        return "connection refused" if is_refused else error.strerror or str(error)
    writer.close()
    return None


async def check_listening(addresses: str, timeout_s: float) -> None:
    """Check that at least one address accepts TCP connections. librdkafka would retry until its timeout.
    NotReachable, InvalidArgument."""
    probes = [connection_problem(host, port, timeout_s) for host, port in parse_addresses(addresses)]
    problems = await asyncio.gather(*probes)
    if None not in problems:
        reasons = ", ".join(dict.fromkeys(problem for problem in problems if problem is not None))
        raise NotReachable(
            f"no server at {addresses} ({reasons}); start one with: mainstem serve, or give --at HOST:PORT"
        )


class NotAccepted(NotReachable):
    """The error for a cluster that refuses the login, or whose certificate the client does not trust."""


async def await_cluster(
    answer: Coroutine[Any, Any, T], addresses: str, security: ClientSecurity = PLAINTEXT
) -> T:
    """The answer of the cluster at `addresses`. NotAccepted: if the two do not accept each other.
    AddressLeadsNowhere: if an address that the cluster gives its
    clients cannot be reached; at once, if none of them can. Otherwise the error of `answer`."""
    waiting = asyncio.ensure_future(answer)
    try:
        await asyncio.wait([waiting], timeout=ANSWER_S)
        if waiting.done() and waiting.exception() is None:
            return waiting.result()
        refusal_asked = asyncio.to_thread(refusal_of, parse_addresses(addresses), security)
        problems: dict[tuple[str, int], str | None] = {}
        if security.has_login:  # one after the other: a wrong password is tried once
            refusal = await refusal_asked
        else:
            refusal, problems = await asyncio.gather(refusal_asked, _advertised_problems(addresses, security))
        if refusal is not None:
            raise NotAccepted(f"{addresses}: {refusal}")
        if security.has_login:
            problems = await _advertised_problems(addresses, security)
        if problems and None not in problems.values():
            raise _unreachable(addresses, problems)
        try:
            return await waiting
        except Exception:
            problems = await _with_silent_brokers(problems, security)
            if any(problems.values()):
                raise _unreachable(addresses, problems) from None
            raise
    finally:
        waiting.cancel()


async def advertised_address_problem(
    addresses: str, security: ClientSecurity = PLAINTEXT
) -> NotReachable | None:
    """The error for a cluster that answers at `addresses`, but gives clients an address that cannot be
    reached from here; None if that is not the reason."""
    problems = await _with_silent_brokers(await _advertised_problems(addresses, security), security)
    return _unreachable(addresses, problems) if any(problems.values()) else None


async def _advertised_problems(addresses: str, security: ClientSecurity) -> dict[tuple[str, int], str | None]:
    """Why each broker's address cannot be reached; None if it can. Empty if the cluster does not answer."""
    brokers = await asyncio.to_thread(_advertised_brokers, parse_addresses(addresses), security)
    probes = [connection_problem(host, port, PROBE_TIMEOUT_S) for host, port in brokers]
    return dict(zip(brokers, await asyncio.gather(*probes), strict=True))


async def _with_silent_brokers(
    problems: Mapping[tuple[str, int], str | None], security: ClientSecurity
) -> dict[tuple[str, int], str | None]:
    """The problems, with those of addresses that accept connections but at which no Kafka server answers."""

    async def problem_of(address: tuple[str, int]) -> str | None:
        return problems[address] or await asyncio.to_thread(_protocol_problem, *address, security)

    return dict(zip(problems, await asyncio.gather(*map(problem_of, problems)), strict=True))


def _protocol_problem(host: str, port: int, security: ClientSecurity) -> str | None:
    try:
        BrokerConnection(host, port, PROBE_TIMEOUT_S, security).close()
    except LoginRefused as error:
        return str(error)
    except (OSError, ProtocolError):
        return "what listens there does not answer as a Kafka server"
    return None


def _unreachable(addresses: str, problems: Mapping[tuple[str, int], str | None]) -> AddressLeadsNowhere:
    (host, port), problem = next(item for item in problems.items() if item[1] is not None)
    return AddressLeadsNowhere(
        f"{addresses} gives clients the address {host}:{port} (--advertise), which cannot be reached from"
        f" here: {problem}"
    )


def _advertised_brokers(
    addresses: Sequence[tuple[str, int]], security: ClientSecurity
) -> list[tuple[str, int]]:
    cluster = BrokerClient(addresses, BlockingClock(), PROBE_TIMEOUT_S, security)
    try:
        return [(broker.host, broker.port) for broker in cluster.fetch_metadata([]).brokers]
    except ClusterError:
        return []
    finally:
        cluster.close()
