"""The console without data, with an unhealthy or unreachable server, and in read-only mode."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.support.ports import free_port
from tests.support.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    """A server without topics whose address is the same after a restart."""
    with Server(tmp_path / "data", http=f"127.0.0.1:{free_port()}", log_level="warning") as server:
        yield server


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page in which errors are allowed: the browser reports refused connections."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("overview", "No events are being published at the moment."),
        ("topics", "No topics yet"),
        ("search", "No events here"),
        ("trace", "Which value do you want to trace?"),
        ("groups", "No consumer groups"),
        ("topics/nope", "nope"),
        ("groups/nope", "nope"),
        ("event/nope/0/0", "nope"),
    ],
)
def test_an_empty_page_says_why(empty_server: Server, page: Any, where: str, text: str) -> None:
    page.goto(f"http://{empty_server.http}/#/{where}")
    page.locator(".empty, .notice.bad, section .muted").get_by_text(text).first.wait_for()


def test_an_unreachable_server_is_reported_and_the_page_recovers(empty_server: Server, page: Any) -> None:
    page.goto(f"http://{empty_server.http}/#/overview")
    page.get_by_text("reading and writing").wait_for()
    empty_server.stop()
    page.locator(".banner").get_by_text("The server does not respond").wait_for()
    page.get_by_role("link", name="Topics", exact=True).click()
    page.locator("main").get_by_text("The server does not respond").wait_for()
    empty_server.start(same_port=True)
    page.get_by_text("No topics yet").wait_for()
    page.locator(".banner").wait_for(state="hidden")
    page.get_by_role("link", name="Overview").click()
    page.get_by_text("reading and writing").wait_for()


def test_the_overview_says_how_old_its_figures_are(empty_server: Server, page: Any) -> None:
    old = {"age_ms": 95_000, "groups_age_ms": 300_000}

    def answer_as_a_busy_server(route: Any) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, json=reply.json() | old)

    page.route("**/api/v1/stats", answer_as_a_busy_server)
    page.goto(f"http://{empty_server.http}/#/overview")
    notice = page.locator(".notice.warn").get_by_text("The server is busy")
    notice.wait_for()
    text = notice.inner_text()
    assert "topics and rates are 1 min 35 s old, lag and stalled groups are 5 min old" in text
    old |= {"age_ms": 900, "groups_age_ms": 20_000}
    notice.wait_for(state="detached")


def test_the_overview_reports_a_full_disk(tmp_path: Path, page: Any) -> None:
    more_than_the_disk = shutil.disk_usage(tmp_path).total
    with Server(tmp_path / "data", http="127.0.0.1:0", disk_reserve_bytes=more_than_the_disk) as server:
        page.goto(f"http://{server.http}/#/overview")
        alarm = page.locator(".notice.bad")
        alarm.get_by_text("Not healthy").wait_for()
        assert "topics accept no events" in alarm.inner_text()


def test_a_read_only_console_says_so_and_has_no_buttons(tmp_path: Path, page: Any) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0", http_read_only="true") as server:
        Producer({"bootstrap.servers": server.address}).list_topics("orders", 10)
        page.goto(f"http://{server.http}/#/overview")
        page.get_by_text("this console cannot change, publish or replay anything").wait_for()
        page.get_by_role("link", name="Topics", exact=True).click()
        page.locator(".page-head").get_by_text("topic").first.wait_for()
        buttons = page.get_by_role("button").all_inner_texts()
        assert not {"New topic", "Delete…", "Replay…", "Publish"} & set(buttons)


def test_a_console_in_front_of_a_cluster_says_so(empty_server: Server, page: Any, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mainstem",
        "console",
        "--at",
        empty_server.address,
        "--http",
        "127.0.0.1:0",
    ]
    command += ["--data", str(tmp_path / "filters")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as console:
        try:
            assert console.stdout is not None
            address = re.search(r"http://[\d.:]+", console.stdout.readline())
            assert address is not None
            page.goto(f"{address[0]}/#/overview")
            page.get_by_text("1 broker, observed by this console").wait_for()
            page.get_by_role("link", name="Search").click()
            page.get_by_text("No events here").wait_for()
        finally:
            console.terminate()


def test_the_overview_names_doors_that_are_off(tmp_path: Path, page: Any) -> None:
    command = [sys.executable, "-m", "tests.doors.echo", "serve", "--data", str(tmp_path / "data")]
    command += ["--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--durability", "os"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            match = re.search(r"http=(\S+)", server.stdout.readline())
            assert match is not None
            page.goto(f"http://{match[1]}/#/overview")
            off = page.get_by_text(re.compile(r"Doors that are off: .*\bEcho \(--echo HOST:PORT\)"))
            off.wait_for()
            assert "(--amqp091 HOST:PORT)" in off.inner_text()
        finally:
            server.terminate()
