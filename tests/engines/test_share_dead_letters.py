"""Dead letters of share groups: Kafka's headers (KIP-1191), with the record or without it."""

from __future__ import annotations

import pytest

from mainstem.contract import Position
from mainstem.queues.range_answer import RangeAnswer, RangeVerb
from mainstem.share_contract import BatchPull
from tests.engines.queue_server import SimulatedServer, simulated


async def group(server: SimulatedServer, **configs: str) -> None:
    """Share group `g` of topic `t`, which begins at the beginning and has dead letters in topic `dead`."""
    chosen = {
        "share.auto.offset.reset": "earliest",
        "share.delivery.count.limit": "2",
        "errors.deadletterqueue.topic.name": "dead",
        **{name.replace("_", "."): value for name, value in configs.items()},
    }
    await server.drive(server.node.group_settings.replace("g", chosen))
    await server.drive(server.node.share_groups.begin_without_members("g", ["t"]))


async def answer(server: SimulatedServer, verb: RangeVerb, offset: int) -> None:
    """Acquire what there is, and answer for one offset."""
    topic = server.node.topics.get("t")
    assert topic is not None
    key, queues = (topic.id, 0), server.engine.batch_queues
    pull = BatchPull("g", "m", [key], max_events=100, max_bytes=1 << 20, min_bytes=1, wait_ms=0)
    await server.drive(queues.pull_batches(pull)[0])
    answers = {key: [RangeAnswer(offset, offset + 1, verb)]}
    assert await server.drive(queues.answer_ranges("g", "m", answers)) == {}


async def letters(server: SimulatedServer) -> list[tuple[bytes | None, dict[str, str]]]:
    reader = await server.engine.reader([Position("dead", 0, 0)])
    events = (await server.drive(reader.read(wait_ms=0))).events
    await reader.close()
    return [
        (event.value, {name: (value or b"").decode() for name, value in event.headers}) for event in events
    ]


@pytest.mark.parametrize("copies", [True, False])
def test_what_is_given_up_has_kafkas_headers(copies: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server, errors_deadletterqueue_copy_record_enable=str(copies).lower())
        await server.publish("t", b"0", b"1")
        await answer(server, "reject", 0)
        for _ in range(2):
            await answer(server, "release", 1)
        await server.pass_time(1)
        (value, rejected), (failed_value, failed) = await letters(server)
        assert (value, failed_value) == ((b"0", b"1") if copies else (None, None))
        assert {name: text for name, text in rejected.items() if name.startswith("__dlq")} == {
            "__dlq.errors.topic": "t",
            "__dlq.errors.partition": "0",
            "__dlq.errors.offset": "0",
            "__dlq.errors.group": "g",
            "__dlq.errors.delivery.count": "1",
            "__dlq.errors.message": "Offset rejected by client.",
        }
        assert failed["__dlq.errors.delivery.count"] == "2"
        assert failed["__dlq.errors.message"] == "Offset delivery count exceeded the threshold."
        assert failed["mainstem-dead-letter-from"] == "t/0/1", "what `mainstem queues` reads"
        info = await server.drive(server.engine.subscription("g"))
        assert (info.dead_lettered, info.depth.outstanding) == (2, 0)
        assert await server.drive(server.engine.redrive("g", [Position("t", 0, 0)])) == 1

    simulated(test)


def test_while_the_topic_is_not_there_nothing_is_lost() -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server, errors_deadletterqueue_topic_name="later")
        await server.publish("t", b"0")
        await answer(server, "reject", 0)
        await server.pass_time(1)
        info = await server.drive(server.engine.subscription("g"))
        assert (info.depth.dying, info.dropped) == (1, 0)
        assert "topic later does not exist" in info.problems[0]
        await server.crash(power=True)
        await server.drive(server.engine.create_topic("later", partitions=1))
        await server.pass_time(60)
        info = await server.drive(server.engine.subscription("g"))
        assert (info.depth.dying, info.dead_lettered) == (0, 1)

    simulated(test)
