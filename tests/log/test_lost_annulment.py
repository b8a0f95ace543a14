"""Two faults together: the newest checkpoint is damaged, and the unlink of a journal file whose sync failed
was lost."""

from __future__ import annotations

import pytest

from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit import journal_format
from mainstem.log.recovery import meta
from tests.log.logs import LogRig


@pytest.mark.parametrize("old_count", [1, 3])
def test_a_failed_group_whose_annulment_is_gone_is_not_replayed(old_count: int) -> None:
    """The newest checkpoint is damaged, and the unlink of the journal file whose sync failed was lost, while
    the file that annulled its last group was written over: that group must not replace what came after it."""
    machine = LogRig().start()
    machine.write(1)
    machine.log.checkpoint()
    machine.settle(1)
    failed = [machine.append(fill=b"old")[1] for _ in range(old_count)]
    before = {name: journal_header(machine, name) for name in machine.disk.list("journal")}
    machine.disk.sync_fails, machine.disk.sync_fails_in = 1.0, "journal/"
    machine.clock.run()
    (path,) = [
        f"journal/{name}"
        for name in machine.disk.list("journal")
        if journal_header(machine, name) != before.get(name)
    ]
    stored = machine.disk.read_all(path)  # the device has it, though its sync failed
    while not failed[-1].done:
        machine.clock.advance(0.0001)
    assert all(promise.error is not None for promise in failed)
    machine.disk.sync_fails = 0.0
    while machine.partition()._awaits_epoch:
        machine.clock.advance(0.0001)
    done, replaced = machine.append(fill=b"new", size=5000)  # in the segment alone
    while not replaced.done:
        machine.clock.advance(0.0001)
    replaced.result()
    machine.settle(1)  # a checkpoint follows the failure, and removes the file
    assert not machine.disk.exists(path)
    machine.crash("kill")
    header = journal_format.decode_header(stored[: journal_format.BLOCK], meta.read(machine.disk).folder_id)
    assert header is not None
    (annulling,) = [
        name
        for name in machine.disk.list("journal")
        if (other := journal_header(machine, name)) is not None and other.seq == header.seq + 1
    ]
    machine.disk.write_all(f"journal/{annulling}", bytes(len(stored)))
    machine.disk.write_all(path, stored)
    newest = checkpoints.load(machine.disk)
    assert newest is not None
    machine.disk.write_all(checkpoints.NAMES[newest.number % 2], b"damaged")
    machine.start()
    assert machine.report.fenced == []
    assert machine.offsets() == [0, 1]
    assert b"new" * 5000 in bytes(machine.partition().read_blocking(done.base_offset, 1 << 20).data)


def journal_header(machine: LogRig, name: str) -> journal_format.JournalFileHeader | None:
    block = machine.disk.read_all(f"journal/{name}")[: journal_format.BLOCK]
    return journal_format.decode_header(block, meta.read(machine.disk).folder_id)
