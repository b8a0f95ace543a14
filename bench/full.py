"""The workloads of `--full`: shapes of batches, codecs, many readers, members, topics, connections,
and starting with data.
"""

from __future__ import annotations

import time
from typing import Any

from bench.workloads import MB, Visit, Workload, by_librdkafka, spread

SIZES = (100, 1024, 10_240)
CODECS = ("none", "lz4", "zstd")
PARTITIONS = (1, 16, 100, 1000)
BATCHES = (1, 4, 16, 64, 256, 1000)
"""Records of 1 KB in a batch."""
CONNECTIONS = (10, 100, 1000)


def sizes_and_codecs(visit: Visit) -> None:
    """Batches of about 64 KB before compression (real events with a codec), MB of values per second."""
    for record_bytes in SIZES:
        for codec in CODECS:
            topic = f"size-{record_bytes}-{codec}"
            visit.make(topic)
            shape = {"records": max(1, 65_536 // record_bytes), "record_bytes": record_bytes, "codec": codec}
            what = f"in, {record_bytes:,} B events, {codec}"
            visit.rated("produce", topic, what, total=visit.sized(200 * MB), **shape)


def real_events(visit: Visit) -> None:
    """Flights of some 300 bytes and GitHub's webhooks of 2 to 30 KB, batches of about 64 KB, in and out."""
    for kind in ("flights", "github-webhooks"):
        for codec in ("none", "lz4"):
            topic, name = f"{kind}-{codec}", f"{kind.removeprefix('github-')}, {codec}"
            visit.make(topic)
            total = visit.sized(200 * MB)
            shape: dict[str, Any] = {"records": 64, "kind": kind, "codec": codec}
            visit.rated("produce", topic, f"in, {name}", total=total, **shape)
            if codec == "none":
                visit.rated("fetch", topic, f"out, {name}", total=int(total * 0.95))


def batch_sizes(visit: Visit) -> None:
    """One partition, 1 KB events, batches of 1 to 1,000 events."""
    for records in BATCHES:
        visit.make(f"batch-{records}")
        total = visit.sized(min(400, 10 * records + 20) * MB)
        what = f"in, batches of {records:,} KB"
        visit.rated("produce", f"batch-{records}", what, total=total, records=records)


def more_partitions(visit: Visit) -> None:
    """64 KB batches for the partitions in turn; then 16 KB batches, as many as fit into a request.

    1,000 partitions are not in the default workloads: Apache Kafka needs a minute to create them.
    """
    for count in PARTITIONS:
        visit.make(f"parts-{count}", count)
        what = f"in, 64 KB batches, {count:,} partitions"
        total = visit.sized(200 * MB)
        done = visit.rated("produce", f"parts-{count}", what, total=total, partitions=count, records=64)
        visit.note(f"in, CPU, {count:,} partitions", "s/GB", "less", done.detail.cpu_s_per_gb)
    spread(visit, f"parts-{PARTITIONS[-1]}", PARTITIONS[-1])


def readers(visit: Visit) -> None:
    """Ten groups read the same events; then one reads events that are not in the page cache."""
    visit.make("read")
    total = visit.sized(300 * MB)
    visit.client("produce", "read", total=total)
    if visit.contestant.speaks_kafka:
        visit.rated("fetch", "read", "out, 1 KB events, 10 groups", total=int(total * 0.95), groups=10)
    visit.server.forget_pages()
    visit.rated("fetch", "read", "out, 1 KB events, cold", total=int(total * 0.95))


def tails(visit: Visit) -> None:
    """One event to 10, 100 and 1,000 readers that wait for it."""
    for count in (10, 100, 1000):
        visit.make(f"tail-{count}")
        done = visit.client("tail", f"tail-{count}", readers=count, count=visit.sized(30, 3))
        visit.note_latency(f"one event to {count:,} readers", done)


def members(visit: Visit) -> None:
    """A hundred members join a group at once."""
    visit.make("joined")
    count = visit.many(100, 5)
    done = visit.client("join", "joined", members=count)
    visit.note(f"{count} members join a group", "s", "less", done["seconds"])


def connections(visit: Visit) -> None:
    """10, 100 and 1,000 idle connections."""
    before = visit.server.resident_mb()
    for count in (visit.many(number, 10) for number in CONNECTIONS):
        with visit.client_process("connections", "-", count=count) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(1)
            after, cpu = visit.server.resident_mb(), visit.server.cpu_s()
            seconds = 5 * visit.fullness
            time.sleep(seconds)
            used = visit.server.cpu_s() - cpu
            process.communicate("\n")
        visit.note(f"resident, {count:,} idle connections", "MB", "less", after)
    visit.note("an idle connection", "KB", "less", max(0.0, (after - before) * 1024 / count))
    visit.note(f"{count:,} idle connections, CPU", "%", "less", used / seconds * 100)


def topics(visit: Visit) -> None:
    """Create 10,000 topics, 100 per request, for at most a minute; the time and memory that a topic costs."""
    made = 0
    before = visit.server.resident_mb()
    began = time.perf_counter()
    while (seconds := time.perf_counter() - began) < 60 and made < visit.many(10_000, 100):
        visit.server.make_topics(1, *(f"topic-{number}" for number in range(made, made + 100)))
        made += 100
        if made in (100, 1000, 10_000):
            visit.note(f"resident, {made:,} topics", "MB", "less", visit.server.resident_mb())
    visit.note("topics created in a minute, 10,000 at most", "", "more", made)
    visit.note("a topic created", "ms", "less", seconds / made * 1000)
    visit.note("memory of a topic", "KB", "less", (visit.server.resident_mb() - before) * 1024 / made)


FULL: tuple[Workload, ...] = (
    by_librdkafka,
    sizes_and_codecs,
    real_events,
    batch_sizes,
    more_partitions,
    readers,
    tails,
    members,
    connections,
    topics,
)
FOR_ALL: tuple[Workload, ...] = (readers,)
"""The others need Kafka's protocol."""
