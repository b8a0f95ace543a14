"""RabbitMQ answers the probes as it is recorded."""

from __future__ import annotations

import os

import pytest

from tests.compat.rabbitmq.broker import missing, rabbitmq
from tests.compat.rabbitmq.compare_with_rabbitmq import RECORDED, difference, play, read


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rabbitmq_answers_as_recorded() -> None:
    if missing() and not os.environ.get("CI"):
        pytest.skip(str(missing()))
    recorded = read(RECORDED.read_text())
    with rabbitmq() as server:
        played = play(server.amqp)
    differences = {name: difference(recorded.get(name, []), lines) for name, lines in played.items()}
    assert {name: lines for name, lines in differences.items() if lines} == {}
    assert set(recorded) == set(played)
