"""A server whose doors are served by TLS."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mainstem.certificates import make_server
from mainstem.doors.contract import Listener
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.principal_rules import PrincipalRules
from mainstem.doors.net.security import SecurityProtocol
from mainstem.doors.net.tls import ServerTls, TlsOptions
from mainstem.kafka_protocol.message import Message
from mainstem.serve import options
from mainstem.serve.certificate_watch import CertificateWatch
from mainstem.serve.errors import CannotServe
from mainstem.serve.server import Running, start
from tests.doors.kafka.kit import decode_reply, request_frame
from tests.support.certificates import client_context, client_files, server_files
from tests.support.clock import SimClock
from tests.support.server import Server

DAY_MS = 86_400_000


def run(folder: Path, scenario: Callable[[Running], Awaitable[None]], **given: object) -> None:
    """Start a server with TLS in this process, run the scenario on it, close it."""
    files = server_files()
    flags: dict[str, object] = {
        "data": str(folder),
        "durability": "os",
        "kafka": "SSL://127.0.0.1:0",
        "http": "SSL://127.0.0.1:0",
        "tls_cert": str(files.cert),
        "tls_key": str(files.key),
    }

    async def body() -> None:
        running = await start(options.load(flags | given))
        try:
            await scenario(running)
        finally:
            await running.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


async def get(address: HostPort, path: str, context: ssl.SSLContext | None) -> tuple[int, bytes]:
    """Status and body of a GET, by TLS with a context."""

    def ask() -> tuple[int, bytes]:
        if context is None:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection(address.host, address.port, timeout=20, context=context)
        try:
            connection.request("GET", path, headers={"Origin": f"https://{address}"} if context else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(None, ask)


async def api_versions(address: HostPort, context: ssl.SSLContext) -> Message:
    """The reply of the Kafka door."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", address.port, ssl=context, server_hostname="localhost"
    )
    request = Message(client_software_name="test", client_software_version="1")
    writer.write(request_frame(18, 3, 1, request))
    size = int.from_bytes(await reader.readexactly(4))
    reply = decode_reply(18, 3, memoryview(await reader.readexactly(size)))
    writer.transport.abort()
    return reply


def test_each_door_is_served_by_tls_and_says_so(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        (kafka,), (http_address,) = running.addresses["kafka"], running.addresses["http"]
        assert running.doors_text() == f"kafka=SSL://{kafka}  http=SSL://{http_address}"
        context = client_context()
        status, body = await get(http_address, "/readyz", context)
        assert status == 200
        on = {name: text for name, text in json.loads(body)["doors"].items() if text != "off"}
        assert on == {"kafka": f"SSL://{kafka}", "http": f"SSL://{http_address}"}
        _, cluster = await get(http_address, "/api/v1/cluster", context)
        assert json.loads(cluster)["doors"][0]["addresses"] == [f"SSL://{kafka}"]
        _, metrics = await get(http_address, "/metrics", context)
        assert b'mainstem_door_certificate_expiry_seconds{door="http"} ' in metrics
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            await get(http_address, "/readyz", None)
        assert (await api_versions(kafka, context)).error_code == 0

    run(tmp_path / "data", scenario)


def test_clients_may_be_asked_for_their_certificate_on_one_listener(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        inside, outside = running.addresses["kafka"]
        assert (await api_versions(inside, client_context())).error_code == 0
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await api_versions(outside, client_context())
        assert (await api_versions(outside, client_context("alice"))).error_code == 0

    run(
        tmp_path / "data",
        scenario,
        doors="kafka",
        http=None,
        kafka="SSL://127.0.0.1:0,OUTSIDE://0.0.0.0:0",
        advertise="localhost",
        listener_security_protocol_map="OUTSIDE:SSL",
        tls_client_ca=str(server_files().ca),
        listener_settings="OUTSIDE.ssl.client.auth=required",
    )


@pytest.mark.parametrize("is_used", [True, False])
def test_a_stop_does_not_wait_for_handshakes(tmp_path: Path, is_used: bool) -> None:
    """`is_used`: there was a connection before; otherwise the handshakes begin while the server stops."""

    async def scenario(running: Running) -> None:
        (kafka,) = running.addresses["kafka"]
        if is_used:
            assert (await api_versions(kafka, client_context())).error_code == 0
        half = [socket.create_connection((kafka.host, kafka.port)) for _ in range(3)]
        async with asyncio.timeout(5):
            while running.statuses()[0].connections < len(half):
                await asyncio.sleep(0.002)
            await running.close()
        for client in half:
            client.close()

    async def body() -> None:
        files = server_files()
        given = {"tls_cert": str(files.cert), "tls_key": str(files.key), "kafka": "SSL://127.0.0.1:0"}
        settings = {"data": str(tmp_path / "data"), "durability": "os", "doors": "kafka"}
        await scenario(await start(options.load({**settings, **given})))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert": ""}, "the listener SSL has TLS and no certificate: --tls-cert FILE and --tls-key FILE"),
        ({"tls_client_auth": "required"}, "--tls-client-ca FILE names the authorities"),
        ({"tls_cert": "/a.pem,/b.pem"}, "the listener SSL has 2 files of certificates and 1 of keys"),
        ({"tls_key": "/nonsense.pem"}, "key file /nonsense.pem cannot be read: No such file"),
        ({"ssl_principal_mapping_rules": "nonsense"}, "ssl_principal_mapping_rules: 'nonsense' does not"),
        ({"listener_settings": "SSL.tls_min_version=1.1"}, "tls_min_version of SSL: '1.1' is not one of 1.2"),
        (
            {"kafka": "SSL://127.0.0.1:7", "http": "SSL://127.0.0.1:7"},
            "--http SSL://127.0.0.1:7: with TLS, each door needs an address of its own",
        ),
        ({"kafka": "SSL://0.0.0.0:0", "advertise": "a"}, "is open to others and there is no authentication"),
    ],
)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, given: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.serve.binding.listen_on", lambda *_: socket.socket())

    async def never(_: Running) -> None:
        raise AssertionError("it was refused")

    with pytest.raises(CannotServe, match=message):
        run(tmp_path / "data", never, **given)
    assert not (tmp_path / "data").exists()


