"""How the server's authentication is put together: settings, threads, key sets from files and by HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mainstem.authentication.identity import AuthenticationFailed
from mainstem.clock import LoopClock
from mainstem.doors.contract import Listener
from mainstem.doors.net.address import HostPort
from mainstem.serve.authentication import ServerAuthentication, check_settings
from mainstem.serve.documents import read_document
from mainstem.serve.errors import CannotServe
from mainstem.settings import Settings
from tests.authentication.kit import RULES, MemoryAdmin, jwks, token

ADDRESS = HostPort("127.0.0.1", 1)
LISTENER = Listener(name="SASL", address=ADDRESS, advertised=ADDRESS, doors=(), mechanisms=("OAUTHBEARER",))


def settings(url: str | None, **more: Any) -> Settings:
    return dataclasses.replace(
        Settings(),
        sasl_oauthbearer_jwks_endpoint_url=url,
        sasl_oauthbearer_expected_issuer=RULES.issuer,
        sasl_oauthbearer_expected_audience=RULES.audience,
        **more,
    )


@pytest.fixture
def keys_url(tmp_path: Path) -> str:
    (tmp_path / "keys.json").write_bytes(jwks("ec"))
    return (tmp_path / "keys.json").as_uri()


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        (None, {}, "OAUTHBEARER is enabled, so sasl_oauthbearer_jwks_endpoint_url is needed"),
        ("ftp://x/y", {}, "is no https:// or file:/// address"),
        ("https://", {}, "is no https:// or file:/// address"),
        ("http://idp.test/keys", {}, "use https://"),
        ("file:///not/there", {}, "file:///not/there"),
        ("https://idp.test/keys", {"sasl_oauthbearer_expected_issuer": ""}, "expected_issuer is needed"),
        ("https://idp.test/keys", {"sasl_oauthbearer_expected_audience": ""}, "expected_audience is needed"),
    ],
)
def test_a_start_refuses_tokens_that_could_be_anybodys(
    url: str | None, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(CannotServe) as caught:
        check_settings(dataclasses.replace(settings(url), **more), [LISTENER])
    assert said in str(caught.value)
    assert caught.value.reason == "usage"


def test_a_start_accepts_keys_in_a_file_and_at_https(keys_url: str) -> None:
    check_settings(settings(keys_url), [LISTENER])
    check_settings(settings("https://idp.test/keys"), [LISTENER])
    check_settings(Settings(), [dataclasses.replace(LISTENER, mechanisms=("PLAIN",))])


def test_passwords_and_tokens_are_checked_beside_the_loop(keys_url: str) -> None:
    async def check() -> tuple[str, str, bool]:
        clock = LoopClock(asyncio.get_running_loop())
        service = ServerAuthentication(settings(keys_url), MemoryAdmin(alice="pw"), clock, b"x" * 16)
        by_password = await service.check_password("alice", "pw", "127.0.0.1", door="kafka")
        expires_s = clock.wall_ms() // 1000 + 60
        by_token = await service.check_bearer(token(sub="bob", exp=expires_s), "127.0.0.1", door="kafka")
        waiting = service.check_password("alice", "other", "127.0.0.1", door="kafka")
        service.close()
        with pytest.raises(AuthenticationFailed):
            await waiting
        return by_password.principal.name, by_token.principal.name, waiting.done

    assert asyncio.run(check()) == ("alice", "bob", True)


def test_what_unknown_users_seem_to_have_is_the_same_after_a_restart_and_elsewhere_another() -> None:
    async def salts() -> list[str]:
        clock = LoopClock(asyncio.get_running_loop())
        answers = []
        for folder in (b"x" * 16, b"x" * 16, b"y" * 16, None):
            service = ServerAuthentication(Settings(), MemoryAdmin(), clock, folder)
            answer = await service.exchange("SCRAM-SHA-512", "h").step(b"n,,n=mallory,r=x")
            answers.append(answer.decode().split(",")[1])
            service.close()
        return answers

    first, again, elsewhere, nowhere = asyncio.run(salts())
    assert first == again
    assert len({first, elsewhere, nowhere}) == 3


@contextmanager
def http_server(status: int, body: bytes, location: str = "") -> Iterator[str]:
    """A server with one answer to every request; its address."""

    class AnswerHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), AnswerHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/keys"
        finally:
            server.shutdown()
            thread.join()


def test_a_key_set_is_read_by_http_without_following_redirections() -> None:
    with http_server(200, jwks("ec")) as url:
        assert read_document(url) == jwks("ec")
        with http_server(302, b"", location=url) as elsewhere, pytest.raises(OSError, match="302"):
            read_document(elsewhere)
    with http_server(200, b"x" * ((1 << 20) + 1)) as url, pytest.raises(OSError, match="longer"):
        read_document(url)
    with http_server(500, b"") as url, pytest.raises(OSError, match="500"):
        read_document(url)
