"""The soak's kinds of fault that happen to the folder of a stopped server: files are removed, emptied, cut or
changed, or the disk has no room left for a start.

Owns: the damage, and the judgement that every reading path reports just the offsets that were destroyed.
Refuses: to judge the promises made to the writers, whose topic it leaves alone; kill9 does that.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from uuid import UUID

from mainstem.kafka_protocol.message import Message
from mainstem.log import paths
from mainstem.log.commit import checkpoint
from mainstem.log.storage.record_batch import decode, iter_batches
from tests.doors.kafka.kit import batch, fetch_request, produce_request
from tests.faults import kill9
from tests.faults.attacks import SocketClient
from tests.faults.sync_faults import SyncFaults
from tests.support.server import Server

CORRUPT_MESSAGE = 2
DAMAGE_FOUND = 4
"""Exit code of `mainstem export`."""
Offsets = set[int]


class DoomedTopic:
    """A topic of one partition whose sealed segments are damaged, and what it held."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        """Create it and fill some segments of 1 MiB."""
        self.name = f"doomed-{rng.randrange(1 << 32)}"
        self.values: list[bytes] = []
        """By offset."""
        client = SocketClient(server)
        config = Message(name="segment.bytes", value=str(kill9.SEGMENT_BYTES))
        topic = Message(
            name=self.name, num_partitions=1, replication_factor=1, assignments=[], configs=[config]
        )
        (created,) = client.call(19, 7, Message(topics=[topic], timeout=20_000)).topics
        assert created.error_code == 0, created
        self.folder = server.data / paths.partition_folder(UUID(str(created.topic_id)), 0)
        while len(self.segments()) < 5:
            first = len(self.values)
            values = [
                b"%d %s" % (first + n, rng.randbytes(rng.randint(10_000, 40_000)).hex().encode())
                for n in range(rng.randint(1, 4))
            ]
            answer = client.call(0, 9, produce_request(self.name, batch(*values), timeout=20_000))
            (partition,) = answer.responses[0].partition_responses
            assert (partition.error_code, partition.base_offset) == (0, first)
            self.values += values
        client.close()

    def segments(self) -> list[Path]:
        """Files of its segments, in their order; the last is the active one."""
        return sorted(self.folder.glob("*.log"))

    def destroy(self, rng: random.Random) -> Offsets:
        """Remove, empty or cut one sealed segment or two; the offsets that are lost."""
        segments = self.segments()
        lost: Offsets = set()
        for index in rng.sample(range(len(segments) - 1), rng.randint(1, 2)):
            path, following = segments[index], int(segments[index + 1].stem)
            data = path.read_bytes()
            position, first = rng.choice(
                [(place, header.base_offset) for place, header in iter_batches(data)]
            )
            if rng.random() < 0.5:
                position, first = 0, int(path.stem)
            lost |= set(range(first, following))
            if position == 0 and rng.random() < 0.5:
                for file in self.folder.glob(f"{path.stem}.*"):
                    file.unlink()
                continue
            within = rng.randint(1, 100) if rng.random() < 0.3 else 0
            path.write_bytes(data[: position + within])
        return lost

    def delete(self, server: Server) -> None:
        """Delete it."""
        client = SocketClient(server)
        (deleted,) = client.call(20, 4, Message(topic_names=[self.name], timeout=20_000)).responses
        assert deleted.error_code == 0
        client.close()


def ranges_of(offsets: Offsets) -> list[tuple[int, int]]:
    """First and last of each run of offsets."""
    return [
        (first, next(n for n in range(first, first + len(offsets) + 1) if n + 1 not in offsets))
        for first in sorted(offsets)
        if first - 1 not in offsets
    ]


def fetched(server: Server, topic: DoomedTopic) -> tuple[dict[int, bytes], Offsets]:
    """What a Kafka client gets: events, and offsets that are refused as corrupt."""
    client = SocketClient(server)
    events: dict[int, bytes] = {}
    refused: Offsets = set()
    offset = 0
    while offset < len(topic.values):
        answer = client.call(1, 12, fetch_request((topic.name, 0, offset)))
        (partition,) = answer.responses[0].partitions
        assert partition.error_code in (0, CORRUPT_MESSAGE), partition.error_code
        if partition.error_code:
            refused.add(offset)
            offset += 1
            continue
        data = partition.records
        assert data, f"nothing at {offset}, and no error: a consumer hangs here"
        for position, header in iter_batches(data):
            for record in decode(data[position : position + header.total_bytes]):
                events[record.offset] = bytes(record.value or b"")
            assert header.next_offset > offset or position == 0
            offset = max(offset, header.next_offset)
    client.close()
    return events, refused


def over_http(server: Server, method: str, path: str, body: object = None) -> bytes:
    """The reply of the HTTP door, which has to be 200."""
    with contextlib.closing(HTTPConnection(server.http, timeout=kill9.SETTLE_S)) as client:
        content = None if body is None else json.dumps(body).encode()
        client.request(method, path, content, {"content-type": "application/json"} if content else {})
        reply = client.getresponse()
        data = reply.read()
        assert reply.status == 200, (path, reply.status, data[:500])
        return data


def read_by_http(server: Server, topic: DoomedTopic) -> tuple[dict[int, bytes], Offsets]:
    """Events of all pages, and where their damaged ranges begin."""
    events: dict[int, bytes] = {}
    begins: Offsets = set()
    start, offset = "offset=0", 0
    while offset < len(topic.values):
        path = f"/api/v1/topics/{topic.name}/partitions/0/events?{start}&limit=1000"
        page = json.loads(over_http(server, "GET", path))
        events |= {event["offset"]: event["value"].encode() for event in page["events"]}
        begins |= set(page["unreadable"])
        following = int(page["next"].rpartition(".")[2])
        assert following > offset, "reading by HTTP does not move on"
        start, offset = f"after={page['next']}", following
    return events, begins


def searched(server: Server, topic: DoomedTopic) -> tuple[Offsets, Offsets]:
    """Offsets of all matches of a search for everything, and where its unreadable ranges begin."""
    body = {"query": "", "topics": [topic.name], "limit": None}
    lines = [json.loads(line) for line in over_http(server, "POST", "/api/v1/search", body).splitlines()]
    assert lines[-1]["done"]["reason"] == "complete", lines[-1]
    hits = {line["hit"]["offset"] for line in lines if "hit" in line}
    return hits, {line["unreadable"]["offset"] for line in lines if "unreadable" in line}


def exported(server: Server, topic: DoomedTopic) -> Offsets:
    """Offsets in an export, whose exit code has to say that something is damaged."""
    command = [sys.executable, "-m", "mainstem", "export", "--at", server.address, "--topic", topic.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == DAMAGE_FOUND, (done.returncode, done.stderr[-500:])
    return {json.loads(line)["offset"] for line in done.stdout.splitlines()}


def lose_segments(server: Server, rng: random.Random) -> None:
    """Segments of a stopped server are removed, emptied or cut. After the start every reading path reports
    their offsets, serves all others, and the server is ready."""
    topic = DoomedTopic(server, rng)
    assert server.stop() == 0, server.logs()
    lost = topic.destroy(rng)
    server.start(same_port=True)
    whole = {offset: value for offset, value in enumerate(topic.values) if offset not in lost}
    begins = {first for first, _ in ranges_of(lost)}
    ready = json.loads(over_http(server, "GET", "/readyz"))
    listed = [range(item["first"], item["last"] + 1) for item in ready["damaged"]]
    assert {offset for offsets in listed for offset in offsets} == lost, f"/readyz: {listed}, not {lost}"
    assert fetched(server, topic) == (whole, lost), "Fetch"
    for events, reported in (read_by_http(server, topic), searched(server, topic)):
        assert set(events) == set(whole)
        assert begins <= reported <= lost, (begins, reported)
    assert read_by_http(server, topic)[0] == whole, "reading by HTTP"
    assert exported(server, topic) == set(whole), "export"
    topic.delete(server)


def damage_checkpoint(sync_faults: SyncFaults) -> Callable[[Server, random.Random], None]:
    """After kill -9, sometimes in the middle of failing syncs, the newest checkpoint is damaged."""

    def blow(server: Server, rng: random.Random) -> None:
        client = SocketClient(server)
        for number in range(rng.randint(0, 3)):  # each deletion asks for a checkpoint
            name = f"short-lived-{rng.randrange(1 << 32)}-{number}"
            client.create(name)
            client.call(20, 4, Message(topic_names=[name], timeout=20_000))
        client.close()
        if rng.random() < 0.6:
            sync_faults.fail(rng.choice(("/journal/", "/partitions/")))
            time.sleep(rng.uniform(0.05, 0.5))
        server.kill()
        sync_faults.heal()
        damage_newest_checkpoint(server.data, rng)
        server.start(same_port=True)
        kill9.accepts_again(server)

    return blow


def damage_newest_checkpoint(data: Path, rng: random.Random) -> None:
    """Change, cut, empty or remove the checkpoint file that counts."""
    files = [data / name for name in checkpoint.NAMES if (data / name).exists()]
    decoded = {path: checkpoint.decode(path.read_bytes()) for path in files}
    whole = {path: item.number for path, item in decoded.items() if item is not None}
    if not whole:
        return
    path = max(whole, key=lambda path: whole[path])
    content = bytearray(path.read_bytes())
    match rng.randrange(4):
        case 0:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 1:
            del content[rng.randrange(len(content)) :]
        case 2:
            content[:] = bytes(len(content))
        case _:
            path.unlink()
            return
    path.write_bytes(content)


def take_all_space(folder: Path) -> Path:
    """A file of another program that leaves 0 bytes of this disk."""
    path = folder / "somebody-elses"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return path


def start_on_a_full_disk(server: Server, rng: random.Random) -> None:
    """kill -9, then another program takes all space. The start serves every event that was there."""
    before = kill9.read_all_events(server.address)
    server.kill()
    taken = take_all_space(server.data.parent)
    try:
        assert os.statvfs(server.data).f_bavail == 0, "there is room: nothing was tested"
        server.start(same_port=True)
        after = kill9.read_all_events(server.address)
    finally:
        taken.unlink()
    for partition, events in before.items():
        assert after[partition][: len(events)] == events, f"events of {partition} are missing"
    kill9.accepts_again(server)
