"""Logging in to the console by a real OpenID Connect provider: there and back, new keys, its absence."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mainstem.authentication.jwks import RETRY_S
from tests.support.ports import free_port
from tests.support.server import Server

pytestmark = pytest.mark.slow

NODE = Path(__file__).parents[1] / "compat" / "node"


class NodeProvider:
    """npm's oidc-provider in a process of its own. Each start has a new signing key."""

    def __init__(self, redirect: str) -> None:
        self.port, self._redirect = free_port(), redirect
        self._process: subprocess.Popen[str] | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["node", "provider.mjs", str(self.port), self._redirect],
            cwd=NODE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        while "ready" not in self._process.stdout.readline():
            assert self._process.poll() is None, "the provider does not start"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def provider() -> Iterator[NodeProvider]:
    if shutil.which("node") is None or not (NODE / "node_modules" / "oidc-provider").exists():
        pytest.skip("npm's oidc-provider is not installed: make deps-all")
    http = free_port()
    running = NodeProvider(f"http://127.0.0.1:{http}/api/v1/session/oidc/callback")
    running.http = http  # type: ignore[attr-defined]
    yield running
    running.stop()


@pytest.fixture
def server(provider: NodeProvider, tmp_path: Path) -> Iterator[Server]:
    with Server(
        tmp_path / "data",
        http=f"SASL_PLAINTEXT://127.0.0.1:{provider.http}",  # type: ignore[attr-defined]
        log_level="warning",
        access_control=True,
        super_users="Role:ops",
        http_oidc_issuer=provider.issuer,
        http_oidc_client_id="console",
    ) as running:
        yield running


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(15_000)
    yield opened
    context.close()


def console(provider: Any, where: str = "#/access?tab=rights") -> str:
    return f"http://127.0.0.1:{provider.http}/{where}"


def log_in(page: Any, provider: NodeProvider, name: str) -> None:
    page.get_by_role("link", name=f"Log in by 127.0.0.1:{provider.port}").click()
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.locator("button[type=submit]").click()  # the consent


def test_one_is_back_on_the_page_with_the_roles_of_the_provider(page: Any, provider: NodeProvider) -> None:
    provider.start()
    page.goto(console(provider))
    log_in(page, provider, "alice ops")
    page.wait_for_url("**/#/access?tab=rights")
    page.get_by_text("May somebody do something?").wait_for()
    page.get_by_text("alice").first.wait_for()
    me = page.evaluate("fetch('/api/v1/me').then((reply) => reply.json())")
    assert (me["principal"], me["has_session"]) == ("User:alice", True)
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    (session,) = (cookie for name, cookie in cookies.items() if "login" not in name and "mainstem" in name)
    assert (session["httpOnly"], session["sameSite"]) == (True, "Strict")
    assert "mainstem-login" not in cookies


def test_without_the_role_one_may_do_nothing(page: Any, provider: NodeProvider) -> None:
    provider.start()
    page.goto(console(provider, "#/topics"))
    log_in(page, provider, "bob support")
    page.get_by_text("bob").first.wait_for()
    page.get_by_role("link", name="Access").click()
    page.get_by_role("tab", name="API tokens").wait_for()
    assert page.get_by_role("tab").count() == 1, "one's own tokens, and nothing that an admin sees"


def test_new_keys_of_the_provider_are_accepted_and_its_absence_is_said(
    page: Any, provider: NodeProvider
) -> None:
    page.goto(console(provider, "#/topics"))
    page.get_by_role("link", name=f"Log in by 127.0.0.1:{provider.port}").click()
    page.get_by_text("The login provider cannot be reached now.").wait_for()
    for name in ("alice ops", "carol ops"):
        provider.start()
        page.context.clear_cookies()
        page.goto("about:blank")
        page.goto(console(provider, "#/topics"))
        log_in(page, provider, name)
        page.get_by_text(name.split()[0]).first.wait_for()
        provider.stop()
        time.sleep(RETRY_S)  # keys are not read more often, whatever tokens name


def test_an_answer_that_another_browser_began_is_refused(page: Any, provider: NodeProvider) -> None:
    provider.start()
    began = httpx.get(console(provider, "api/v1/session/oidc"), trust_env=False)
    state = began.headers["set-cookie"].partition("=")[2].partition(".")[0]
    page.goto(console(provider, f"api/v1/session/oidc/callback?state={state}&code=stolen&other=1"))
    page.get_by_text("The login provider did not confirm who you are.").wait_for()
    assert page.evaluate("fetch('/api/v1/me').then((reply) => reply.json())")["principal"] is None
