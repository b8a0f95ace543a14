"""RabbitMQ's clients: every case of their suites passes with RabbitMQ itself, so that a failure elsewhere
says something about the server; and with mainstem, but for what is listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.rabbitmq.broker import Addresses, missing, rabbitmq
from tests.compat.rabbitmq.mainstem_server import mainstem_with_amqp
from tests.compat.rabbitmq.suites import CLIENT_SUITES

MAINSTEM_FAILS = {
    "wrong-password": "without access control any password is right",
    "TestCorruptedMessageIssue7": "waits 200 ms for each message, also on a busy machine",
    "TestDeclareArgsRejectToDeadLetterQueue": "does not wait for a dead letter, which waits for a commit",
}
"""The cases that fail with mainstem, or may, and why."""


@pytest.fixture(scope="module")
def reference() -> Iterator[Addresses]:
    if missing() and not os.environ.get("CI"):
        pytest.skip(str(missing()))
    with rabbitmq() as addresses:
        yield addresses


def need(client: str) -> None:
    """Skip, naming what to install; in CI nothing may be missing."""
    lacking = CLIENT_SUITES[client].missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"{client} needs {lacking}")
    if lacking:
        pytest.skip(f"{client} needs {lacking}")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", CLIENT_SUITES)
def test_every_case_passes_with_rabbitmq(client: str, reference: Addresses) -> None:
    need(client)
    result = CLIENT_SUITES[client].run(reference.amqp)
    assert result.failed == {}, result.output[-6000:]
    assert result.passed


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", CLIENT_SUITES)
def test_every_case_passes_with_mainstem_but_for_what_is_listed(client: str, tmp_path: Path) -> None:
    need(client)
    with mainstem_with_amqp(tmp_path) as address:
        result = CLIENT_SUITES[client].run(address)
    unlisted = {case: reason for case, reason in result.failed.items() if case not in MAINSTEM_FAILS}
    assert unlisted == {}, result.output[-6000:]
    assert result.passed
