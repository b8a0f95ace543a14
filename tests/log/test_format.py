"""FORMAT.md and the code agree: the examples of the page decode, and its sizes are those of the code."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path
from uuid import UUID

import msgspec

import mainstem.log
from mainstem.access_contract import ScramMechanism, ScramVerifier
from mainstem.coordinator.access.acls import Acls
from mainstem.coordinator.access.mask_rules import MaskRules
from mainstem.coordinator.access.quotas import Quotas
from mainstem.coordinator.access.users import Users
from mainstem.coordinator.groups.epoch_group import MemberFacts
from mainstem.coordinator.groups.group_settings import GroupSettings
from mainstem.coordinator.groups.share_groups import ShareGroups
from mainstem.coordinator.groups.share_types import ShareMemberSaved
from mainstem.coordinator.producer_ids import ProducerIdBlock, ProducerIds, ProducerIdStart
from mainstem.coordinator.publishers import Publishers
from mainstem.coordinator.queues.index_files import NO_CUT, IndexFiles
from mainstem.coordinator.queues.records import (
    SNAPSHOT_RECORDS,
    VIEW_RECORDS,
    EventsAcked,
    EventsCarried,
    EventsDelayed,
    EventsLeased,
    QueueEpoch,
    QueueEpochsEnded,
    QueueIds,
    ShareGroupCreated,
    SubscriptionCreated,
    encoded,
)
from mainstem.coordinator.queues.route_header import RoutePlace
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.topology_records import TOPOLOGY_RECORDS
from mainstem.coordinator.queues.types import CARRIED_TOPIC, GiveUpReason
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RECORD_VERSION, RecordCodec
from mainstem.coordinator.runtime.state_log import QUEUE_LOG
from mainstem.coordinator.state_machines import StateMachines
from mainstem.coordinator.topics.types import TopicCreated
from mainstem.engines.embedded.queues.carried import FROM_HEADER
from mainstem.log import paths
from mainstem.log.commit import journal_format
from mainstem.log.disk.memory_disk import MemoryDisk
from mainstem.log.recovery import meta
from mainstem.log.storage import index, producer_snapshot, record_batch
from mainstem.log.storage.arrival_index import PAIR, ArrivalIndex
from mainstem.log.storage.index import SegmentIndex
from mainstem.log.storage.leader_epochs import LeaderEpochs
from mainstem.log.storage.producer_state import ProducerBatch, ProducerWindow
from mainstem.queues.delay_run import (
    HEADER_BYTES,
    RunHeader,
    decode_block,
    decode_header,
    encode_run,
    pack_entry,
    unpack_entries,
)
from mainstem.queues.routed_index import RoutedIndex
from mainstem.queues.settings import SubscriptionSettings
from mainstem.quota_contract import QuotaKey
from mainstem.search.blocks import token_filter
from mainstem.search.index import layout
from tests.support.clock import SimClock
from tests.support.fake_state import packed_snapshot, unpacked_snapshot

PAGE = (Path(mainstem.log.__path__[0]) / "FORMAT.md").read_text()


def example(kind: str) -> bytes:
    examples = re.findall(rf"```hex {kind}\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 1, kind
    return bytes.fromhex(examples[0])


def test_the_example_of_a_batch() -> None:
    data = example("batch")
    header = record_batch.read_header(data)
    assert header[:3] == (5, len(data) - 12, 2)
    assert header[5:] == (0, 1, 1000, 1001, 9, 0, 4, 2)
    assert record_batch.decode(data) == [
        record_batch.Record(5, 1000, b"k", b"v", (("h", b"x"),)),
        record_batch.Record(6, 1001, None, b"w", ()),
    ]
    records = [(b"k", b"v", (("h", b"x"),), 1000), (None, b"w", (), 1001)]
    built = record_batch.build(records, producer_id=9, producer_epoch=0, base_sequence=4)
    record_batch.assign_offsets(memoryview(built), 5, 2, None)
    assert built == data


def test_the_drawing_of_a_batch_shows_the_positions_of_its_fields() -> None:
    places = [0, 8, 12, 16, 17, 21, 23, 27, 35, 43, 51, 53, 57, 61]
    ruler = next(line for line in PAGE.splitlines() if line.startswith(" 0  "))
    assert [int(number) for number in ruler.split()] == places
    assert places[-1] == record_batch.HEADER_BYTES
    assert places[5] == record_batch.CRC_FROM


def test_the_examples_of_the_indexes() -> None:
    made = SegmentIndex()
    made.append(2, 0, 4200, 999, 4096)
    made.append(4, 4200, 90, 1001, 4096)
    assert (made.offset_bytes(), made.time_bytes()) == (example("index"), example("timeindex"))
    parsed = SegmentIndex.parse(example("index"), example("timeindex"), 5, 4290)
    assert parsed is not None
    assert parsed.position_before(4) == (4200, 4)
    assert f"{index.OFFSET_ENTRY_BYTES} bytes an entry" in PAGE
    assert f"{index.TIME_ENTRY_BYTES} bytes an entry" in PAGE


def test_the_example_of_arrivals() -> None:
    parsed = ArrivalIndex.parse(example("arrivals"))
    assert list(zip(parsed.times, parsed.offsets, strict=True)) == [
        (1356998400000, 0),
        (1356998401500, 3),
    ]
    assert parsed.to_bytes() == example("arrivals")
    assert f"{PAIR.size} bytes a pair" in PAGE


def test_the_example_of_a_snapshot() -> None:
    data = example("snapshot")
    windows = {9: ProducerWindow(0, (ProducerBatch(4, 5, 5, 7, 1001),), 1356998401500)}
    made = producer_snapshot.ProducerSnapshot(3, 4290, 8, 4200, 0x11223344, 1356998401500, (1, 1), windows)
    assert producer_snapshot.decode(data) == made
    assert producer_snapshot.encode(made) == data
    for position in range(len(data)):
        assert producer_snapshot.decode(data[:position]) is None
        assert (
            producer_snapshot.decode(data[:position] + bytes((data[position] ^ 1,)) + data[position + 1 :])
            is None
        )
    assert producer_snapshot.decode(data + b"\0") is None


def test_the_example_of_a_state_snapshot() -> None:
    data = example("state-snapshot")
    codec = RecordCodec([TopicCreated, ProducerIdBlock])
    records = [codec.decode(record, "in the example") for record in unpacked_snapshot(data, 3)]
    assert records == [
        TopicCreated(UUID(int=77), "orders", 2, {"retention.ms": "-1"}),
        ProducerIdBlock(1000),
    ]
    assert packed_snapshot(3, [codec.encode(record) for record in records]) == data


def test_the_example_of_a_state_snapshot_with_the_start_of_the_producer_ids() -> None:
    data = example("state-snapshot-producer-ids")
    codec = RecordCodec([ProducerIdStart, ProducerIdBlock])
    records = [codec.decode(record, "in the example") for record in unpacked_snapshot(data, 2)]
    server_id = 1_234_567 << 20
    assert records == [ProducerIdStart(server_id, server_id + 1), ProducerIdBlock(server_id + 1001)]
    assert packed_snapshot(2, [codec.encode(record) for record in records]) == data
    producer_ids = ProducerIds(random.Random(1))
    for record in records:
        producer_ids.apply(record)
    assert (producer_ids.server_id, producer_ids.snapshot()) == (server_id, records)


def test_the_example_of_a_state_snapshot_with_a_user_and_an_access_control_entry() -> None:
    data = example("state-snapshot-access")
    codec = RecordCodec([*Users.RECORDS, *Acls.RECORDS])
    records = [codec.decode(record, "in the example") for record in unpacked_snapshot(data, 4)]
    assert packed_snapshot(4, [codec.encode(record) for record in records]) == data
    users, acls = Users(), Acls()
    users.apply(records[0])
    acls.apply(records[1])
    keys = bytes(range(64))
    verifier = ScramVerifier(ScramMechanism.SHA_256, b"salt", 4096, keys[:32], keys[32:])
    assert users.verifier("alice", ScramMechanism.SHA_256) == verifier
    assert [*users.snapshot(), *acls.snapshot()] == records
    assert records[1].acl.principal.text == "User:alice"
    for record_type in (*Users.RECORDS, *Acls.RECORDS, *MaskRules.RECORDS):
        assert f"| `{record_type.__struct_config__.tag}` |" in PAGE


def test_the_example_of_a_state_snapshot_of_quotas() -> None:
    data = example("state-snapshot-quotas")
    codec = RecordCodec([*Quotas.RECORDS])
    records = [codec.decode(record, "in the example") for record in unpacked_snapshot(data, 5)]
    assert packed_snapshot(5, [codec.encode(record) for record in records]) == data
    quotas = Quotas()
    for record in records:
        quotas.apply(record)
    assert quotas.applying(QuotaKey.PRODUCE, "alice", "c") == (1 << 20, ("alice", "c"))
    assert quotas.connections_of("10.0.0.1") == 5
    assert list(quotas.snapshot()) == records


def test_the_example_of_a_state_snapshot_of_queues() -> None:
    data = example("queue-state-snapshot")
    codec = RecordCodec(StateMachines.record_types(QUEUE_LOG))
    records = [codec.decode(record, "in the example") for record in unpacked_snapshot(data, 3)]
    settings = SubscriptionSettings(topics=("orders",), lock_ms=5_000, dead_letter_topic="lost")
    assert records == [QueueIds(9), SubscriptionCreated(4, "mail", settings, 1_356_998_400_000)]
    assert packed_snapshot(3, [codec.encode(record) for record in records]) == data


def test_the_examples_of_records_of_queues() -> None:
    codec = RecordCodec(StateMachines.record_types(QUEUE_LOG))
    acked = EventsAcked(5, *encoded([(104, 105), (106, 109)]))
    assert codec.encode(acked) == example("events-acked")
    runs = encoded([(104, 105), (106, 109)])
    leased = EventsLeased(5, *runs, 7, 1_234_567, "w1", 30_000, 1_356_998_430_000)
    assert codec.encode(leased) == example("events-leased")
    carried = EventsCarried(5, ((104, 2, 1_356_998_400_000), (110, 3, 1_356_998_400_000)))
    assert codec.encode(carried) == example("events-carried")
    assert f"partition 0 of topic id {paths.CARRIED_TOPIC.int} (`{CARRIED_TOPIC}`)" in PAGE
    assert f"`{FROM_HEADER}`" in PAGE
    due_ms = {104: 1_356_998_400_000, 110: 1_356_998_460_000}
    delayed = EventsDelayed(5, b"".join(pack_entry(due, 0, position) for position, due in due_ms.items()))
    assert codec.encode(delayed) == example("events-delayed")
    assert delayed.due_ms == due_ms
    assert acked.runs == [(104, 105), (106, 109)]
    data = example("queue-view-snapshot")
    records = [codec.decode(record, "in the example") for record in unpacked_snapshot(data, 9)]
    assert packed_snapshot(9, [codec.encode(record) for record in records]) == data
    subscriptions = Subscriptions(SimClock(), random.Random(1))
    subscriptions.apply(SubscriptionCreated(4, "mail", SubscriptionSettings(), 5))
    for record in records:
        subscriptions.apply(record)
    view = subscriptions.views.get(5)
    assert view is not None
    assert view.place == (4, UUID(int=77), 0)
    sequence = view.sequence
    assert (sequence.start, sequence.scanned, sequence.marked) == (4090, 4100, 5096)
    assert [sequence.state(position).name for position in range(4090, 4101)] == [
        *("DONE", "DONE", "WAITING", "DYING", "READY", "READY"),
        *("READY", "READY", "READY", "READY", "AHEAD"),
    ]
    assert (sequence.failures(4092), sequence.dying(9)) == (1, [(4093, GiveUpReason.REJECTED)])
    assert sequence.next_due_ms() == 1_356_998_401_500
    assert list(subscriptions.views.walk()) == records


def test_the_example_of_a_record_of_share_groups() -> None:
    codec = RecordCodec(StateMachines.record_types(QUEUE_LOG))
    facts = MemberFacts("m", None, "c", "127.0.0.1", ("orders",))
    assert codec.encode(ShareMemberSaved("g", 2, facts)) == example("share-member-saved")


def test_the_page_lists_the_records_of_share_groups() -> None:
    part = PAGE.partition("\n### Records of share groups\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`((?:share|group)-[a-z-]+)`", part))
    records: list[type[msgspec.Struct]] = [ShareGroupCreated, *ShareGroups.RECORDS, *GroupSettings.RECORDS]
    assert listed == {record.__struct_config__.tag for record in records}


def test_the_page_lists_the_records_of_queues() -> None:
    part = PAGE.partition("\n### Records of queues\n")[2].partition("\n##")[0]
    listed = set(re.findall(r"`((?:view|cursor|events|event|queue|snapshot)-[a-z-]+)`", part))
    records: list[type[msgspec.Struct]] = [
        *VIEW_RECORDS,
        *SNAPSHOT_RECORDS,
        QueueIds,
        QueueEpoch,
        QueueEpochsEnded,
    ]
    assert listed == {record.__struct_config__.tag for record in records}


def test_the_page_lists_the_records_of_namespaces() -> None:
    part = PAGE.partition("\n### Records of namespaces\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", part, re.MULTILINE))
    assert listed == {record.__struct_config__.tag for record in TOPOLOGY_RECORDS}


def test_the_examples_of_routed_queues() -> None:
    assert RoutePlace.decode(example("route-header")) == RoutePlace(3, 9, 1_000_000, -1)
    disk = MemoryDisk()
    disk.make_folder("routed/x")
    disk.write_all("routed/x/0000000001.index", example("routed-index"))
    files = IndexFiles(disk, "routed/x", 3)
    (group,) = files.load(verify=True)
    assert (group.covered, group.start, group.cut, group.end) == ({0: 43, 1: 9}, 90, NO_CUT, 103)
    routed = RoutedIndex(3, files)
    routed.load(group.loaded)
    places = [(arrival.sequence, arrival.partition, arrival.offset) for arrival in routed.arrivals()]
    assert places == [(100, 0, 40), (101, 1, 7), (102, 0, 42)]
    assert [routed.runs(queue, 0, 9)[0] for queue in (5, 6)] == [[(100, 101), (102, 103)], [(100, 103)]]


def test_the_page_lists_the_records_of_publishers() -> None:
    for record in Publishers.RECORDS:
        assert f"| `{record.__struct_config__.tag}` |" in PAGE


def test_the_page_names_the_state_logs_of_the_code() -> None:
    for topic_id, folder in paths.STATE_FOLDERS.items():
        assert f"| 0 of topic id {topic_id.int} | `{folder}/` |" in PAGE


def rulers(part: str) -> list[list[int]]:
    """The positions above the drawings of a part."""
    text = PAGE.partition(f"\n## {part}\n")[2].partition("\n## ")[0]
    return [
        [int(number) for number in match[1].split()]
        for match in re.finditer(r"^(?: group: )? +(0(?: +[0-9]+)+)$", text, re.MULTILINE)
    ]


def positions(*fields: str) -> list[int]:
    """Where these fields of a struct begin, and its end."""
    return [struct.calcsize(">" + "".join(fields[:count])) for count in range(len(fields) + 1)]


def test_the_drawings_of_the_journal_and_the_state_snapshot_show_the_positions_of_their_fields() -> None:
    header, group = rulers("Journal")
    assert header == [
        *positions("8s", "I", "16s", "Q", "Q", "Q"),
        journal_format.BLOCK,
        2 * journal_format.BLOCK,
    ]
    assert group == positions("4s", "I", "Q", "Q", "I", "I")
    assert group[-1] == journal_format.GROUP.size
    (fields,) = rulers("State snapshot")
    assert fields == positions("8s", "H", "q", "I", "Q", "I")
    assert fields[-1] == snapshot.HEADER_BYTES


def test_the_page_names_the_versions_and_magics_of_the_code() -> None:
    assert f"\nFormat {meta.VERSION}. " in PAGE
    assert f"`version={meta.VERSION}` in `meta.properties`" in PAGE
    assert f"a version of their own, {snapshot.VERSION}." in PAGE
    assert snapshot.VERSION == RECORD_VERSION
    for magic in (token_filter.MAGIC, layout.MAGIC):
        assert f"`{magic.decode()}`" in PAGE


def test_the_example_of_leader_epochs() -> None:
    example = re.search(r"```text epochs\n(.*?)```", PAGE, re.DOTALL)
    assert example
    parsed = LeaderEpochs.parse(example[1].encode())
    assert parsed is not None
    assert parsed.entries == [(0, 0), (3, 1500)]
    assert parsed.encode() == example[1].encode()
    assert [parsed.end_offset(epoch, 2000) for epoch in (-1, 0, 1, 3, 4)] == [
        (-1, -1),
        (0, 1500),
        (0, 1500),
        (3, 2000),
        (-1, -1),
    ]
    for broken in (
        b"",
        b"0\n2\n0 0\n",
        b"0\n1\n0 0",
        b"1\n0\n",
        b"0\n2\n3 5\n2 9\n",
        b"0\n1\nx y\n",
        b"\xff",
    ):
        assert LeaderEpochs.parse(broken) is None


def test_the_example_of_a_delay_run() -> None:
    data = example("delay-run")
    run_id = 5 << 32 | 2 << 20
    assert decode_header(run_id, data) == RunHeader(run_id, 0, 2)
    entries = decode_block(run_id, 2, 0, data[HEADER_BYTES:])
    assert encode_run(run_id, 0, entries) == data
    assert unpack_entries(entries) == [(1_356_998_401_500, 0, 4092), (1_356_998_401_600, 0, 7)]
    assert f"`{paths.DELAYS}/<16 hex digits>.run`" in PAGE
    assert paths.delay_run_path(run_id) == "delays/0000000500200000.run"
