"""RabbitMQ answers the probes as it is recorded."""

from __future__ import annotations

import os

import pytest

from tests.compat.rabbitmq.broker import missing, rabbitmq
from tests.compat.rabbitmq.compare_with_rabbitmq import RECORDED, difference, play, play_until_alike, read


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rabbitmq_answers_as_recorded() -> None:
    if missing() and not os.environ.get("CI"):
        pytest.skip(str(missing()))
    recorded = read(RECORDED.read_text())
    with rabbitmq() as server:
        played = play(server.amqp)
        assert set(recorded) == set(played)
        differ = [name for name, lines in played.items() if difference(recorded[name], lines)]
        play_until_alike(server.amqp, differ, lambda name, lines: not difference(recorded[name], lines))
