"""Each dead letter has one copy, whatever ends the server, or refuses to record that the copy is there."""

from __future__ import annotations

import random
from typing import cast

import pytest

from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.stored_topology import MOVES
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.view_changes import ViewChanges
from mainstem.engines.embedded.queues.sink_moves import SinkMoves
from mainstem.promise import Promise
from mainstem.queue_contract import Reject
from tests.amqp.model import Model, with_model

LETTERS: FieldTable = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"}


class RefusingChanges:
    """Changes of views none of which records that dead letters are done."""

    def __init__(self, outcome: Promise[object]) -> None:
        self.outcome = outcome
        self.calls = 0

    def cancel(self, view: object, runs: object) -> Promise[object]:
        self.calls += 1
        return self.outcome


def moves_of(model: Model) -> SinkMoves:
    return model.server.engine._queue_service.dead_letters.sink_moves


def refuse_records(model: Model, outcome: Promise[object]) -> RefusingChanges:
    """From now on it is not recorded that dead letters are done."""
    refusing = RefusingChanges(outcome)
    moves_of(model)._changes = cast(ViewChanges, refusing)
    return refusing


async def reject(model: Model, queue: str = "work") -> int:
    """Reject what a queue has."""
    deliveries = await model.pull(queue)
    subscription = model.vhost.queues[queue].subscription
    await model.drive(model.server.engine.settle(subscription, [Reject(item.token) for item in deliveries]))
    return len(deliveries)


async def prepare(model: Model, *bodies: bytes) -> None:
    await model.queue("graveyard")
    await model.queue("work", LETTERS)
    await model.publish("", "work", *bodies)


async def note_of(model: Model) -> bytes | None:
    notes = await model.drive(model.server.engine.routed_queues.notes("/"))
    return notes.get(MOVES)


@pytest.mark.parametrize("power", [False, True])
def test_a_kill_between_a_copy_and_its_record_makes_no_second_copy(power: bool) -> None:
    async def test(model: Model) -> None:
        await prepare(model, b"1", b"2")
        refusing = refuse_records(model, Promise())
        await reject(model)
        await model.server.pass_time(1)
        assert refusing.calls == 1
        for _ in range(2):  # the second life dies in the same way
            await model.vhosts.close()
            await model.server.crash(power=power)
            refusing = refuse_records(model, Promise())
            await model.open()
            await model.server.pass_time(30)
            assert refusing.calls == 1
        await model.crash(power=power)
        await model.publish("", "work", b"3")
        await reject(model)
        await model.server.pass_time(1)
        assert sorted(await model.bodies("graveyard"), key=str) == [b"1", b"2", b"3"]
        assert await model.bodies("work") == []
        await model.server.pass_time(30)
        assert await note_of(model) is None

    with_model(test)


def test_a_record_that_is_refused_makes_no_second_copy() -> None:
    async def test(model: Model) -> None:
        await prepare(model, b"1")
        before = moves_of(model)._changes
        refusing = refuse_records(model, Promise.failed(CoordinatorError("the disk is full")))
        await reject(model)
        await model.server.pass_time(20)
        assert refusing.calls > 2
        moves_of(model)._changes = before
        await model.server.pass_time(40)
        assert await model.bodies("graveyard") == [b"1"]
        assert await model.bodies("work") == []

    with_model(test)


def test_the_note_follows_what_is_moved_and_ends_with_it() -> None:
    async def test(model: Model) -> None:
        await prepare(model, b"1")
        assert await note_of(model) is None
        await reject(model)
        await model.server.pass_time(1)
        assert await note_of(model) == b'{"amqp.default":[1]}'  # behind the message itself
        await model.publish("", "work", b"2", b"3")
        await reject(model)
        await model.server.pass_time(1)
        assert await note_of(model) == b'{"amqp.default":[1]}'
        await model.server.pass_time(20)
        assert await note_of(model) is None
        refuse_records(model, Promise())
        await model.publish("", "work", b"4")
        await reject(model)
        await model.server.pass_time(30)
        assert await note_of(model) == b'{"amqp.default":[7]}'  # three messages, three copies, the fourth
        await model.drive(model.server.engine.delete_topic("amqp.default"))
        await model.crash()
        await model.server.pass_time(30)
        assert await note_of(model) is None

    with_model(test)


@pytest.mark.parametrize("seed", range(4))
def test_random_kills_leave_one_copy_of_each_letter(seed: int) -> None:
    async def test(model: Model) -> None:
        rng = random.Random(seed)
        await model.exchange("dead", "fanout")
        await model.queue("graveyard")
        await model.bind("dead", "graveyard")
        for queue in ("work", "retry"):
            await model.queue(queue, {"x-dead-letter-exchange": "dead"})
        number = 0
        for _ in range(12):
            for queue in ("work", "retry"):
                bodies = [str(number + index).encode() for index in range(rng.randrange(1, 6))]
                number += len(bodies)
                assert set(await model.publish("", queue, *bodies)) == {"routed"}
                deliveries = await model.pull(queue)
                subscription = model.vhost.queues[queue].subscription
                tokens = [Reject(item.token) for item in deliveries]
                await model.drive(model.server.engine.settle(subscription, tokens))
            for _ in range(rng.randrange(8)):
                await model.server.turns()
            await model.crash(power=rng.random() < 0.3)
        await model.server.pass_time(5)
        letters: list[bytes | None] = []
        while taken := await model.bodies("graveyard"):
            letters += taken
        assert sorted(letters, key=lambda body: int(body or b"")) == [
            str(index).encode() for index in range(number)
        ]

    with_model(test)
