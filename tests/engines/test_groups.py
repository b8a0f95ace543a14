"""Consumer groups whose members hold any bytes as their assignment, through each engine and its users."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from mainstem.clock import LoopClock
from mainstem.contract import Engine, InvalidArgument, NewEvent, StreamError, UnknownGroup
from mainstem.doors.http.sampler import Sampler
from mainstem.kafka_protocol.subscription import write_assignment
from tests.cli.conftest import command
from tests.engines.conftest import kafka
from tests.support.group_member import group_member
from tests.support.server import Server

ASSIGNMENTS = {
    "one-zero": b"\x00",
    "two-zeros": b"\x00\x00",
    "text": b"orders 0, 1 and 2",
    "json": b'{"orders":[0,1]}',
    "cut": write_assignment([("cut", 0)])[:-7],
    "huge-count": b"\x00\x00\x7f\xff\xff\xff",
}
"""Assignments that are not Kafka's, by the name of the group."""
READABLE = {
    "nothing": (b"", ()),
    "usual": (write_assignment([("read", 1), ("read", 0)]), (("read", 0), ("read", 1))),
    "no-topic": (write_assignment([("a/b", 0), ("", 1)]), (("", 1), ("a/b", 0))),
}
WORKER_BYTES = b"\x00\x01\x00\x05hello"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a group for each assignment; their members stay."""
    folder = tmp_path_factory.mktemp("groups")
    with Server(folder / "data", http="127.0.0.1:0") as running, ExitStack() as members:

        async def prepare() -> None:
            async with kafka(running.address) as engine:
                await engine.create_topic("read", partitions=2)
                await engine.publish("read", [NewEvent(b"x", partition=0)])

        asyncio.run(prepare())
        for name, assignment in ASSIGNMENTS.items():
            members.enter_context(group_member(running.address, name, assignment))
        for name, (assignment, _) in READABLE.items():
            members.enter_context(group_member(running.address, name, assignment))
        members.enter_context(group_member(running.address, "workers", WORKER_BYTES, protocol_type="connect"))
        yield running


def http_json(server: Server, path: str) -> Any:
    with urllib.request.urlopen(f"http://{server.http}/api/v1/{path}", timeout=20) as reply:
        return json.load(reply)


def test_an_assignment_that_cannot_be_read_is_counted_and_its_group_is_described(server: Server) -> None:
    async def work() -> None:
        async with kafka(server.address) as engine:
            for name, assignment in ASSIGNMENTS.items():
                info = await engine.group(name)
                (member,) = info.members
                assert (info.state, info.protocol_type) == ("Stable", "consumer")
                assert (member.assigned, member.undecoded_bytes) == ((), len(assignment))
            for name, (_, assigned) in READABLE.items():
                (member,) = (await engine.group(name)).members
                assert (member.assigned, member.undecoded_bytes) == (assigned, 0)
            assert [p.partition for p in (await engine.group("usual")).positions] == [0, 1]
            with pytest.raises(UnknownGroup, match="group no-group: there is no such group"):
                await engine.group("no-group")

    asyncio.run(work())


def test_both_engines_describe_the_same_groups(server: Server) -> None:
    """The server's own HTTP door has the embedded engine."""
    names = sorted([*ASSIGNMENTS, *READABLE, "workers"])
    rows = http_json(server, "groups")["groups"]
    assert [row["group"] for row in rows] == names
    assert all(row["members"] == 1 and row["problem"] is None for row in rows)

    async def work() -> None:
        async with kafka(server.address) as engine:
            assert [(group.name, group.state) for group in await engine.groups()] == [
                (name, "Stable") for name in names
            ]
            for name in names:
                info, shown = await engine.group(name), http_json(server, f"groups/{name}")
                (member,), (row,) = info.members, shown["members"]
                assert row["undecoded_bytes"] == member.undecoded_bytes
                assert [tuple(pair) for pair in row["assigned"]] == list(member.assigned)
                assert shown["protocol_type"] == info.protocol_type

    asyncio.run(work())


def test_groups_of_connect_are_described_without_decoding_their_assignments(server: Server) -> None:
    done = command("groups", "describe", "workers", address=server.address)
    assert done.code == 0
    assert done.rows[0] == ["group", "workers", "Stable", "any"]
    assert done.rows[1][-1] == f"assignment of protocol connect: {len(WORKER_BYTES)} bytes"
    assert http_json(server, "groups/workers")["protocol_type"] == "connect"


def test_the_command_line_shows_which_assignment_cannot_be_read(server: Server) -> None:
    done = command("groups", "describe", "one-zero", "json", "usual", address=server.address)
    assert done.code == 0
    cells = {row[1]: row[-1] for row in done.rows if row[0] == "member"}
    assert cells == {
        "one-zero": "assignment cannot be read: 1 bytes",
        "json": "assignment cannot be read: 16 bytes",
        "usual": "read:0,read:1",
    }
    described = json.loads(command("groups", "describe", "text", "--json", address=server.address).out)
    assert described["members"][0]["undecoded_bytes"] == len(ASSIGNMENTS["text"])


def test_the_sampler_of_a_console_samples_every_group(server: Server) -> None:
    async def work() -> None:
        async with kafka(server.address) as engine:
            sampler = Sampler(engine, LoopClock(asyncio.get_running_loop()))
            await sampler.sample_groups()
            assert sorted(sampler.groups) == sorted([*ASSIGNMENTS, *READABLE, "workers"])

    asyncio.run(work())


class OneGroupFails:
    """The engine of a cluster that refuses to describe the group `text`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def group(self, name: str) -> Any:
        if name == "text":
            raise StreamError("group text: its coordinator is confused")
        return await self._engine.group(name)


def test_a_group_that_cannot_be_described_hides_no_other_group(server: Server) -> None:
    async def work() -> None:
        async with kafka(server.address) as engine:
            failing: Any = OneGroupFails(engine)
            sampler = Sampler(failing, LoopClock(asyncio.get_running_loop()))
            await sampler.sample_groups()
            assert sorted(sampler.groups) == sorted({*ASSIGNMENTS, *READABLE, "workers"} - {"text"})

    asyncio.run(work())


def test_topics_with_impossible_names_are_refused_and_not_a_crash(server: Server) -> None:
    async def work() -> None:
        async with kafka(server.address) as engine:
            with pytest.raises(InvalidArgument):
                await engine.partitions("")

    asyncio.run(work())
