"""The runtime: replies wait for the disk, failed commits leave no trace, a load gives the live state."""

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
from tests.coordinator.state_kit import StateRig, code, done


def names(kit: StateRig) -> list[str]:
    return [topic.name for topic in kit.topics.all()]


def test_a_reply_waits_until_the_batch_is_durable() -> None:
    kit = StateRig(auto=False)
    later = kit.topics.create("a", 1, {})
    assert names(kit) == ["a"], "applied at once"
    assert not later.done
    kit.log.commit()
    assert done(later).name == "a"


def test_with_durability_os_the_reply_is_there_at_once() -> None:
    assert done(StateRig().topics.create("a", 1, {})).name == "a"


def test_a_read_waits_for_what_it_shows() -> None:
    kit = StateRig(auto=False)
    assert done(kit.runtime.read("nothing is pending")) == "nothing is pending"
    kit.topics.create("a", 1, {})
    assert not kit.runtime.all_durable
    shown = kit.runtime.read(names(kit))
    assert not shown.done
    kit.log.commit()
    assert done(shown) == ["a"]
    assert kit.runtime.all_durable


def test_a_refusal_that_tells_of_state_waits_too() -> None:
    kit = StateRig(auto=False)
    kit.topics.create("a", 1, {})
    again = kit.topics.create("a", 1, {})
    assert not again.done
    kit.log.commit()
    assert code(again) == "TOPIC_ALREADY_EXISTS"


def test_replies_come_in_order_and_only_as_far_as_the_commit_went() -> None:
    kit = StateRig(auto=False)
    order: list[str] = []
    for name in "abc":
        kit.topics.create(name, 1, {}).then(lambda later: order.append(later.result().name))
    kit.log.commit(until=2)
    assert order == ["a", "b"]
    kit.log.commit()
    assert order == ["a", "b", "c"]


def test_a_callback_may_write_again() -> None:
    kit = StateRig(auto=False)
    second: list[Promise[TopicMetadata]] = []
    kit.topics.create("a", 1, {}).then(lambda _: second.append(kit.topics.create("b", 1, {})))
    kit.log.commit()
    assert not second[0].done
    kit.log.commit()
    assert done(second[0]).name == "b"


def test_a_failed_commit_fails_every_parked_reply_and_leaves_no_trace() -> None:
    kit = StateRig(auto=False)
    kit.topics.create("kept", 1, {})
    kit.log.commit()
    lost: list[Promise[Any]] = [
        kit.topics.create("lost", 1, {}),
        kit.topics.delete("kept"),
        kit.runtime.read(1),
    ]
    reloaded: list[int] = []
    kit.runtime.on_reloaded.append(lambda: reloaded.append(1))
    kit.log.fail()
    assert all(isinstance(later.error, StorageError) for later in lost)
    assert kit.runtime.fenced
    assert isinstance(kit.topics.create("b", 1, {}).error, StorageError)
    assert isinstance(kit.runtime.read(1).error, StorageError)
    kit.clock.run()
    assert kit.runtime.fenced is None
    assert names(kit) == ["kept"]
    assert reloaded == [1]
    later = kit.topics.create("lost", 1, {})
    kit.log.commit()
    assert done(later).name == "lost"


def test_a_state_that_cannot_be_read_again_is_tried_again() -> None:
    kit = StateRig(auto=False)
    kit.topics.create("kept", 1, {})
    kit.log.commit()
    kit.topics.create("lost", 1, {})
    good = kit.log.batches[0]
    kit.log.fail()
    kit.log.batches[0] = (good[0], good[1], good[2][:-1] + b"\xff")
    kit.clock.run()
    assert kit.runtime.fenced
    assert "cannot be read" in kit.runtime.fenced
    kit.log.batches[0] = good
    kit.clock.advance(1.5)
    assert kit.runtime.fenced is None
    assert names(kit) == ["kept"]


