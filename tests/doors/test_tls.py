"""TLS of accepted connections: handshakes that do not end, certificates, large replies, files that change."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mainstem.access_contract import ANONYMOUS, Principal
from mainstem.certificates import make_server
from mainstem.clock import LoopClock
from mainstem.doors.net.accepted import AcceptedConnection
from mainstem.doors.net.acceptor import Acceptor
from mainstem.doors.net.limits import ConnectionLimits
from mainstem.doors.net.principal_rules import PrincipalRules
from mainstem.doors.net.tls import ServerTls, TlsError, TlsOptions
from tests.support.certificates import client_context, client_files, server_files

REPLY_BYTES = 8 << 20


class Echo(asyncio.BufferedProtocol):
    """Sends back what it gets, and many bytes for an `L`."""

    def __init__(self, served: Served, connection: AcceptedConnection) -> None:
        self._served = served
        self._connection = connection
        self._buffer = bytearray(4096)
        self._transport: Any = None
        self.pauses = self.resumes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(64 << 10, 16 << 10)
        self._served.made.append((self, self._connection.principal))

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if data == b"L":
            self._transport.writelines([data * (REPLY_BYTES // 2), memoryview(data * (REPLY_BYTES // 2))])
        else:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self.pauses += 1

    def resume_writing(self) -> None:
        self.resumes += 1

    def unread_bytes(self) -> int:
        """What the client has not read, as the server knows."""
        count: int = self._transport.get_write_buffer_size()
        return count

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.closed()
        self._served.lost += 1


class Served:
    """A listening socket with TLS in front of Echo."""

    def __init__(self, tls: ServerTls) -> None:
        self.tls = tls
        self.made: list[tuple[Echo, Principal]] = []
        self.lost = 0
        self.warnings: list[str] = []
        loop = asyncio.get_running_loop()
        self.limits = ConnectionLimits(LoopClock(loop), 1000, 1000, 1_000_000)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]

        def serve(accepted: socket.socket, host: str) -> None:
            connection = AcceptedConnection(accepted, host, self.limits, ANONYMOUS, tls, self._warn)
            connection.attach(loop, Echo(self, connection))

        self.acceptor = Acceptor(loop, sock, self.limits, serve, self._warn)
        self.acceptor.start()

    def _warn(self, kind: str, text: str) -> None:
        self.warnings.append(f"{kind}: {text}")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.002)


def options(**given: Any) -> TlsOptions:
    """The usual options of the tests."""
    files = server_files()
    values: dict[str, Any] = {
        "files": ((str(files.cert), str(files.key)),),
        "rules": PrincipalRules.parse("RULE:^CN=(.*)$/$1/"),
    }
    return TlsOptions(**(values | given))


def with_client_auth(auth: str, **given: Any) -> TlsOptions:
    """The usual options, and certificates of clients."""
    return options(client_auth=auth, client_ca=str(server_files().ca), **given)


def run(tls: ServerTls, scenario: Callable[[Served], Awaitable[None]]) -> None:
    """Serve with this TLS, and run the scenario."""

    async def body() -> None:
        served = Served(tls)
        try:
            await scenario(served)
        finally:
            served.acceptor.close()
            tls.cancel_handshakes()
            await served.until(lambda: served.limits.count == 0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


async def talk(port: int, context: ssl.SSLContext, sent: bytes = b"hello", count: int | None = None) -> bytes:
    """What comes back for these bytes."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    try:
        writer.write(sent)
        return await reader.readexactly(len(sent) if count is None else count)
    finally:
        writer.transport.abort()


def test_bytes_travel_encrypted_and_large_replies_wait_for_the_client() -> None:
    may_read = threading.Event()

    async def scenario(served: Served) -> None:
        assert await talk(served.port, client_context()) == b"hello"
        reading = asyncio.get_running_loop().run_in_executor(None, slow_reader, served.port)
        await served.until(lambda: len(served.made) == 2 and served.made[1][0].pauses == 1)
        assert served.made[1][0].unread_bytes() > REPLY_BYTES // 4
        may_read.set()
        await reading
        assert [echo.pauses for echo, _ in served.made] == [0, 1]
        assert [echo.resumes for echo, _ in served.made] == [0, 1]

    def small_window(port: int) -> socket.socket:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        raw.settimeout(20)
        raw.connect(("127.0.0.1", port))
        return raw

    def slow_reader(port: int) -> None:
        with (
            small_window(port) as raw,
            client_context().wrap_socket(raw, server_hostname="localhost") as client,
        ):
            assert client.version() == "TLSv1.3"
            client.sendall(b"L")
            assert may_read.wait(20)
            count = 0
            while count < REPLY_BYTES:
                data = client.recv(65536)
                assert data.strip(b"L") == b""
                count += len(data)
            assert count == REPLY_BYTES

    run(ServerTls(options()), scenario)


@pytest.mark.parametrize(
    ("tls", "client", "expected"),
    [
        (lambda: with_client_auth("required"), "alice", Principal("User", "alice")),
        (lambda: with_client_auth("requested"), "alice", Principal("User", "alice")),
        (lambda: with_client_auth("requested"), None, ANONYMOUS),
        (lambda: options(), "alice", ANONYMOUS),
        (lambda: with_client_auth("required"), None, None),
        (
            lambda: with_client_auth("required", rules=PrincipalRules.parse("RULE:^O=(.*)$/$1/")),
            "alice",
            None,
        ),
    ],
)
def test_the_certificate_of_a_client_says_who_it_is(
    tls: Callable[[], TlsOptions], client: str | None, expected: Principal | None
) -> None:
    async def scenario(served: Served) -> None:
        if expected is not None:
            assert await talk(served.port, client_context(client)) == b"hello"
            assert [principal for _, principal in served.made] == [expected]
            return
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await talk(served.port, client_context(client))
        await served.until(lambda: served.limits.count == 0)
        assert not served.made
        assert len(served.warnings) == 1
        assert "127.0.0.1" in served.warnings[0]

    run(ServerTls(tls()), scenario)


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    other = make_server(tmp_path)

    async def scenario(served: Served) -> None:
        context = client_context()
        context.load_cert_chain(other.cert, other.key)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await talk(served.port, context)
        await served.until(lambda: bool(served.warnings))
        assert not served.made

    run(ServerTls(with_client_auth("requested")), scenario)


