"""The first inputs of each fuzz target, made from what the project itself writes.

Owns: the names of the targets and `seeds`. `python -m tests.fuzz.seeds` adds them to the kept corpus.
"""

from __future__ import annotations

from uuid import UUID

from tests.fuzz import archives

NAMES = (
    "frames",
    "requests",
    "batch",
    "journal",
    "files",
    "state_records",
    "segment",
    "query",
    "body",
    "stream_frames",
    "amqp",
    "http2",
    "header_block",
)


def state_records() -> list[bytes]:
    """What a node writes when a topic is made and a position committed."""
    from mainstem.log.storage.record_batch import decode, iter_batches
    from tests.test_node import NodeRig

    machine = NodeRig(durability="os")
    machine.create("t", 2, retention_ms="5")
    machine.done(machine.node.topics.add_partitions("t", 3))
    machine.done(machine.node.topics.delete("t"))
    data = bytes(machine.node.log.state.read_blocking(0, 1 << 20).data)
    written = [data[start : start + header.total_bytes] for start, header in iter_batches(data)]
    return [bytes(record.value or b"") for batch in written for record in decode(batch)]


def seeds() -> dict[str, list[bytes]]:
    """Good inputs of each target."""
    from mainstem.doors.kafka.handlers import discover
    from mainstem.kafka_protocol.message import Message
    from mainstem.kafka_protocol.schema import api
    from mainstem.kafka_protocol.writer import write_request
    from mainstem.log.commit import journal_format
    from mainstem.log.commit.journal_format import JournalRecord
    from mainstem.log.storage import record_batch as batches
    from tests.doors.kafka.examples import KINDS, example
    from tests.doors.kafka.kit import fetch_request, produce_request, request_frame
    from tests.doors.kafka.test_captures import captured, is_offered
    from tests.fuzz.amqp import seeds as amqp_seeds
    from tests.fuzz.http2_target import header_block_seeds, http2_seeds
    from tests.fuzz.stream_target import stream_seeds

    handlers = discover()
    keys = sorted(handlers)
    out: dict[str, list[bytes]] = {name: [] for name in NAMES}
    two = bytes(batches.build([(b"k", b"v" * 20, (("h", b"1"),), 1_356_998_400_000), (None, b"", (), 5)]))
    zstd = bytes(batches.build([(None, b"v" * 200, (), 1_356_998_400_000)], codec="zstd"))
    good = {0: produce_request("t", two), 1: fetch_request(("t", 0, 0), ("t", 1, 0), max_wait=5)}
    for index, key in enumerate(keys):
        low, high = handlers[key].versions
        for version in {low, high}:
            messages: list[Message] = [example(api(key).request.fields, version, kind) for kind in KINDS]
            if key in good and version < 13:
                messages.append(good[key])
            for message in messages:
                out["requests"].append(
                    bytes([index, version - low]) + bytes(write_request(key, version, message))
                )
    for request in filter(is_offered, captured()):
        first_bytes = bytes([keys.index(request.key), request.version - handlers[request.key].versions[0]])
        out["requests"].append(first_bytes + request.body)
    frame = request_frame(18, 3, 1, Message(client_software_name="a", client_software_version="1"))
    out["frames"] = [b"\xff" + frame * 3, b"\x02" + frame, b"\x40" + request_frame(0, 9, 1, good[0])]
    out["batch"] = [two, zstd]
    out["segment"] = [two, zstd + two, bytes(100), two[:70]]
    out["query"] = [
        text.encode()
        for text in (
            "a.b:1 AND NOT c:>=2013-06-01",
            '"x y" OR key:k* header.h:v',
            "a.b:/x+/ (c:[1 TO 5} OR _exists_:a)",
            "topic:t offset:>0 -v",
        )
    ]
    out["body"] = [
        bytes([n]) + b'{"topic": "t", "events": [{"value": 1}], "partitions": 1}' for n in range(20)
    ]
    header = journal_format.JournalFileHeader(UUID(int=5), seq=1, salt=7, base_group=1)
    record = journal_format.encode_record(JournalRecord(1, bytes(16), 0, 0, 0, 1, 0, 0, 5, len(two)))
    group = b"".join(journal_format.encode_group(journal_format.crc_seed(7), 1, 1, 1, [record, two]))
    out["journal"] = [group, journal_format.encode_header(header) + group, b"MSGR" * 1200]
    out["state_records"] = [bytes([version]) + b"\x93\x01\xa1t\x02" for version in range(4)]
    out["state_records"] += state_records()
    out["files"] = [b"MSSNAP01" + bytes(80)]
    out["stream_frames"] = stream_seeds()
    out["amqp"] = amqp_seeds()
    out["http2"] = http2_seeds()
    out["header_block"] = header_block_seeds()
    return out


if __name__ == "__main__":
    for target, inputs in seeds().items():
        archives.add(target, inputs)
