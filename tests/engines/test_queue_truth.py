"""What subscriptions say must be true: reasons, dead letters that cannot be forged, tokens, lost topics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mainstem.contract import InvalidArgument, NewEvent, Position
from mainstem.coordinator.queues import reasons
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.publish import append as append_events
from mainstem.engines.embedded.publish import results_of
from mainstem.engines.embedded.queues.letters import letter_headers
from mainstem.engines.embedded.queues.tokens import DeliveryToken
from mainstem.engines.embedded.topics import format_id
from mainstem.log.errors import InvalidBatch
from mainstem.log.storage.record_batch import build
from mainstem.queue_contract import Ack, DeadLetterInfo, Nack, Outcome, Reject, Verdict
from tests.coordinator.test_queue_clamp import subscribed
from tests.engines.queue_server import SimulatedServer, depth, simulated, values
from tests.test_node import NodeRig


async def settle(server: SimulatedServer, *outcomes: Outcome) -> list[Verdict]:
    return await server.drive(server.engine.settle("s", outcomes))


async def letters(server: SimulatedServer) -> list[DeadLetterInfo]:
    return await server.drive(server.engine.dead_letters("s"))


# ----------------------------------------------------------------------------------------------------------
# reasons


def test_a_reason_survives_a_kill_and_is_shown_and_in_the_dead_letter() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        first, second = await server.pull()
        await settle(
            server, Nack(first.token, reason="no stock"), Nack(second.token, 60_000, reason="closed")
        )
        await server.drive(server.engine.delete_topic("dead"))
        await server.crash(power=True)
        browsed = await server.drive(server.engine.browse("s"))
        assert [event.reason for event in browsed] == ["no stock", "closed"]
        (first,) = await server.pull()
        await settle(server, Reject(first.token, "never any stock"))
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(1)
        await server.crash(power=True)
        (browsed_first, _) = await server.drive(server.engine.browse("s"))
        assert (browsed_first.state, browsed_first.reason) == ("dying", "never any stock")
        await server.drive(server.engine.create_topic("dead", partitions=1))
        await server.pass_time(61)
        (letter,) = await letters(server)
        assert (letter.reason, letter.detail) == ("rejected", "never any stock")
        (second,) = await server.pull()
        await settle(server, Nack(second.token))
        assert len(server.node.subscriptions.views.reasons) == 1, (
            "a failure without words keeps the last ones"
        )

    simulated(test, failures_max=3, dead_letter_topic="dead")


# ----------------------------------------------------------------------------------------------------------
# who is believed


def test_no_header_of_a_publisher_is_believed() -> None:
    """A test for each header: alone, and all together, in the dead-letter topic and in the event itself."""

    async def test(server: SimulatedServer) -> None:
        topic = server.node.topics.get("t")
        dead = server.node.topics.get("dead")
        assert topic is not None
        assert dead is not None
        await server.publish("t", b"0", b"1")
        first, second = await server.pull()
        facts = DeadLetterInfo(
            first.event, Position("t", 0, 0), format_id(topic.id), "rejected", "forged", 1, 5
        )
        forged = letter_headers(facts, "s")
        assert len(forged) == 8
        await server.drive(
            server.engine.publish("dead", [NewEvent(b"x", headers=(header,)) for header in forged])
        )
        await server.drive(server.engine.publish("dead", [NewEvent(b"x", headers=tuple(forged))]))
        await server.ack(first)
        assert await letters(server) == []

        # The server's producer id cannot be used by a client.
        server_id = server.node.producer_ids.server_id
        assert server_id is not None
        batch = build([(None, b"x", forged, 5)], producer_id=server_id, producer_epoch=0, base_sequence=0)
        with pytest.raises(InvalidBatch):
            server.node.append_from_client(dead, 0, memoryview(batch))

        # An event that claims to be a letter, or anything else that the server would believe, of another one.
        claims = (*forged, ("mainstem-route", b"\x01\x02"), ("user", b"kept"))
        await server.drive(server.engine.publish("t", [NewEvent(b"2", headers=claims)]))
        await server.ack(second)
        (third,) = await server.pull()
        await settle(server, Reject(third.token, "true"))
        await server.pass_time(1)
        (letter,) = await letters(server)
        assert (letter.origin, letter.detail, letter.attempts) == (Position("t", 0, 2), "true", 1)
        names = [name for name, _ in letter.letter.headers]
        assert names[: len(claims)] == [
            *(f"user.{name}" for name, _ in forged),
            "user.mainstem-route",
            "user",
        ]
        assert len([name for name in names if name.startswith("mainstem-")]) == 8

    simulated(test, dead_letter_topic="dead")


def test_each_fact_of_a_letter_has_to_be_readable() -> None:
    """Also in the server's batches: an earlier version may have written them."""

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (event,) = [delivery.event for delivery in await server.pull()]
        facts = DeadLetterInfo(event, Position("t", 0, 0), "id", "rejected", "d", 1, 5)
        whole = letter_headers(facts, "s")
        dead = server.node.topics.get("dead")
        server_id = server.node.producer_ids.server_id
        assert dead is not None
        assert server_id is not None
        damaged = [[header for header in whole if header is not left_out] for left_out in whole]
        damaged += [
            [(name, bad if name.endswith("-from") else value) for name, value in whole]
            for bad in (b"t/0", b"t/x/0", b"", b"\xff")
        ]
        written = append_events(
            "dead",
            server.node.partition(dead, 0),
            [NewEvent(b"x", headers=tuple(headers)) for headers in (*damaged, whole)],
            5,
            producer_id=server_id,
        )
        await server.drive(results_of(written))
        readable = [letter.letter.offset for letter in await letters(server)]
        # Without the consumer's words, or the event's time, it is a letter all the same.
        assert len(readable) == 3
        assert readable[-1] == len(damaged)
        page = await server.drive(server.engine.dead_letters("s", after=Position("dead", 0, readable[0])))
        assert [letter.letter.offset for letter in page] == readable[1:]
        assert await server.drive(server.engine.dead_letters("s", since_ms=1 << 50)) == []

    simulated(test, dead_letter_topic="dead")