def test_handshakes_that_do_not_end_give_way_to_others_and_leave_nothing_open() -> None:
    async def scenario(served: Served) -> None:
        assert await talk(served.port, client_context()) == b"hello"  # opens what the loop keeps open
        await served.until(lambda: served.limits.count == 0)
        descriptors = len(os.listdir("/proc/self/fd"))
        clients = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(8)]
        for number, client in enumerate(clients):
            if number % 2:
                client.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        await served.until(lambda: served.lost == 1 + len(clients) - 4)  # only four may be in progress
        assert await talk(served.port, client_context()) == b"hello"
        await served.until(lambda: served.limits.count == 0)  # the rest after the deadline
        for client in clients:
            client.close()
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0\0\0\x10" + b"\0" * 16,
            b"\x16\x03\x01" + b"\xff" * 64,
            b"",
        ):
            with socket.create_connection(("127.0.0.1", served.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by RST
                client.sendall(data)
                if data:
                    lost = served.lost
                    await served.until(lambda lost=lost: served.lost > lost)  # type: ignore[misc]
        await served.until(lambda: served.limits.count == 0)
        assert len(served.made) == 2
        await served.until(lambda: len(os.listdir("/proc/self/fd")) == descriptors)

    run(ServerTls(options(handshake_s=0.2, handshakes_max=4)), scenario)


def test_old_versions_and_weak_ciphers_are_refused() -> None:
    async def scenario(served: Served) -> None:
        context = client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if served.tls.options.min_version == "1.2":
            assert await talk(served.port, context) == b"hello"
            context.set_ciphers("AES128-SHA:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA256")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await talk(served.port, context)

    for version in ("1.2", "1.3"):
        tls = ServerTls(options(min_version=version))
        assert tls.context.options & ssl.OP_NO_RENEGOTIATION
        assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2
        run(tls, scenario)


def test_the_certificate_is_chosen_by_the_name_that_the_client_asks_for(tmp_path: Path) -> None:
    other = make_server(tmp_path, ["other.example"])
    usual = server_files()

    async def scenario(served: Served) -> None:
        for name, ca in (("localhost", usual.ca), ("other.example", other.ca)):
            context = ssl.create_default_context(cafile=str(ca))
            _, writer = await asyncio.open_connection(
                "127.0.0.1", served.port, ssl=context, server_hostname=name
            )
            writer.transport.abort()

    files = tuple((str(pair.cert), str(pair.key)) for pair in (usual, other))
    run(ServerTls(options(files=files)), scenario)


def test_changed_files_are_read_and_bad_ones_leave_what_was(tmp_path: Path) -> None:
    first, second = make_server(tmp_path / "1"), make_server(tmp_path / "2")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(source: Path, target: Path) -> None:
        new = target.with_suffix(".new")
        shutil.copy(source, new)
        os.replace(new, target)

    put(first.cert, cert)
    put(first.key, key)
    tls = ServerTls(options(files=((str(cert), str(key)),)))
    before = tls.context
    assert not tls.reload()
    put(second.cert, cert)
    with pytest.raises(TlsError, match="the key does not belong to the certificate"):
        tls.reload()
    assert tls.context is before
    assert not tls.reload()  # it was said once
    put(second.key, key)
    assert tls.reload()
    assert tls.context is not before
    assert tls.reload(forced=True)
    cert.unlink()
    with pytest.raises(TlsError, match="cannot be read: No such file"):
        tls.reload()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o601])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    files = make_server(tmp_path)
    files.key.chmod(mode)
    with pytest.raises(
        TlsError, match=rf"can be read by others \(mode 0{mode:o}\): chmod 600 .*server-key\.pem"
    ):
        ServerTls(options(files=((str(files.cert), str(files.key)),)))


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    files, nonsense, missing = server_files(), tmp_path / "nonsense.pem", tmp_path / "missing.pem"
    nonsense.write_text("nonsense")
    nonsense.chmod(0o600)
    both = tmp_path / "both.pem"
    both.write_text(files.key.read_text() + files.cert.read_text())
    both.chmod(0o600)
    ServerTls(options(files=((str(both), ""),)))
    for cert, key, ca, message in (
        (nonsense, files.key, "", "nonsense.pem"),
        (missing, files.key, "", "missing.pem cannot be read: No such file"),
        (files.cert, missing, "", "key file .*missing.pem cannot be read: No such file"),
        (files.cert, nonsense, "", "nonsense.pem"),
        (files.cert, client_files("alice").key, "", "the key does not belong to the certificate"),
        (files.cert, files.key, nonsense, "nonsense.pem has no certificates in PEM"),
        (files.cert, files.key, missing, "missing.pem cannot be read: No such file"),
    ):
        given = {"client_auth": "required", "client_ca": str(ca)} if ca else {}
        with pytest.raises(TlsError, match=message):
            ServerTls(options(files=((str(cert), str(key)),), **given))
