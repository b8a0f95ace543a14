"""The runtime: replies wait for the disk, failed commits are undone, a load leads to the live state."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec, StateDamaged, StateRecord, StateTooNew
from mainstem.coordinator.topics.topics import TopicCreated, TopicMetadata
from mainstem.log.errors import StorageError
from mainstem.log.storage import record_batch as batches
from mainstem.promise import Promise
from tests.coordinator.state_rig import StateRig, code, done
from tests.support.fake_state import FakeStateDisk, packed_snapshot, unpacked_snapshot


def names(rig: StateRig) -> list[str]:
    return [topic.name for topic in rig.topics.all()]


def test_a_reply_waits_until_the_batch_is_durable() -> None:
    rig = StateRig(auto_commit=False)
    promise = rig.topics.create("a", 1, {})
    assert names(rig) == ["a"], "applied at once"
    assert not promise.done
    rig.log.commit()
    assert done(promise).name == "a"


def test_with_durability_os_the_reply_is_immediate() -> None:
    assert done(StateRig().topics.create("a", 1, {})).name == "a"


def test_a_read_waits_for_what_it_shows() -> None:
    rig = StateRig(auto_commit=False)
    assert done(rig.runtime.read("nothing is pending")) == "nothing is pending"
    rig.topics.create("a", 1, {})
    assert not rig.runtime.all_durable
    shown = rig.runtime.read(names(rig))
    assert not shown.done
    rig.log.commit()
    assert done(shown) == ["a"]
    assert rig.runtime.all_durable


def test_a_refusal_waits_for_the_state_it_shows() -> None:
    rig = StateRig(auto_commit=False)
    rig.topics.create("a", 1, {})
    again = rig.topics.create("a", 1, {})
    assert not again.done
    rig.log.commit()
    assert code(again) == "TOPIC_ALREADY_EXISTS"


def test_replies_are_sent_in_order_up_to_the_committed_offset() -> None:
    rig = StateRig(auto_commit=False)
    order: list[str] = []
    for name in "abc":
        rig.topics.create(name, 1, {}).then(lambda promise: order.append(promise.result().name))
    rig.log.commit(until=2)
    assert order == ["a", "b"]
    rig.log.commit()
    assert order == ["a", "b", "c"]


def test_a_callback_may_write_again() -> None:
    rig = StateRig(auto_commit=False)
    second: list[Promise[TopicMetadata]] = []
    rig.topics.create("a", 1, {}).then(lambda _: second.append(rig.topics.create("b", 1, {})))
    rig.log.commit()
    assert not second[0].done
    rig.log.commit()
    assert done(second[0]).name == "b"


def test_a_failed_commit_fails_every_parked_reply_and_undoes_its_records() -> None:
    rig = StateRig(auto_commit=False)
    rig.topics.create("kept", 1, {})
    rig.log.commit()
    lost: list[Promise[Any]] = [
        rig.topics.create("lost", 1, {}),
        rig.topics.delete("kept"),
        rig.runtime.read(1),
    ]
    reloaded: list[int] = []
    rig.runtime.on_reloaded.append(lambda: reloaded.append(1))
    rig.log.fail()
    assert all(isinstance(promise.error, StorageError) for promise in lost)
    assert rig.runtime.fenced
    assert isinstance(rig.topics.create("b", 1, {}).error, StorageError)
    assert isinstance(rig.runtime.read(1).error, StorageError)
    rig.clock.run()
    assert rig.runtime.fenced is None
    assert names(rig) == ["kept"]
    assert reloaded == [1]
    promise = rig.topics.create("lost", 1, {})
    rig.log.commit()
    assert done(promise).name == "lost"


def test_a_reload_that_fails_is_retried() -> None:
    rig = StateRig(auto_commit=False)
    rig.topics.create("kept", 1, {})
    rig.log.commit()
    rig.topics.create("lost", 1, {})
    good = rig.log.batches[0]
    rig.log.fail()
    rig.log.batches[0] = (good[0], good[1], good[2][:-1] + b"\xff")
    rig.clock.run()
    assert rig.runtime.fenced
    assert "cannot be read" in rig.runtime.fenced
    rig.log.batches[0] = good
    rig.clock.advance(1.5)
    assert rig.runtime.fenced is None
    assert names(rig) == ["kept"]


def test_a_refused_append_changes_nothing() -> None:
    rig = StateRig()
    rig.log.append_error = "the disk is full"
    promise = rig.topics.create("a", 1, {})
    assert isinstance(promise.error, StorageError)
    assert names(rig) == []
    rig.log.append_error = None
    rig.create("a")
    assert names(rig) == ["a"]


def test_the_records_of_a_write_are_one_batch() -> None:
    rig = StateRig()
    records = [TopicCreated(UUID(int=n), f"t{n}", 1, {}) for n in range(2, 5)]
    done(rig.runtime.write(lambda: (records, None)))
    assert len(rig.log.batches) == 1
    assert [record.offset for record in batches.decode(rig.log.batches[0][2])] == [0, 1, 2]
    rig.restart()
    assert names(rig) == ["t2", "t3", "t4"]


def test_after_a_restart_the_state_is_that_of_the_durable_log() -> None:
    rig = StateRig(auto_commit=False)
    rig.topics.create("a", 3, {"retention.ms": "5"})
    rig.log.commit()
    before = rig.state()
    rig.topics.create("b", 1, {})
    rig.restart()
    assert rig.state() == before


def test_a_closed_runtime_refuses_requests_but_sends_parked_replies() -> None:
    rig = StateRig(auto_commit=False)
    parked = rig.topics.create("a", 1, {})
    rig.runtime.close()
    assert isinstance(rig.topics.create("b", 1, {}).error, StorageError)
    rig.log.commit()
    assert done(parked).name == "a"


# --- records of other versions ------------------------------------------------------------------------------


class Newer(StateRecord, frozen=True, array_like=True, tag="from-the-future"):
    what: str


def append(rig: StateRig, value: bytes) -> None:
    rig.log.append(memoryview(batches.build([(None, value, (), 0)])))
    rig.log.commit()


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (RecordCodec([Newer]).encode(Newer("x")), StateTooNew, "unknown kind 'from-the-future' at offset 1"),
        (b"\x02\x90", StateTooNew, "version 2 at offset 1"),
        (b"\x01\xc1", StateDamaged, "cannot be read at offset 1"),
        (b"\x01\x93\x05\xa2\xf0\x31\x01", StateDamaged, "cannot be read at offset 1"),
        (b"\x01\x92\xadtopic-created\xa2\xf0\x31", StateDamaged, "cannot be read at offset 1"),
        (b"\x01" + msgspec.msgpack.encode(["topic-created", 7]), StateDamaged, "cannot be read at offset 1"),
        (b"", StateDamaged, "empty state record at offset 1"),
    ],
)
def test_an_unknown_record_refuses_the_start(value: bytes, kind: type, said: str) -> None:
    rig = StateRig()
    rig.create("a")
    append(rig, value)
    with pytest.raises(kind, match=said):
        rig.open()


def test_a_record_with_more_fields_than_known_is_read() -> None:
    rig = StateRig()
    fields: list[Any] = ["topic-created", str(UUID(int=9)), "a", 2, {}, "a field of a later version"]
    append(rig, b"\x01" + msgspec.msgpack.encode(fields))
    rig.open()
    assert names(rig) == ["a"]


def test_two_machines_may_not_share_a_tag() -> None:
    with pytest.raises(AssertionError, match="share a tag"):
        RecordCodec([TopicCreated, TopicCreated])


# --- snapshots ----------------------------------------------------------------------------------------------


def take(rig: StateRig) -> None:
    rig.runtime.take_snapshot()
    rig.clock.run()


def filled(snapshots: int) -> StateRig:
    """A rig with `snapshots` snapshots, a topic before each of them, and a topic after the last."""
    rig = StateRig()
    for n in range(snapshots):
        rig.create(f"before-{n}")
        take(rig)
    rig.create("after")
    return rig


def test_the_state_is_loaded_from_a_snapshot_and_the_log_after_it() -> None:
    rig = filled(1)
    before = rig.state()
    assert snapshot.offsets(rig.disk) == [1]  # type: ignore[arg-type]
    assert rig.log.log_start_offset == 0, "the log is kept until a second snapshot is there"
    rig.restart()
    assert rig.state() == before


def test_two_snapshots_are_kept_and_the_log_from_the_older_one() -> None:
    rig = filled(4)
    before = rig.state()
    assert snapshot.offsets(rig.disk) == [4, 3]  # type: ignore[arg-type]
    assert rig.log.log_start_offset == 3
    rig.restart()
    assert rig.state() == before


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "magic", "renamed"])
def test_a_damaged_snapshot_is_refused_and_the_previous_one_used(
    harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = filled(3)
    before = rig.state()
    path = snapshot.path_of(3)
    data = rig.disk.files[path]
    rig.disk.files[path] = {
        "cut": data[:-1],
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "empty": b"",
        "magic": b"x" + data[1:],
        "renamed": rig.disk.files[snapshot.path_of(2)],
    }[harm]
    rig.restart()
    assert rig.state() == before
    assert "trying the snapshot before it" in caplog.text


def test_every_flipped_byte_of_a_snapshot_is_noticed() -> None:
    data = packed_snapshot(7, [b"one", b"two"])
    assert unpacked_snapshot(data, 7) == [b"one", b"two"]
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0x40
        with pytest.raises((StateDamaged, StateTooNew)):
            unpacked_snapshot(bytes(flipped), 7)
        with pytest.raises(StateDamaged):
            unpacked_snapshot(data[:position], 7)


def test_a_shortened_log_without_a_valid_snapshot_is_refused_with_what_to_do() -> None:
    rig = filled(3)
    for path in rig.disk.files:
        rig.disk.files[path] = b"damaged"
    with pytest.raises(StateDamaged, match="restore the folder state/"):
        rig.open()


def test_a_complete_log_needs_no_snapshot() -> None:
    rig = filled(1)
    before = rig.state()
    rig.disk.files.clear()
    rig.restart()
    assert rig.state() == before


def test_a_snapshot_has_only_durable_state() -> None:
    rig = StateRig(auto_commit=False)
    rig.topics.create("a", 1, {})
    take(rig)
    assert snapshot.offsets(rig.disk) == []  # type: ignore[arg-type]
    rig.log.commit()
    assert snapshot.offsets(rig.disk) == [1]  # type: ignore[arg-type]
    rig.topics.create("b", 1, {})
    take(rig)
    rig.log.fail()
    rig.clock.run()
    assert snapshot.offsets(rig.disk) == [1]  # type: ignore[arg-type]
    assert names(rig) == ["a"]


def test_records_written_during_a_snapshot_are_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.snapshots.SLICE_BYTES", 1)
    rig = StateRig()
    for name in "abc":
        rig.create(name)
    rig.runtime.take_snapshot()
    rig.create("d")
    done(rig.topics.delete("a"))
    rig.clock.run()
    before = rig.state()
    data = rig.disk.files[snapshot.path_of(3)]
    assert len(unpacked_snapshot(data, 3)) == 3
    rig.restart()
    assert rig.state() == before


def test_many_records_since_the_last_snapshot_trigger_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.snapshots.TAIL_RECORDS", 10)
    rig = StateRig()
    for n in range(35):
        rig.create(f"t{n}")
        rig.clock.run()
    assert snapshot.offsets(rig.disk) == [30, 20]  # type: ignore[arg-type]
    assert rig.log.log_start_offset == 20
    rig.restart()
    assert len(names(rig)) == 35


def test_the_next_snapshot_is_due_when_the_log_after_the_last_is_as_large_as_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.snapshots.TAIL_RECORDS", 1)
    rig = StateRig()
    written, offsets = 0, [0]
    for n in range(400):
        rig.create(f"t{n}")
        rig.clock.run()
        newest = snapshot.offsets(rig.disk)[0]  # type: ignore[arg-type]
        if newest != offsets[-1]:
            offsets.append(newest)
            written += len(rig.disk.files[snapshot.path_of(newest)])
    log_bytes = sum(len(batches.build([(None, b"x" * 60, (), 0)])) for _ in range(400))
    assert written < 2 * log_bytes, "each byte of the log costs about one of snapshots"
    assert len(offsets) < 20


def test_a_restart_remembers_how_large_the_last_snapshot_was(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = StateRig()
    for n in range(100):
        rig.create(f"t{n}")
    take(rig)
    monkeypatch.setattr("mainstem.coordinator.runtime.snapshots.TAIL_RECORDS", 1)
    rig.restart()
    rig.create("another")
    rig.clock.run()
    assert snapshot.offsets(rig.disk) == [100]  # type: ignore[arg-type]


def test_a_turn_of_a_snapshot_encodes_a_bounded_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.snapshots.SLICE_BYTES", 2_000)
    rig = StateRig()
    for n in range(500):
        rig.create(f"t{n}")
    turns: list[int] = []
    encode = RecordCodec.encode

    def counted(codec: RecordCodec, record: msgspec.Struct) -> bytes:
        data = encode(codec, record)
        turns[-1] += len(data)
        return data

    monkeypatch.setattr(RecordCodec, "encode", counted)
    turns.append(0)
    rig.runtime.take_snapshot()
    while rig.clock.ready:
        turns.append(0)
        rig.clock.turn()
    assert snapshot.offsets(rig.disk) == [500]  # type: ignore[arg-type]
    assert len(turns) > 10
    assert max(turns) < 2_000 + 200, "the slice, and the record that exceeds it"
    assert rig.disk.largest_write < 2_000 + 500 * 4, "the file is never in memory as a whole"


@pytest.mark.parametrize("size", [0, 1, 5, 1000, 70_000, 3_000_000])
def test_a_snapshot_is_read_in_pieces_as_it_was_written(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "READ_BYTES", 1000)
    records = [b"x" * size, b"", b"y" * 30] * 3
    disk: Any = FakeStateDisk()
    path = snapshot.path_of(7)
    disk.files[path] = packed_snapshot(7, records)
    assert [bytes(record) for record in snapshot.read(disk, path, 7)] == records


def test_a_snapshot_that_cannot_be_written_changes_nothing() -> None:
    rig = StateRig()
    rig.create("a")
    for fails in ("write_error", "sync_error"):
        setattr(rig.disk, fails, OSError(28, "No space left on device"))
        take(rig)
        assert rig.disk.files == {}
        setattr(rig.disk, fails, None)
    take(rig)
    assert snapshot.offsets(rig.disk) == [1]  # type: ignore[arg-type]


def test_a_snapshot_beyond_the_end_of_the_log_is_used_and_moved_back() -> None:
    """A power cut with durability=os: the snapshot was synced, the end of the log was not."""
    rig = filled(3)
    done(rig.topics.delete("before-0"))
    take(rig)
    before = rig.state()
    rig.log.batches = rig.log.batches[:-1]
    rig.log.high_watermark = rig.log.log_end_offset = 4
    rig.open()
    assert rig.state() == before
    assert snapshot.offsets(rig.disk) == [4, 3]  # type: ignore[arg-type]
    rig.create("new")
    before = rig.state()
    rig.restart()
    assert rig.state() == before


def test_the_remains_of_an_interrupted_snapshot_are_removed() -> None:
    rig = filled(1)
    rig.disk.files[snapshot.path_of(9) + ".tmp"] = b"half"
    rig.disk.files["state/notes"] = b"not ours"
    before = rig.state()
    rig.restart()
    assert rig.state() == before
    assert sorted(rig.disk.files) == ["state/notes", snapshot.path_of(1)]