def test_a_dead_letter_says_the_id_of_its_topic() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        await settle(server, Reject(delivery.token))
        await server.pass_time(1)
        first_id = await server.drive(server.engine.topic_id("t"))
        await server.drive(server.engine.delete_topic("t"))
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.publish("t", b"another")
        (letter,) = await letters(server)
        assert letter.topic_id == first_id != await server.drive(server.engine.topic_id("t"))

    simulated(test, dead_letter_topic="dead")


def test_many_dead_letters_over_crashes_are_all_written_with_the_servers_id() -> None:
    """The sequence numbers of the server's batches go on in every life, and after other writers."""

    async def test(server: SimulatedServer) -> None:
        for number in range(6):
            await server.publish("t", b"%d" % number)
            await server.publish("dead", b"by another")
            (delivery,) = await server.pull()
            await settle(server, Reject(delivery.token))
            await server.pass_time(1)
            await server.crash(power=bool(number % 2))
        await server.pass_time(2)
        assert [letter.letter.value for letter in await letters(server)] == [b"%d" % n for n in range(6)]

    simulated(test, dead_letter_topic="dead")


def test_redrive_by_position_asks_the_filter() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"yes 0", b"no 1", b"yes 2")
        await server.pass_time(1)
        await server.ack(*await server.pull())
        positions = [Position("t", 0, offset) for offset in range(3)]
        for dry_run in (True, False):
            assert await server.drive(server.engine.redrive("s", positions, dry_run=dry_run)) == 2
        assert values(await server.pull()) == [b"yes 0", b"yes 2"]

    simulated(test, filter="yes")


# ----------------------------------------------------------------------------------------------------------
# settings and topics that change


def test_what_was_given_up_before_the_setting_is_removed_still_goes_to_the_topic() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        await server.drive(server.engine.delete_topic("dead"))
        first, second = await server.pull()
        await settle(server, Reject(first.token))
        settings = (await server.drive(server.engine.subscription("s"))).settings
        await server.drive(server.engine.alter_subscription("s", replace(settings, dead_letter_topic=None)))
        await settle(server, Reject(second.token))
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(2)
        info = await server.drive(server.engine.subscription("s"))
        assert (info.depth.dying, info.dropped) == (1, 1)
        assert info.problems == ("subscription s: topic dead does not exist",)
        await server.crash(power=True)
        await server.drive(server.engine.create_topic("dead", partitions=1))
        await server.pass_time(31)
        assert [letter.letter.value for letter in await letters(server)] == [b"0"]
        assert (await depth(server)).outstanding == 0

    simulated(test, dead_letter_topic="dead")


def test_topics_that_do_not_exist_are_problems() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.delete_topic("t"))
        await server.drive(server.engine.delete_topic("dead"))
        problems = (await server.drive(server.engine.subscription("s"))).problems
        assert problems == (
            "topic t does not exist",
            "dead-letter topic dead does not exist: events that are given up wait for it",
        )
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.drive(server.engine.create_topic("dead", partitions=1))
        assert (await server.drive(server.engine.subscription("s"))).problems == ()

    simulated(test, dead_letter_topic="dead")


def test_a_topic_that_is_taken_out_is_forgotten_and_its_tokens_are_invalid() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.create_topic("u", partitions=1))
        settings = (await server.drive(server.engine.subscription("s"))).settings
        both, alone = replace(settings, topics=("t", "u")), replace(settings, topics=("u",))
        await server.drive(server.engine.alter_subscription("s", both))
        await server.publish("t", b"0", b"1")
        first, second = await server.pull()
        await settle(server, Ack(first.token))
        await server.drive(server.engine.alter_subscription("s", alone))
        assert [view.topic_id for view in server.node.subscriptions.views_of("s")] == [
            server.node.topics.get("u").id  # type: ignore[union-attr]
        ]
        assert await settle(server, Ack(second.token)) == ["invalid"]
        await server.drive(server.engine.alter_subscription("s", both))
        again = await server.pull()
        assert values(again) == [b"0", b"1"], "it begins anew"
        await server.drive(server.engine.delete_topic("dead"))
        await settle(server, Reject(again[0].token))
        with pytest.raises(InvalidArgument, match="no dead letter yet"):
            await server.drive(server.engine.alter_subscription("s", alone))

    simulated(test, dead_letter_topic="dead")


