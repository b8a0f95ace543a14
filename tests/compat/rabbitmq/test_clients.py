"""RabbitMQ's clients: every case of their suites passes with RabbitMQ itself, so that a failure elsewhere
says something about the server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.compat.rabbitmq.broker import Addresses, missing, rabbitmq
from tests.compat.rabbitmq.suites import CLIENT_SUITES


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
