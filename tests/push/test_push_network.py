"""Connections of the pusher: the addresses that it connects to, TLS, names, connections used again."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from mainstem.clock import LoopClock
from mainstem.contract import NewEvent
from mainstem.push import resolver
from mainstem.push.addresses import AllowedAddresses
from mainstem.push.client import PushClient, PushRequest
from mainstem.push.errors import PushFailed
from mainstem.push.resolver import SystemResolver
from mainstem.queues.push_settings import EndpointUrl
from tests.push.receiver import Received, Receiver, pushing, receiving, status

Resolver = Callable[[str], Awaitable[Sequence[str]]]


def answering(*answers: Sequence[str]) -> Resolver:
    """A resolver that gives these addresses one call after the other, the last ones again and again."""
    remaining = list(answers)

    async def resolve(host: str) -> Sequence[str]:
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return resolve


def client(resolve: Resolver, allow: str = "loopback", tls: ssl.SSLContext | None = None) -> PushClient:
    clock = LoopClock(asyncio.get_running_loop())
    make_tls = ssl.create_default_context if tls is None else lambda: tls
    return PushClient(clock, AllowedAddresses.parse(allow), resolve, make_tls)


async def send(sender: PushClient, url: str, body: bytes = b"x") -> int:
    return (await sender.send(PushRequest(EndpointUrl.parse(url), (), body))).status


def run(test: Callable[[Receiver], Awaitable[None]]) -> None:
    """Run a test with a receiver."""

    async def inner() -> None:
        async with receiving() as receiver:
            await test(receiver)

    asyncio.run(inner())


def test_a_name_whose_address_changes_after_a_look_up_is_checked_again() -> None:
    async def test(receiver: Receiver) -> None:
        resolve = answering(["127.0.0.1"], ["169.254.169.254"], ["10.0.0.1"])
        sender, url = client(resolve), f"http://hooks.example.com:{receiver.port}/"
        assert await send(sender, url) == 204
        assert await send(sender, url) == 204, "over the connection to the address that was checked"
        sender.close()
        for address in ("169.254.169.254", "10.0.0.1"):
            with pytest.raises(PushFailed, match=address) as refused:
                await send(sender, url)
            assert not refused.value.was_sent
        assert len(receiver.requests) == 2
        assert receiver.requests[0].headers["host"] == f"hooks.example.com:{receiver.port}"

    run(test)


def test_of_several_addresses_those_that_are_not_allowed_are_left_out() -> None:
    async def test(receiver: Receiver) -> None:
        sender = client(answering(["169.254.169.254", "10.0.0.1", "127.0.0.1"]))
        assert await send(sender, f"http://a:{receiver.port}/") == 204
        sender.close()

    run(test)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "2852039166", "0.0.0.0", "[fe80::1]", "10.0.0.1"]
)
def test_an_address_in_any_form_is_checked(host: str) -> None:
    async def test() -> None:
        sender = client(SystemResolver())
        with pytest.raises(PushFailed, match=r"allowed|no address of a machine") as refused:
            await send(sender, f"http://{host}/latest/meta-data/")
        assert not refused.value.was_sent

    asyncio.run(test())


def test_an_address_that_is_not_allowed_is_no_failure_of_the_event(tmp_path: Path) -> None:
    async def test() -> None:
        rules = {"failures_max": 1}
        async with pushing(tmp_path) as rig:
            await rig.create("t", [NewEvent(b"x")], rules=rules, endpoint="http://169.254.169.254/")
            info = await rig.until("t", lambda info: bool(info.problems))
            assert "never allowed" in info.problems[0]
            assert (info.failed, info.dropped, info.depth.outstanding) == (0, 0, 1)

    asyncio.run(test())


def test_a_connection_that_the_endpoint_has_closed_meanwhile_is_no_failure() -> None:
    async def test(receiver: Receiver) -> None:
        answers = iter([status(200), b"", status(201)])

        async def reply(request: Received) -> bytes:
            return next(answers)

        receiver.answer = reply
        sender = client(answering(["127.0.0.1"]))
        url = f"http://a:{receiver.port}/"
        assert await send(sender, url) == 200
        assert await send(sender, url) == 201
        assert [request.connection for request in receiver.requests] == [1, 1, 2]
        sender.close()

    run(test)


def test_an_endpoint_that_refuses_connections_and_a_name_that_does_not_exist() -> None:
    async def test() -> None:
        async def unknown(host: str) -> Sequence[str]:
            raise OSError("no such host")

        with pytest.raises(PushFailed, match="the name a is not found: no such host"):
            await send(client(unknown), "http://a/")
        with pytest.raises(PushFailed, match="has no address"):
            await send(client(answering([])), "http://a/")
        with pytest.raises(PushFailed, match=r"no connection to 127\.0\.0\.1") as refused:
            await send(client(answering(["127.0.0.1"])), "http://a:1/")
        assert refused.value.was_sent

    asyncio.run(test())


# ----------------------------------------------------------------------------------------------------------
# TLS


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of `localhost` that signs itself, and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_a_certificate_is_checked(tmp_path: Path) -> None:
    async def test() -> None:
        cert, key = certificate(tmp_path)
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(cert, key)
        trusting = ssl.create_default_context(cafile=str(cert))
        resolve = answering(["127.0.0.1"])
        async with receiving(serving) as receiver:
            with pytest.raises(PushFailed, match="the certificate is not accepted: self"):
                await send(client(resolve), f"https://localhost:{receiver.port}/")
            with pytest.raises(PushFailed, match="the certificate is not accepted: Hostname mismatch"):
                await send(client(resolve, tls=trusting), f"https://another.example:{receiver.port}/")
            assert receiver.requests == []
            sender = client(resolve, tls=trusting)
            assert await send(sender, f"https://localhost:{receiver.port}/") == 204
            assert await send(sender, f"https://localhost:{receiver.port}/") == 204
            assert receiver.requests[0].connection == receiver.requests[1].connection
            sender.close()

    asyncio.run(test())


# ----------------------------------------------------------------------------------------------------------
# names


def test_a_name_that_gets_no_answer_keeps_no_other_from_being_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        asked: list[str] = []
        hanging: list[asyncio.Future[list[str]]] = []

        def look_up(host: str, loop: asyncio.AbstractEventLoop, lookup: asyncio.Future[list[str]]) -> None:
            asked.append(host)
            if host == "hangs":
                hanging.append(lookup)
            else:
                loop.call_soon_threadsafe(lookup.set_result, ["127.0.0.1"])

        monkeypatch.setattr(resolver, "_look_up", look_up)
        resolve = SystemResolver()
        waiting = [asyncio.ensure_future(resolve("hangs")) for _ in range(50)]
        assert await resolve("answers") == ["127.0.0.1"]
        assert await resolve("127.0.0.2") == ["127.0.0.2"]
        waiting[0].cancel()
        await asyncio.sleep(0)
        hanging[0].set_result(["127.0.0.3"])
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results[1:] == [["127.0.0.3"]] * 49
        assert sorted(asked) == ["answers", "hangs"]

    asyncio.run(test())


def test_names_are_looked_up_by_the_machine() -> None:
    async def test() -> None:
        resolve = SystemResolver()
        assert set(await resolve("localhost")) <= {"127.0.0.1", "::1"}
        with pytest.raises(OSError, match="no host name"):
            await resolve("a" * 64 + ".example")

    asyncio.run(test())