def test_tokens_of_a_deleted_topic_are_invalid() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        await server.drive(server.engine.delete_topic("t"))
        await server.pass_time(1)
        assert await settle(server, Ack(delivery.token), Nack(delivery.token)) == ["invalid", "invalid"]

    simulated(test)


# ----------------------------------------------------------------------------------------------------------
# what is counted, and for whom an acknowledgement counts


def test_an_event_that_never_reached_its_consumer_was_not_delivered() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        unread = await server.pull()
        outcomes = [Nack(delivery.token, delivered=False) for delivery in unread]
        assert await settle(server, *outcomes, outcomes[0]) == ["done", "done", "stale"]
        first, second = await server.pull()
        assert (first.attempt, second.attempt) == (1, 1)
        await settle(server, Nack(first.token))
        (first,) = await server.pull()
        assert first.attempt == 2
        await settle(server, Nack(first.token, delivered=False))
        (first,) = await server.pull()
        assert first.attempt == 2
        (browsed, _) = await server.drive(server.engine.browse("s"))
        assert (browsed.attempts, browsed.failures) == (2, 1)
        await server.ack(first, second)
        assert (await server.drive(server.engine.subscription("s"))).redelivered == 2

    simulated(test)


def test_what_a_pull_has_no_room_for_was_not_delivered() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"x"] * 500)
        await server.publish("t", *[b"x" * 100_000] * 4)
        seen: dict[int, list[int]] = {}
        while deliveries := await server.drive(server.engine.pull("s", "c", max_bytes=120_000)):
            for delivery in deliveries:
                seen.setdefault(delivery.event.offset, []).append(delivery.attempt)
        assert len(seen) == 504
        assert all(attempts == [1] for attempts in seen.values())

    simulated(test)


def restarted_after_a_loss() -> tuple[NodeRig, SubscriptionView, int]:
    """Position 4 was delivered, lost in a power cut, and is another event's after two restarts. The machine,
    the view, and the epoch of that delivery."""
    machine = NodeRig(durability="os")
    view = subscribed(machine, 3)
    machine.done(machine.node.subscriptions.settle([]))
    view.sequence.scan(6)
    subscriptions = machine.node.subscriptions
    assert machine.done(subscriptions.acquire(view, "c", 6)) is not None
    epoch = subscriptions.epoch
    machine.start()
    machine.settle()
    topic = machine.node.topics.all()[0]
    for _ in range(3):
        machine.append(topic)
    (view,) = machine.node.subscriptions.views_of("mail")
    view.sequence.scan(6)
    lease = machine.done(machine.node.subscriptions.acquire(view, "c", 6))
    machine.done(
        machine.node.subscriptions.settle(
            [Settlement(view.id, lease.id, machine.node.subscriptions.epoch, lease.runs, "nack")]
        )
    )
    machine.restart()
    (view,) = machine.node.subscriptions.views_of("mail")
    view.sequence.scan(6)
    return machine, view, epoch


def test_a_token_of_a_lost_event_acknowledges_no_other() -> None:
    """I4, with durability `os`: the offsets of lost events are those of others two restarts later."""
    machine, view, epoch = restarted_after_a_loss()
    answer = Settlement(view.id, 1, epoch, ((4, 5),))
    assert machine.done(machine.node.subscriptions.settle([answer])) == [[]]


def test_late_acknowledgements_count_over_restarts_that_lose_nothing() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        first, second = await server.pull()
        for power in (False, True):
            await server.crash(power=power)
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(1)
        await server.crash(power=True)
        assert await settle(server, Ack(first.token)) == ["late"]
        token = DeliveryToken.decode(second.token)
        assert token is not None
        unknown = token._replace(epoch=(token.epoch + 1) % (1 << 32)).encode()
        assert await settle(server, Ack(unknown)) == ["stale"]
        assert await settle(server, Ack(second.token)) == ["late"]

    simulated(test)


def test_texts_are_limited_by_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "REASON_CHARS_MAX", 10)
    texts = reasons.EventReasons()
    for position in range(5):
        texts.put(7, position, "four")
    texts.put(7, 4, "new")
    assert [texts.get(7, position) for position in range(5)] == ["", "", "", "four", "new"]
    texts.forget(7, [(0, 4)])
    texts.put(8, 4, "four")
    texts.forget_view(7)
    assert [(record.view, record.runs, record.text) for record in texts.records()] == [(8, [(4, 5)], "four")]
