"""Users and entries in a data folder: doctor, backup and restore know them, and inspect shows no verifier."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from mainstem.access_contract import AclFilter, Operation
from mainstem.clock import LoopClock
from mainstem.coordinator.doctor import OfflineState
from mainstem.log.disk.contract import Disk
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.offline.doctor import FolderExamination
from mainstem.node import Node
from mainstem.settings import Settings
from tests.cli.conftest import command
from tests.support.access import allow, verifier

T = TypeVar("T")


def on_folder(folder: Path, work: Callable[[Node], Awaitable[T]]) -> T:
    """Start a node on the folder, run `work`, stop it."""

    async def run() -> T:
        loop = asyncio.get_running_loop()
        disk = cast(Disk, RealDisk(str(folder), loop))
        settings = Settings(data=str(folder), durability="os", super_users="User:admin")
        node = await Node.open(settings, disk, LoopClock(loop), random.Random(7))
        result = await work(node)
        await node.close()
        return result

    with asyncio.Runner() as runner:
        return runner.run(run())


async def fill(node: Node) -> None:
    await node.access.put_verifiers("alice", [verifier(secret=b"SECRET")])
    await node.access.create_acls([allow(Operation.READ, "orders"), allow(Operation.WRITE, "orders")])
    await node.access.delete_acls([allow(Operation.WRITE, "orders")])


async def contents(node: Node) -> tuple[list[str], int]:
    return [user.name for user in node.access.users()], len(node.access.acls(AclFilter()))


@pytest.mark.slow
def test_the_tools_know_users_and_entries_and_show_no_verifier(tmp_path: Path) -> None:
    folder, saved, restored = tmp_path / "data", tmp_path / "saved", tmp_path / "restored"
    folder.mkdir(mode=0o700)
    on_folder(folder, fill)
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
        assert [*state.findings, *examination.run(lambda key: state.status(key) == "live")] == []
    assert (state.user_count(), state.acl_count()) == (1, 1)
    secret_files = [path for path in folder.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    assert secret_files
    for path in secret_files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        if path.suffix == ".log":
            done = command("inspect", str(path), "--json")
            assert done.code == 0
            assert "alice" not in done.out
            assert "SECRET" not in done.out
    assert command("backup", str(folder), str(saved)).code == 0
    assert command("restore", str(saved), str(restored)).code == 0
    assert on_folder(restored, contents) == (["alice"], 1)
