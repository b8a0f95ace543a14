"""The second state log, that of queues: as durable, as guarded and as easy to copy as the first, and neither
disturbs the other."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from mainstem.clock import LoopClock
from mainstem.coordinator.doctor import OfflineState
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.records import EventsAcked, SubscriptionCreated
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec, StateDamaged, StateTooNew
from mainstem.coordinator.runtime.state_log import QUEUE_LOG, STATE_LOG, STATE_LOGS
from mainstem.coordinator.state_machines import FIELDS, StateMachines
from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.disk.contract import Disk
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.errors import StorageError
from mainstem.log.offline import backup
from mainstem.log.offline.backup_folder import FolderRestore, FolderTarget
from mainstem.log.offline.doctor import FolderExamination, ReadOnlyDisk
from mainstem.log.offline.doctor_repair import FolderRepair
from mainstem.log.offline.doctor_scan import Finding
from mainstem.log.storage import record_batch as batches
from mainstem.node import Node
from mainstem.queues.settings import SubscriptionSettings
from mainstem.settings import Settings
from tests.test_node import NodeRig

QUEUES = QUEUE_LOG.folder
LOG_FOLDER = paths.partition_folder(*QUEUE_LOG.key)


def names(node: Node) -> list[str]:
    return [subscription.name for subscription in node.subscriptions.all()]


@pytest.fixture(params=["disk", "os"])
def machine(request: pytest.FixtureRequest) -> NodeRig:
    return NodeRig(durability=request.param)


def test_every_state_machine_runs_on_one_state_log() -> None:
    fields = [field for kind in STATE_LOGS for field in FIELDS[kind]]
    assert sorted(fields) == sorted(StateMachines._fields)
    assert {kind.key: kind.folder for kind in STATE_LOGS} == backup.STATE_LOGS
    tags = [
        record.__struct_config__.tag for kind in STATE_LOGS for record in StateMachines.record_types(kind)
    ]
    assert len(set(tags)) == len(tags), "a tag is that of one record, in whatever log it is"


# --- as the first log -------------------------------------------------------------------------------------


def test_subscriptions_survive_a_restart_and_kill_9(machine: NodeRig) -> None:
    machine.done(machine.node.subscriptions.create("mail", {"lock_ms": 5_000}))
    assert names(machine.restart()) == ["mail"]
    machine.done(machine.node.subscriptions.create("bills"))
    assert names(machine.start()) == ["bills", "mail"]
    assert machine.node.subscriptions.get("mail").settings.lock_ms == 5_000


def test_each_log_has_snapshots_of_its_own(machine: NodeRig) -> None:
    machine.create("a")
    for number in range(3):
        machine.done(machine.node.subscriptions.create(f"s{number}"))
        machine.node.queue_runtime.take_snapshot()
        machine.settle()
    offsets = snapshot.offsets(machine.disk, QUEUES)
    assert offsets == [3, 2]
    assert machine.node.log.queue_state.log_start_offset == 2
    assert snapshot.offsets(machine.disk) == []
    assert machine.node.log.state.log_start_offset == 0
    machine.start()
    assert (names(machine.node), machine.names()) == (["s0", "s1", "s2"], ["a"])
    machine.done(machine.node.subscriptions.delete("s2"))
    assert machine.done(machine.node.subscriptions.create("s2")).id == 4, "no id is given again"


def test_an_id_is_not_given_again_after_a_snapshot(machine: NodeRig) -> None:
    machine.done(machine.node.subscriptions.create("a"))
    machine.done(machine.node.subscriptions.delete("a"))
    for _ in range(2):
        machine.node.queue_runtime.take_snapshot()
        machine.settle()
    machine.restart()
    assert machine.done(machine.node.subscriptions.create("a")).id == 2


def test_a_failed_commit_undoes_the_records_of_both_logs() -> None:
    machine = NodeRig()
    machine.create("a")
    machine.done(machine.node.subscriptions.create("s"))
    failures = iter([True])
    machine.disk.fail = lambda call, path: call == "sync" and next(failures, False)
    topic, subscription = machine.node.topics.create("b"), machine.node.subscriptions.create("lost")
    assert names(machine.node) == ["lost", "s"]
    machine.settle(5)
    assert isinstance(topic.error, StorageError)
    assert isinstance(subscription.error, StorageError)
    assert (names(machine.node), machine.names()) == (["s"], ["a"])
    machine.done(machine.node.subscriptions.create("lost"))
    machine.start()
    assert names(machine.node) == ["lost", "s"]


def test_while_its_state_is_loaded_again_requests_fail_and_the_node_is_not_ready() -> None:
    machine = NodeRig()
    machine.done(machine.node.subscriptions.create("s"))
    assert list(machine.node.state_problems()) == []
    machine.node.queue_runtime._fence(OSError("the disk fails"))
    (problem,) = machine.node.state_problems()
    assert "state log of queues (subscriptions and acknowledgements) does not serve" in problem
    assert isinstance(machine.node.subscriptions.create("t").error, StorageError)
    assert machine.create("a").name == "a", "topics do not depend on it"
    machine.settle()
    assert list(machine.node.state_problems()) == []
    assert names(machine.node) == ["s"]


def test_a_clean_stop_sends_the_parked_replies_of_both_logs() -> None:
    machine = NodeRig()
    parked = machine.node.subscriptions.create("a")
    closed = machine.node.close()
    assert isinstance(machine.node.subscriptions.create("b").error, StorageError)
    machine.settle()
    assert closed.done
    assert parked.result().name == "a"
    assert names(machine.start()) == ["a"]


def test_retention_and_deletion_spare_it(machine: NodeRig) -> None:
    machine.done(machine.node.subscriptions.create("s"))
    machine.done(machine.node.enforce_retention())
    assert machine.node.log.queue_state.log_start_offset == 0
    with pytest.raises(AssertionError, match="never deleted"):
        machine.node.log.delete_topic(paths.QUEUE_STATE_TOPIC)
    assert machine.node.log.queue_state.topic_id == UUID(int=2)
    assert machine.node.topics.by_id(UUID(int=2)) is None


# --- folders without it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", ["whole", "none"])
def test_a_folder_that_was_made_without_it_opens_and_gets_it(machine: NodeRig, checkpoint: str) -> None:
    machine.create("a")
    machine.append(machine.node.topics.all()[0])
    assert machine.node.close() is not None
    machine.settle()
    for path in [path for path in machine.disk.files if path.startswith((QUEUES, LOG_FOLDER))]:
        machine.disk.unlink(path)
    machine.disk.folders -= {QUEUES, LOG_FOLDER}
    stored = checkpoints.load(machine.disk)
    assert stored is not None
    rows = tuple(row for row in stored.rows if row.topic_id != paths.QUEUE_STATE_TOPIC)
    assert len(rows) == len(stored.rows) - 1
    for name in checkpoints.NAMES:
        machine.disk.unlink(name)
    if checkpoint == "whole":
        checkpoints.store_now(machine.disk, replace(stored, rows=rows))
    node = machine.start()
    assert node.recovery_report is not None
    assert [note for note in node.recovery_report.notes if "checkpoint" not in note] == []
    assert (machine.names(), names(node)) == (["a"], [])
    assert not machine.disk.exists(LOG_FOLDER), "it is made with its first record"
    machine.done(node.subscriptions.create("s"))
    machine.start()
    assert (machine.names(), names(machine.node)) == (["a"], ["s"])
    assert machine.node.partition(machine.node.topics.all()[0], 0).high_watermark == 1


# --- damage -----------------------------------------------------------------------------------------------


def with_snapshots(number: int) -> NodeRig:
    """A stopped machine with `number` snapshots of the log of queues, and a record after the last."""
    machine = NodeRig()
    machine.create("a")
    for index in range(number):
        machine.done(machine.node.subscriptions.create(f"s{index}"))
        machine.node.queue_runtime.take_snapshot()
        machine.settle()
    machine.done(machine.node.subscriptions.create("last"))
    machine.node.close()
    machine.settle()
    return machine


def test_a_damaged_snapshot_is_replaced_by_the_one_before_it(caplog: pytest.LogCaptureFixture) -> None:
    machine = with_snapshots(3)
    machine.disk.files[snapshot.path_of(3, QUEUES)][-1] ^= 1
    assert names(machine.start()) == ["last", "s0", "s1", "s2"]
    assert "trying the snapshot before it" in caplog.text


def test_a_start_without_a_whole_snapshot_is_refused_with_what_to_do() -> None:
    machine = with_snapshots(3)
    for offset in snapshot.offsets(machine.disk, QUEUES):
        machine.disk.files[snapshot.path_of(offset, QUEUES)][-1] ^= 1
    before = {path: bytes(data) for path, data in machine.disk.files.items()}
    with pytest.raises(StateDamaged, match="restore the folder state-queues/"):
        machine.start()
    assert {path: bytes(data) for path, data in machine.disk.files.items()} == before


def test_a_damaged_record_refuses_the_start_and_is_named() -> None:
    machine = with_snapshots(0)
    segment = f"{LOG_FOLDER}/{paths.segment_name(0)}"
    machine.disk.files[segment][-2] ^= 1
    with pytest.raises(StateDamaged, match="at offset 0 of the state log of queues"):
        machine.start()


def test_a_record_of_a_newer_mainstem_refuses_the_start() -> None:
    machine = NodeRig()
    codec = RecordCodec(StateMachines.record_types(STATE_LOG))
    tagged = StateMachines.record_types(STATE_LOG)[0]
    other = codec.encode(tagged(UUID(int=9), "a", 1, {}))  # of the other log: unknown in this one
    data = batches.build([(None, other, (), 5)])
    machine.node.log.queue_state.append(memoryview(data))
    machine.settle()
    with pytest.raises(StateTooNew, match=r"'topic-created' at offset 0 of the state log of queues"):
        machine.start()


@pytest.mark.parametrize("kind", ["unknown view", "damaged runs"])
def test_a_record_that_does_not_follow_refuses_the_start(kind: str) -> None:
    machine = NodeRig()
    topic = machine.create("a")
    machine.done(machine.node.subscriptions.create("s"))
    view = machine.done(machine.node.subscriptions.open_view("s", topic.id, 0, 0, 0))
    damaged = EventsAcked(view.id, 5, b"\x80") if kind == "damaged runs" else EventsAcked(99, 5, b"\0\1")
    data = batches.build([(None, RecordCodec([EventsAcked]).encode(damaged), (), 5)])
    machine.node.log.queue_state.append(memoryview(data))
    machine.settle()
    with pytest.raises(StateDamaged, match="at offset 2 of the state log of queues does not follow"):
        machine.start()


# --- on a real disk: doctor, backup, restore --------------------------------------------------------------


def on_folder(folder: Path, work: Callable[[Node], Awaitable[Any]]) -> Any:
    """Start a node on the folder, run `work`, stop it."""

    async def run() -> Any:
        loop = asyncio.get_running_loop()
        disk = cast(Disk, RealDisk(str(folder), loop))
        node = await Node.open(Settings(data=str(folder)), disk, LoopClock(loop), random.Random(7))
        result = await work(node)
        await node.close()
        return result

    with asyncio.Runner() as runner:
        return runner.run(run())


async def fill(node: Node) -> None:
    await node.topics.create("orders", 1, {})
    for number in range(4):
        await node.subscriptions.create(f"s{number}")
    await node.subscriptions.delete("s3")


async def subscription_names(node: Node) -> list[str]:
    return names(node)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    on_folder(data, fill)
    return data


def examined(folder: Path) -> tuple[OfflineState, list[Finding]]:
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
        findings = [*state.findings, *examination.run(lambda key: state.status(key) == "live")]
    return state, findings


def damage(folder: Path) -> list[Finding]:
    return [finding for finding in examined(folder)[1] if finding.severity == "damage"]


def segment_of(folder: Path) -> Path:
    return folder / LOG_FOLDER / paths.segment_name(0)


def test_doctor_finds_a_whole_folder_whole_and_knows_the_log(folder: Path) -> None:
    state, findings = examined(folder)
    assert findings == []
    assert (state.topic_count(), state.subscription_count()) == (1, 3)
    assert state.topic_name(paths.QUEUE_STATE_TOPIC) == "(state log of queues)"
    assert state.status((paths.QUEUE_STATE_TOPIC, 0)) == "live"
    assert state.status((paths.QUEUE_STATE_TOPIC, 1)) == "unknown"


def test_doctor_reads_the_records_of_all_machines_of_the_log(folder: Path) -> None:
    """Those of publishers and of share groups are no views."""

    async def work(node: Node) -> None:
        topic = node.topics.all()[0]
        await node.publishers.open((topic.id, 0), 0)
        await node.publishers.advance([((topic.id, 0), "p", 1, 0)])
        await node.publishers.close((topic.id, 0))
        await node.group_settings.replace("group", {"share.record.lock.duration.ms": "20000"})

    before = examined(folder)[0].records
    on_folder(folder, work)
    assert damage(folder) == []
    assert examined(folder)[0].records >= before + 4


def test_doctor_finds_a_damaged_snapshot_of_it(folder: Path) -> None:
    (folder / QUEUES / f"snapshot-{0:020}").write_bytes(b"no snapshot")
    assert [finding.path for finding in damage(folder)] == [f"{QUEUES}/snapshot-{0:020}"]
    repaired = list(_repair(folder))
    assert damage(folder) == []
    assert repaired
    assert (folder / QUEUES / f"snapshot-{0:020}.quarantine").read_bytes() == b"no snapshot"
    assert on_folder(folder, subscription_names) == ["s0", "s1", "s2"]


def test_every_flipped_byte_of_its_records_is_found_and_never_given_up(folder: Path) -> None:
    segment = segment_of(folder)
    whole = segment.read_bytes()
    for position in range(0, len(whole), 17):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        segment.write_bytes(changed)
        assert {finding.topic_id for finding in damage(folder)} == {paths.QUEUE_STATE_TOPIC}, position
    changed = bytearray(whole)
    changed[100] ^= 1
    segment.write_bytes(changed)
    assert [finding.consequence for finding in _repair(folder) if finding.severity == "damage"] == [
        "not repaired: restore the folder from a backup"
    ]


def test_doctor_finds_a_record_about_what_does_not_exist(folder: Path) -> None:
    segment = segment_of(folder)
    whole = segment.read_bytes()
    codec = RecordCodec(StateMachines.record_types(QUEUE_LOG))
    created = codec.encode(SubscriptionCreated(9, "s9", SubscriptionSettings(), 5))
    other = batches.build([(None, created, (), 5)])
    batches.assign_offsets(memoryview(other), 3, 0, None)
    place = [position for position, header in batches.iter_batches(whole) if header.base_offset == 3]
    end = place[0] + next(batches.iter_batches(whole[place[0] :]))[1].total_bytes
    segment.write_bytes(whole[: place[0]] + bytes(other) + whole[end:])
    assert any("does not follow from those before" in finding.problem for finding in damage(folder))


def _repair(folder: Path) -> list[Finding]:
    with FolderExamination(str(folder)) as examination:
        state = OfflineState(examination.disk)
    repair = FolderRepair(
        str(folder),
        random.Random(1),
        lambda key, gap: not state.needs(key, gap.last_offset),
        state.redundant_snapshots,
    )
    return list(repair.run())


def test_a_missing_segment_of_it_is_found(folder: Path) -> None:
    segment_of(folder).unlink()
    assert {finding.topic_id for finding in damage(folder)} == {paths.QUEUE_STATE_TOPIC}


class RecordingTarget(FolderTarget):
    """Notes in which order files are created."""

    def __init__(self, source: str, root: str) -> None:
        super().__init__(source, root)
        self.created: list[str] = []

    def create(self, path: str) -> Any:
        self.created.append(path)
        return super().create(path)


def test_a_backup_copies_both_logs_before_any_partition_and_a_restore_brings_them_back(
    folder: Path, tmp_path: Path
) -> None:
    async def snapshots(node: Node) -> None:
        partition = node.partition(node.topics.all()[0], 0)
        data = batches.build([(b"k", b"v", (), 5)])
        await partition.when_committed(partition.append(memoryview(data)).next_offset)
        for number in range(2):
            node.queue_runtime.take_snapshot()
            await asyncio.sleep(0.2)
            await node.subscriptions.create(f"later{number}")

    on_folder(folder, snapshots)
    expected = ["later0", "later1", "s0", "s1", "s2"]
    assert snapshot.offsets(cast(Disk, ReadOnlyDisk(str(folder))), QUEUES)
    target = RecordingTarget(str(folder), str(tmp_path / "backup"))

    def read_state() -> Callable[[tuple[UUID, int]], bool]:
        assert not any(
            path.startswith(paths.PARTITIONS) and not path.startswith(_STATE_PARTITIONS)
            for path in target.created
        ), "what the state says was true before any partition was copied"
        state = OfflineState(ReadOnlyDisk(target.root))
        assert state.subscription_count() == len(expected)
        return lambda key: state.status(key) == "live"

    made = backup.Backup(ReadOnlyDisk(str(folder)), target, read_state)
    for _ in made.run():
        pass
    assert made.summary.partitions == 3
    with FolderExamination(target.root) as source:
        for _ in FolderRestore(source.disk, str(tmp_path / "restored")).run():
            pass
    restored = tmp_path / "restored"
    assert damage(restored) == []
    assert on_folder(restored, subscription_names) == expected
    shutil.rmtree(target.root)


_STATE_PARTITIONS = tuple(paths.partition_folder(*kind.key) for kind in STATE_LOGS)


def test_errors_of_subscriptions_are_the_coordinators() -> None:
    machine = NodeRig()
    refused = machine.node.subscriptions.create("__mainstem_x")
    assert isinstance(refused.error, CoordinatorError)
    assert refused.error.code == "INVALID_GROUP_ID"
