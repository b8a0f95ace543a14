"""Share groups in the lists of groups: through each engine, by HTTP, and on the command line."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import GroupInfo, NewEvent, StreamError, UnknownGroup
from mainstem.coordinator.groups.share_types import ShareHeartbeat
from mainstem.coordinator.topics.types import ConfigChange
from mainstem.kafka_protocol.message import Message, encode_request
from tests.cli.conftest import command
from tests.doors.kafka.kit import receive_reply
from tests.engines.conftest import kafka
from tests.engines.queue_server import SimulatedServer, simulated
from tests.support.server import Server

EARLIEST = [ConfigChange("share.auto.offset.reset", "set", "earliest")]


async def joined(server: SimulatedServer, epoch: int = 0) -> None:
    beat = ShareHeartbeat(
        group_id="g", member_id="m", member_epoch=epoch, client_id="c", client_host="/h", topics=("t",)
    )
    await server.drive(server.node.share_groups.heartbeat(beat))
    await server.pass_time(0.1)


def test_the_embedded_engine_shows_members_and_what_is_not_done() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"a", b"b", b"c")
        await server.drive(server.node.group_settings.alter("g", EARLIEST))
        await joined(server)
        (listed,) = await server.drive(server.engine.groups())
        assert (listed.name, listed.state, listed.protocol_type) == ("g", "Stable", "share")
        info: GroupInfo = await server.drive(server.engine.group("g"))
        assert (info.assignor, info.protocol_type) == ("simple", "share")
        (member,) = info.members
        assert (member.client_id, member.host, member.assigned[0]) == ("c", "/h", ("t", 0))
        assert sum(position.lag or 0 for position in info.positions) == 3
        delivered = await server.pull("g")
        await server.ack(delivered[0], name="g")
        info = await server.drive(server.engine.group("g"))
        assert sum(position.lag or 0 for position in info.positions) == 2
        with pytest.raises(StreamError, match="has members"):
            await server.drive(server.engine.delete_group("g"))
        await joined(server, epoch=-1)
        await server.drive(server.engine.delete_group("g"))
        with pytest.raises(UnknownGroup):
            await server.drive(server.engine.group("g"))
        assert await server.drive(server.engine.subscriptions()) == ["s"]

    simulated(test)


@pytest.mark.slow
def test_both_engines_the_http_door_and_the_command_line_agree(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:

        async def prepare() -> None:
            async with kafka(server.address) as engine:
                await engine.create_topic("t", partitions=2)

        asyncio.run(prepare())
        heartbeat = Message(
            group_id="g", member_id="m", member_epoch=0, rack_id=None, subscribed_topic_names=["t"]
        )
        host, port = server.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(encode_request(76, 1, 1, "c", heartbeat))
            assert receive_reply(connection, 76, 1).error_code == 0

        def http_json(path: str) -> Any:
            with urllib.request.urlopen(f"http://{server.http}/api/v1/{path}", timeout=20) as reply:
                return json.load(reply)

        async def work() -> GroupInfo:
            async with kafka(server.address) as engine:
                (listed,) = await engine.groups()
                assert (listed.name, listed.state, listed.protocol_type) == ("g", "Stable", "share")
                for index in range(2):
                    await engine.publish("t", [NewEvent(b"x", partition=index)])
                with pytest.raises(StreamError):
                    await engine.delete_group("g")
                return await engine.group("g")

        info = asyncio.run(work())
        (row,) = http_json("groups")["groups"]
        assert (row["group"], row["protocol_type"], row["members"]) == ("g", "share", 1)
        shown = http_json("groups/g")
        assert (shown["assignor"], shown["protocol_type"]) == (info.assignor, info.protocol_type)
        assert [position["lag"] for position in shown["positions"]] == [1, 1]
        assert [position.lag for position in info.positions] == [1, 1]
        assert [tuple(pair) for pair in shown["members"][0]["assigned"]] == list(info.members[0].assigned)
        assert command("groups", "list", address=server.address).rows == [["g", "Stable", "share"]]
        described = command("groups", "describe", "g", address=server.address)
        assert described.rows[0] == ["group", "g", "Stable", "simple"]