def test_a_refused_append_changes_nothing() -> None:
    kit = StateRig()
    kit.log.refuse = "the disk is full"
    later = kit.topics.create("a", 1, {})
    assert isinstance(later.error, StorageError)
    assert names(kit) == []
    kit.log.refuse = None
    kit.create("a")
    assert names(kit) == ["a"]


def test_one_write_is_one_batch() -> None:
    kit = StateRig()
    records = [TopicCreated(UUID(int=n), f"t{n}", 1, {}) for n in range(2, 5)]
    done(kit.runtime.write(lambda: (records, None)))
    assert len(kit.log.batches) == 1
    assert [record.offset for record in batches.decode(kit.log.batches[0][2])] == [0, 1, 2]
    kit.restart()
    assert names(kit) == ["t2", "t3", "t4"]


def test_after_a_restart_the_state_is_that_of_the_durable_log() -> None:
    kit = StateRig(auto=False)
    kit.topics.create("a", 3, {"retention.ms": "5"})
    kit.log.commit()
    before = kit.state()
    kit.topics.create("b", 1, {})
    kit.restart()
    assert kit.state() == before


def test_a_closed_runtime_takes_nothing_more_but_answers_what_is_parked() -> None:
    kit = StateRig(auto=False)
    parked = kit.topics.create("a", 1, {})
    kit.runtime.close()
    assert isinstance(kit.topics.create("b", 1, {}).error, StorageError)
    kit.log.commit()
    assert done(parked).name == "a"


# --- records of other versions ------------------------------------------------------------------------------


class Newer(StateRecord, frozen=True, array_like=True, tag="from-the-future"):
    what: str


def append(kit: StateRig, value: bytes) -> None:
    kit.log.append(memoryview(batches.build([(None, value, (), 0)])))
    kit.log.commit()


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
def test_a_record_that_is_not_understood_refuses_the_start(value: bytes, kind: type, said: str) -> None:
    kit = StateRig()
    kit.create("a")
    append(kit, value)
    with pytest.raises(kind, match=said):
        kit.open()


def test_a_record_with_more_fields_than_known_is_read() -> None:
    kit = StateRig()
    fields: list[Any] = ["topic-created", str(UUID(int=9)), "a", 2, {}, "a field of a later version"]
    append(kit, b"\x01" + msgspec.msgpack.encode(fields))
    kit.open()
    assert names(kit) == ["a"]


def test_two_machines_may_not_share_a_tag() -> None:
    with pytest.raises(AssertionError, match="share a tag"):
        RecordCodec([TopicCreated, TopicCreated])


# --- snapshots ----------------------------------------------------------------------------------------------


def take(kit: StateRig) -> None:
    kit.runtime.take_snapshot()
    kit.clock.run()


def filled(snapshots: int) -> StateRig:
    """`snapshots` snapshots, with a topic before each and one after the last."""
    kit = StateRig()
    for n in range(snapshots):
        kit.create(f"before-{n}")
        take(kit)
    kit.create("after")
    return kit


def test_a_snapshot_and_the_tail_give_the_state() -> None:
    kit = filled(1)
    before = kit.state()
    assert snapshot.offsets(kit.disk) == [1]  # type: ignore[arg-type]
    assert kit.log.log_start_offset == 0, "the log is kept until a second snapshot is there"
    kit.restart()
    assert kit.state() == before


