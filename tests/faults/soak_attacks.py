"""The soak's kinds of fault that clients are: they ask for memory, topics, descriptors and log lines without
end.

Owns: one attack each on the server under load, and the judgement that it costs a bounded amount of memory and
that a client beside it is served. Refuses: to judge the promises made to the writers; kill9 does that.
"""

from __future__ import annotations

import contextlib
import random
import resource
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.kit import batch, produce_request
from tests.faults import kill9
from tests.faults.attacks import (
    MB,
    WAIT_S,
    LongNamedClient,
    SocketClient,
    ask_for_topics,
    descriptors,
    flood,
    join,
    limit_descriptors,
    publish_by_http,
    served_member,
    status,
    unfinished_bodies,
)
from tests.faults.client import wait_for
from tests.support import hostile
from tests.support.server import Server

BESIDE = "beside"
"""The topic of the client beside the attack."""
HTTP = {"http": "127.0.0.1:0"}
GROUP_MEMORY_BYTES = 16 * MB
"""The server's setting while its groups are attacked."""
BODIES_GROWTH_BYTES = 240 * MB
"""64 MiB are the budget of all bodies; each connection may have 64 KiB and one read beside it, and the load
goes on."""
JOINS_GROWTH_BYTES = 80 * MB
TOPICS_GROWTH_BYTES = 120 * MB
LOG_GROWTH_BYTES = 200_000
SESSION_MS = 6000
"""The shortest that Kafka permits."""
REQUIRES_ID, LOADING, STORAGE_ERROR = 79, 14, 56


@contextlib.contextmanager
def bounded_memory(server: Server, most_bytes: int) -> Iterator[None]:
    """AssertionError if the server's memory is at any time larger than before by more than that."""
    assert server.process is not None
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = status(server, "VmRSS")
    yield
    grown = status(server, "VmHWM") - before
    assert grown < most_bytes, f"{grown / MB:.0f} MB more than the {before / MB:.0f} MB before"


@contextlib.contextmanager
def events_beside(server: Server) -> Iterator[None]:
    """A client that publishes an event after the other. AssertionError unless each is acknowledged, in its
    place."""
    client = SocketClient(server)
    client.create(BESIDE)
    offsets = [client.produce(BESIDE)]
    is_over = threading.Event()

    def publish() -> None:
        with contextlib.suppress(OSError, AssertionError):  # it is missing below
            while not is_over.wait(0.01):
                offsets.append(client.produce(BESIDE))
            offsets.append(client.produce(BESIDE))

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    try:
        yield
    finally:
        is_over.set()
        publishing.join()
        client.close()
    assert len(offsets) > 2, "the client beside the attack is not served"
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


def check_no_traceback(server: Server) -> None:
    """AssertionError if the server has logged one."""
    assert "Traceback" not in server.logs(), server.logs()[-3000:]


def join_without_end(server: Server, rng: random.Random) -> None:
    """One connection asks for member ids by the thousand, with a client id of 32 KB, and joins hundreds of
    groups with a megabyte of metadata."""
    name = f"{rng.randrange(1 << 32)}"
    with (
        served_member(server, name) as beats,
        bounded_memory(server, JOINS_GROWTH_BYTES),
        events_beside(server),
    ):
        attacker = LongNamedClient(server)
        pending = join(f"{name}-pending", session_timeout=SESSION_MS)
        asked = [attacker.call(11, 4, pending).error_code for _ in range(rng.randint(1000, 4000))]
        large = [
            attacker.call(11, 3, join(f"{name}-{number}", bytes(MB), session_timeout=SESSION_MS)).error_code
            for number in range(rng.randint(20, 50))
        ]
    assert set(asked) <= {REQUIRES_ID, LOADING}
    assert large[-1] == LOADING, "the memory of groups is without limit"
    assert set(large) <= {0, LOADING}
    assert set(beats) == {0}, "a member loses its place"
    wait_for(
        lambda: attacker.call(11, 3, join(f"{name}-late", session_timeout=SESSION_MS)).error_code == 0,
        "the memory of groups is not free after the sessions of their members",
    )
    attacker.close()
    check_no_traceback(server)


