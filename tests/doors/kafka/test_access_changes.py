"""A client loses a right while its request waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mainstem.access_contract import Operation, Principal, ResourceType
from mainstem.doors.kafka import access_changes
from mainstem.doors.kafka import grants as grants_module
from mainstem.doors.kafka.access_changes import AccessChanges
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.access_kit import MemoryAuthorizer
from tests.doors.kafka.kit import DoorClient, batch, produce_request
from tests.doors.kafka.share_kit import GROUP, ShareRig
from tests.support.clock import SimClock
from tests.support.memory_masks import MemoryMasks, mask_rule

DENIED, GROUP_DENIED = 29, 30
READ_T = (Operation.READ, ResourceType.TOPIC, "t")
READ_U = (Operation.READ, ResourceType.TOPIC, "u")
READ_GROUP = (Operation.READ, ResourceType.GROUP, GROUP)
MINUTE_MS = 60_000


@pytest.fixture
def rig() -> Iterator[ShareRig]:
    rig = ShareRig()
    rig.wait(rig.node.topics.create("u", 1))
    yield rig
    assert not rig.dispatcher.context.access_changes._waiting, "nothing is left behind"


def start_fetch(rig: ShareRig, *, version: int = 12, names: tuple[str, ...] = ("t", "u")) -> DoorClient:
    """A client whose Fetch waits a minute for events."""
    client = rig.member().client
    topics = [
        Message(
            topic=name,
            topic_id=rig.node.topics.get(name).id,  # type: ignore[union-attr]
            partitions=[Message(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)],
        )
        for name in names
    ]
    body = Message(max_wait=MINUTE_MS, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, topics=topics)
    client.send(1, version, body)
    assert client.replies() == []
    return client


def codes(reply: Message) -> list[int]:
    return [part.error_code for topic in reply.responses for part in topic.partitions]


@pytest.mark.parametrize("version", [12, 13])
def test_a_fetch_that_waits_ends_at_once_when_the_right_to_a_topic_is_lost(
    rig: ShareRig, version: int
) -> None:
    rig.authorizer.set(READ_T, READ_U)
    client = start_fetch(rig, version=version)
    rig.authorizer.set(READ_T)
    rig.clock.run()
    (reply,) = client.replies()
    assert codes(reply) == [0, DENIED]


def test_a_change_that_takes_nothing_from_the_client_lets_its_fetch_wait(rig: ShareRig) -> None:
    write = (Operation.WRITE, ResourceType.TOPIC, "t")
    rig.authorizer.set(READ_T, READ_U, write)
    client = start_fetch(rig)
    rig.authorizer.set(READ_T, READ_U, write, READ_GROUP)
    rig.clock.advance(1)
    assert client.replies() == []
    rig.produce(b"x")
    rig.clock.advance(0.1)
    (reply,) = client.replies()
    assert codes(reply) == [0, 0]
    assert reply.responses[0].partitions[0].records


def test_an_event_that_comes_in_the_same_turn_as_the_change_is_not_delivered(rig: ShareRig) -> None:
    rig.authorizer.set(READ_T)
    client = start_fetch(rig, names=("t",))
    rig.authorizer.rules = set()  # the authorizer has changed, and has not called anybody yet
    rig.authorizer.version += 1
    partition = rig.node.partition(rig.node.topics.get("t"), 0)  # type: ignore[arg-type]
    for fetch_callback in list(client.dispatcher.context.access_changes._waiting):
        fetch_callback.__self__._finish()  # type: ignore[attr-defined]
    (reply,) = client.replies()
    assert codes(reply) == [DENIED]
    assert not reply.responses[0].partitions[0].records
    assert partition.high_watermark == 0


def test_a_fetch_whose_connection_is_lost_asks_for_nothing_any_more(rig: ShareRig) -> None:
    rig.authorizer.set(READ_T, READ_U)
    client = start_fetch(rig)
    client.connection.lost()
    rig.authorizer.set()
    rig.clock.run()


def test_a_share_fetch_that_waits_ends_when_the_right_to_its_topic_is_lost(rig: ShareRig) -> None:
    rig.authorizer.set(READ_T, READ_GROUP)
    member = rig.member()
    member.send_fetch(max_wait=MINUTE_MS)
    assert not member.has_reply()
    rig.authorizer.set(READ_T, READ_GROUP, READ_U)
    assert not member.has_reply()
    rig.authorizer.set(READ_GROUP)
    assert member.fetch_reply().errors() == {0: (DENIED, 0)}


def test_a_share_fetch_that_waits_ends_when_the_right_to_its_group_is_lost(rig: ShareRig) -> None:
    rig.authorizer.set(READ_T, READ_GROUP)
    member = rig.member()
    member.send_fetch(max_wait=MINUTE_MS)
    assert not member.has_reply()
    rig.authorizer.set(READ_T)
    assert member.fetch_reply().error == GROUP_DENIED


def test_what_was_acquired_of_a_topic_whose_right_was_lost_is_given_back(rig: ShareRig) -> None:
    """The right is lost while the acquisition is being made durable."""
    rig.authorizer.set(READ_T, READ_GROUP, (Operation.WRITE, ResourceType.TOPIC, "t"))
    rig.produce(b"x", b"y")
    member = rig.member()
    member.send_fetch(max_wait=MINUTE_MS)
    rig.authorizer.rules = {READ_GROUP}  # before those who wait are called
    rig.authorizer.version += 1
    assert member.fetch_reply().errors() == {0: (DENIED, 0)}
    rig.authorizer.set(READ_T, READ_GROUP)
    assert rig.member("m2").fetch(max_wait=MINUTE_MS).acquired() == [(0, 1, 2)]


def test_a_fault_of_one_callback_keeps_no_other_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    clock, authorizer, called = SimClock(), MemoryAuthorizer(), [0]
    changes = AccessChanges(authorizer, MemoryMasks(), clock)

    def fault() -> int:
        raise RuntimeError("a fault")

    def count() -> int:
        called[0] += 1
        return 1

    changes.watch(fault)
    changes.watch(count)
    for _ in range(2):
        authorizer.set()
        clock.run()
    assert called == [2]
    assert caplog.text.count("RuntimeError: a fault") == 2


def test_many_requests_that_wait_are_called_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_changes, "QUESTIONS_PER_TURN", 20)
    clock, authorizer = SimClock(), MemoryAuthorizer()
    changes = AccessChanges(authorizer, MemoryMasks(), clock)
    called: list[int] = []

    def call_of(number: int) -> access_changes.OnAccessChange:
        def call() -> int:
            called.append(number)
            return 10

        return call

    calls = [call_of(number) for number in range(5)]
    for call in calls:
        changes.watch(call)
    authorizer.set()
    assert called == [0, 1]
    changes.unwatch(calls[4])
    authorizer.set()  # meanwhile: all are called once more
    clock.run()
    assert called == [0, 1, 2, 3, 0, 1, 2, 3]
    changes.close()
    authorizer.set()
    assert len(called) == 8


def produce_code(client: DoorClient) -> int:
    client.send(0, 9, produce_request("t", batch(b"x"), acks=1))
    (reply,) = client.replies()
    return int(reply.responses[0].partition_responses[0].error_code)


def test_a_right_is_asked_for_once_until_rights_change_and_a_refusal_each_time(rig: ShareRig) -> None:
    write = (Operation.WRITE, ResourceType.TOPIC, "t")
    client, asked = rig.member().client, rig.authorizer.asked
    rig.authorizer.set(write)
    assert produce_code(client) == 0
    asked.clear()
    assert produce_code(client) == 0
    assert not asked
    rig.authorizer.set()
    for _ in range(2):
        asked.clear()
        assert produce_code(client) == DENIED
        assert asked
    rig.authorizer.set(write)
    assert produce_code(client) == 0
    client.connection.identify(Principal("User", "another"))
    asked.clear()
    assert produce_code(client) == 0
    assert asked, "another client has other rights"


def test_what_a_connection_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants_module, "NAMES_MAX", 3)
    grants, right = grants_module.Grants(), of_each(Operation.READ, ResourceType.TOPIC)
    for number in range(5):
        grants.add(right, f"t{number}")
    assert [grants.has(right, f"t{number}") for number in range(5)] == [False, False, False, True, True]


def test_a_rule_that_masks_a_topic_ends_a_fetch_that_waits(rig: ShareRig) -> None:
    client = start_fetch(rig, names=("t",))
    rig.masks.put_rule(mask_rule("u", "card"))
    rig.clock.advance(0.1)
    assert client.replies() == []
    rig.masks.put_rule(mask_rule("t", "card"))
    rig.clock.advance(0.1)
    (reply,) = client.replies()
    assert codes(reply) == [DENIED]
    assert not reply.responses[0].partitions[0].records


def test_a_rule_that_masks_a_topic_ends_a_share_fetch_that_waits(rig: ShareRig) -> None:
    member = rig.member()
    member.send_fetch(max_wait=MINUTE_MS)
    assert member.client.replies() == []
    rig.masks.put_rule(mask_rule("t", "card"))
    assert member.fetch_reply().errors() == {0: (DENIED, 0)}