def test_a_certificate_that_ends_soon_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    files = server_files()
    tls = ServerTls(TlsOptions(files=((str(files.cert), str(files.key)),), rules=PrincipalRules.parse("")))
    end_ms = int(tls.certificates[0].expires_at_s * 1000)
    address = HostPort("127.0.0.1", 9093)
    listener = Listener(
        name="SSL",
        address=address,
        advertised=HostPort("stream.example", 9093),
        doors=("kafka",),
        security=SecurityProtocol.SSL,
    )
    caplog.set_level(logging.INFO, "mainstem.serve.certificate_watch")
    clock = SimClock(end_ms - 31 * DAY_MS)
    watch = CertificateWatch([(listener, tls)], clock)
    assert list(watch.notes(listener)) == []
    assert "directed to stream.example, and its certificate is for localhost" in caplog.text
    caplog.clear()
    clock.now += 2 * 86_400
    watch.check()
    watch.check()  # said once a day
    assert caplog.text.count("the certificate of 127.0.0.1:9093 expires in 29 days: put a new one into") == 1
    clock.now += 30 * 86_400
    assert "has expired" in next(watch.notes(listener))
    assert watch.expires_at_s(listener) == end_ms / 1000


def test_a_changed_certificate_is_served_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_server(tmp_path / "1"), make_server(tmp_path / "2")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(first.cert, cert)
    shutil.copy(first.key, key)
    caplog.set_level(logging.INFO, "mainstem.serve.certificate_watch")

    async def scenario(running: Running) -> None:
        (kafka,) = running.addresses["kafka"]
        await api_versions(kafka, ssl.create_default_context(cafile=str(first.ca)))
        cert.write_text("nonsense")
        running.reload_certificates()
        assert "the certificate of 127.0.0.1" in caplog.text
        assert "stays as it was" in caplog.text
        await api_versions(kafka, ssl.create_default_context(cafile=str(first.ca)))
        shutil.copy(second.cert, cert)
        shutil.copy(second.key, key)
        running.reload_certificates()
        assert "was read again" in caplog.text
        await api_versions(kafka, ssl.create_default_context(cafile=str(second.ca)))

    run(tmp_path / "data", scenario, tls_cert=str(cert), tls_key=str(key), doors="kafka", http=None)


@pytest.mark.slow
def test_sighup_reads_the_certificate_again_and_clients_of_kafka_use_it(tmp_path: Path) -> None:
    from confluent_kafka import Consumer, Producer

    files = server_files()
    settings = {
        "security_protocol": "SSL",
        "kafka": "127.0.0.1:0",
        "tls_cert": files.cert,
        "tls_key": files.key,
        "tls_client_ca": files.ca,
        "tls_client_auth": "required",
    }
    alice = client_files("alice")
    with Server(tmp_path / "data", **settings) as server:
        config = {
            "bootstrap.servers": f"127.0.0.1:{server.port}",
            "security.protocol": "SSL",
            "ssl.ca.location": str(files.ca),
            "ssl.certificate.location": str(alice.cert),
            "ssl.key.location": str(alice.key),
        }
        producer = Producer(config)
        value = os.urandom(50_000)
        for _ in range(400):  # 20 MB
            producer.produce("orders", value)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        consumer = Consumer({**config, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["orders"])
        count = 0
        while count < 400:
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            assert message.value() == value
            count += 1
        consumer.close()
        assert "was read again" in server.logs()
        assert server.stop() == 0
        server.start()