def begin_bodies(server: Server, rng: random.Random) -> None:
    """A hundred events of 16 MiB by HTTP that never end, some for a topic that does not exist."""
    topic = rng.choice((BESIDE, f"missing-{rng.randrange(1 << 32)}"))
    with bounded_memory(server, BODIES_GROWTH_BYTES), events_beside(server):
        with unfinished_bodies(server, 100, topic, most_s=rng.uniform(2.0, 8.0)):
            assert publish_by_http(server, f"{BESIDE}-http") == 200
        assert publish_by_http(server, f"{BESIDE}-http") == 200
    check_no_traceback(server)


def ask_for_many_topics(server: Server, rng: random.Random) -> None:
    """One Metadata request for 60,000 topics that do not exist; what it created is deleted."""
    prefix = rng.randrange(1 << 32)
    with bounded_memory(server, TOPICS_GROWTH_BYTES), events_beside(server):
        attacker = SocketClient(server)
        attacker.sock.settimeout(kill9.SETTLE_S)
        created = ask_for_topics(attacker, [f"{prefix}-{number}" for number in range(60_000)])
        attacker.close()
    assert len(created) < 10_000, "one request creates topics without end"
    cleaner = SocketClient(server)
    cleaner.sock.settimeout(kill9.SETTLE_S)
    deleted = cleaner.call(20, 4, Message(topic_names=created, timeout=60_000))
    assert {topic.error_code for topic in deleted.responses} <= {0}
    cleaner.close()
    check_no_traceback(server)


def forge_lines(server: Server, rng: random.Random) -> None:
    """Names, reasons and paths with line ends and escape sequences, through both doors, and a member that
    joins and leaves again and again. Each line of the log is whole, and they are few."""
    before_bytes = server.log_path.stat().st_size
    hostile.attack_kafka(server.address)
    hostile.attack_http(server.http)
    group = f"{rng.randrange(1 << 32)} {hostile.HOSTILE}"
    with hostile.RawClient(server.address) as client:
        for _ in range(rng.randint(20, 200)):
            leave = Message(member_id=hostile.join(client, group), reason=hostile.HOSTILE)
            client.call(13, 5, Message(group_id=group, members=[leave]))
    text = server.log_path.read_bytes().decode()  # every byte is UTF-8
    for line in text.split("\n")[:-1]:
        hostile.check_text_line(line)
    assert hostile.MARK in text, "nothing of the attack was logged: nothing was tested"
    grown = server.log_path.stat().st_size - before_bytes
    assert grown < LOG_GROWTH_BYTES, f"{grown:,} bytes of log"


def take_descriptors(server: Server, rng: random.Random) -> None:
    """Connections take all descriptors that the server may have. Requests are answered, if need be with the
    error that says so; afterwards all is as before."""
    assert server.process is not None
    good, web = SocketClient(server), HTTPConnection(server.http, timeout=WAIT_S)
    good.create(BESIDE)
    good.produce(BESIDE)

    def get(path: str) -> int:
        web.request("GET", path)
        reply = web.getresponse()
        reply.read()
        return reply.status

    assert get("/livez") == 200
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
    limit_descriptors(server, descriptors(server) + rng.choice((0, 3, 20)))
    with flood(server, 40):
        for _ in range(rng.randint(5, 30)):
            answer = good.call(0, 9, produce_request(BESIDE, batch(b"x" * 100), timeout=20_000))
            assert answer.responses[0].partition_responses[0].error_code in (0, STORAGE_ERROR)
            path = rng.choice(("/", "/metrics", "/api/v1/topics", "/api/v1/groups", "/static/missing.js"))
            assert get(path) in (200, 404, 503), path
            assert get("/livez") == 200
    limit_descriptors(server, hard)
    assert get("/") == 200
    good.produce(BESIDE)
    good.close()
    web.close()
    kill9.accepts_again(server)
    check_no_traceback(server)
