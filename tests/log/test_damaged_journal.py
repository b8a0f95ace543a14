"""A live journal file whose header is damaged is never skipped without a word."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.log.logs import LogRig

JOURNAL_FILE = "journal/00000000000000000000.jnl"


@pytest.mark.parametrize("how", ["kill", "power"])
def test_a_live_journal_file_with_a_damaged_header_is_reported(how: Literal["kill", "power"]) -> None:
    machine = LogRig().start()
    machine.write(3)
    machine.write(3, 1)
    machine.crash(how)
    machine.disk.inode(JOURNAL_FILE).seen[20] ^= 1
    machine.start()
    (note,) = [note for note in machine.report.notes if "header is damaged" in note]
    assert note.startswith(f"{JOURNAL_FILE}: ")
    assert "groups 1 to 6 of the journal cannot be read" in note
    assert "run `mainstem doctor`" in note
    assert machine.report.journal_damage == 1
    assert not machine.report.clean
    if how == "kill":  # the segments have what the journal has lost
        assert machine.offsets(0) == machine.offsets(1) == [0, 1, 2]
    machine.write(1)
    machine.stop().start()
    assert machine.report.journal_damage == 0


def test_a_journal_file_that_is_cut_within_its_header_does_not_keep_a_start_from_its_work() -> None:
    machine = LogRig().start()
    machine.write(3)
    machine.crash("kill")
    file = machine.disk.open(JOURNAL_FILE)
    file.truncate(20)
    machine.disk.sync_now([file])
    machine.start()
    assert machine.offsets() == [0, 1, 2]
    machine.write(1)
    machine.crash().start()
    assert machine.offsets() == [0, 1, 2, 3]


def test_a_damaged_header_of_a_file_that_is_not_needed_any_more_is_not_reported() -> None:
    machine = LogRig().start()
    machine.write(3)
    machine.stop()
    machine.disk.inode(JOURNAL_FILE).seen[20] ^= 1
    machine.start()
    assert machine.report.journal_damage == 0
    assert machine.report.clean