def test_two_snapshots_are_kept_and_the_log_from_the_older_one() -> None:
    kit = filled(4)
    before = kit.state()
    assert snapshot.offsets(kit.disk) == [4, 3]  # type: ignore[arg-type]
    assert kit.log.log_start_offset == 3
    kit.restart()
    assert kit.state() == before


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "magic", "renamed"])
def test_a_damaged_snapshot_is_refused_and_the_one_before_serves(
    harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    kit = filled(3)
    before = kit.state()
    path = snapshot.path_of(3)
    data = kit.disk.files[path]
    kit.disk.files[path] = {
        "cut": data[:-1],
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "empty": b"",
        "magic": b"x" + data[1:],
        "renamed": kit.disk.files[snapshot.path_of(2)],
    }[harm]
    kit.restart()
    assert kit.state() == before
    assert "trying the snapshot before it" in caplog.text


def test_every_flipped_byte_of_a_snapshot_is_noticed() -> None:
    data = snapshot.pack(7, 2, [snapshot.frame([b"one", b"two"])])
    assert [bytes(record) for record in snapshot.unpack(data, 7, "x")] == [b"one", b"two"]
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x40
        with pytest.raises((StateDamaged, StateTooNew)):
            list(snapshot.unpack(bytes(flipped), 7, "x"))
        with pytest.raises(StateDamaged):
            list(snapshot.unpack(data[:at], 7, "x"))


def test_without_a_whole_snapshot_a_shortened_log_is_refused_with_what_to_do() -> None:
    kit = filled(3)
    for path in kit.disk.files:
        kit.disk.files[path] = b"damaged"
    with pytest.raises(StateDamaged, match="restore the folder state/"):
        kit.open()


def test_without_any_snapshot_a_whole_log_serves() -> None:
    kit = filled(1)
    before = kit.state()
    kit.disk.files.clear()
    kit.restart()
    assert kit.state() == before


def test_a_snapshot_shows_only_what_is_durable() -> None:
    kit = StateRig(auto=False)
    kit.topics.create("a", 1, {})
    take(kit)
    assert kit.disk.files == {}
    kit.log.commit()
    assert snapshot.offsets(kit.disk) == [1]  # type: ignore[arg-type]
    kit.topics.create("b", 1, {})
    take(kit)
    kit.log.fail()
    kit.clock.run()
    assert snapshot.offsets(kit.disk) == [1]  # type: ignore[arg-type]
    assert names(kit) == ["a"]


def test_what_is_written_while_a_snapshot_is_taken_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.runtime.SNAPSHOT_SLICE_RECORDS", 1)
    kit = StateRig()
    for name in "abc":
        kit.create(name)
    kit.runtime.take_snapshot()
    kit.create("d")
    done(kit.topics.delete("a"))
    kit.clock.run()
    before = kit.state()
    data = kit.disk.files[snapshot.path_of(3)]
    assert len(list(snapshot.unpack(data, 3, "x"))) == 3
    kit.restart()
    assert kit.state() == before


def test_a_long_tail_makes_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.runtime.SNAPSHOT_TAIL_RECORDS", 10)
    kit = StateRig()
    for n in range(35):
        kit.create(f"t{n}")
        kit.clock.run()
    assert snapshot.offsets(kit.disk) == [30, 20]  # type: ignore[arg-type]
    assert kit.log.log_start_offset == 20
    kit.restart()
    assert len(names(kit)) == 35


def test_a_snapshot_that_cannot_be_written_costs_nothing() -> None:
    kit = StateRig()
    kit.create("a")
    kit.disk.replace_error = OSError(28, "No space left on device")
    take(kit)
    assert kit.disk.files == {}
    kit.disk.replace_error = None
    take(kit)
    assert snapshot.offsets(kit.disk) == [1]  # type: ignore[arg-type]


def test_a_snapshot_beyond_the_log_counts_and_moves_back() -> None:
    """A power cut with durability=os: the snapshot was synced, the end of the log was not."""
    kit = filled(3)
    done(kit.topics.delete("before-0"))
    take(kit)
    before = kit.state()
    kit.log.batches = kit.log.batches[:-1]
    kit.log.high_watermark = kit.log.log_end_offset = 4
    kit.open()
    assert kit.state() == before
    assert snapshot.offsets(kit.disk) == [4, 3]  # type: ignore[arg-type]
    kit.create("new")
    before = kit.state()
    kit.restart()
    assert kit.state() == before


def test_what_a_crash_left_of_a_snapshot_is_removed() -> None:
    kit = filled(1)
    kit.disk.files[snapshot.path_of(9) + ".tmp"] = b"half"
    kit.disk.files["state/notes"] = b"not ours"
    before = kit.state()
    kit.restart()
    assert kit.state() == before
    assert sorted(kit.disk.files) == ["state/notes", snapshot.path_of(1)]
