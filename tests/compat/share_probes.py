"""What a server answers to raw requests of share groups: the same steps give the same transcript on Apache
Kafka and on mainstem.

    python -m tests.compat.share_probes ADDRESS [PROBE…]      # prints the transcript

Each probe uses a topic and a group of its own. Owns: the steps. Used by test_share_probes.py and by people.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from mainstem.kafka_protocol.message import Message
from tests.compat.share_lab import ACCEPT, GAP, REJECT, RELEASE, RENEW, Lab, index_of

Transcript = list[Any]
PROBES: dict[str, Callable[[Lab], Transcript]] = {}
SETTLE_S = 0.3
"""Until what follows from a request has happened in Kafka's other threads."""


def probe(function: Callable[[Lab], Transcript]) -> Callable[[Lab], Transcript]:
    """Register a probe by the name of its function."""
    PROBES[function.__name__] = function
    return function


@probe
def sessions(lab: Lab) -> Transcript:
    """Epochs of share sessions, right and wrong."""
    lab.produce(3)
    m = lab.member("m1")
    out = [m.fetch(epoch=epoch) for epoch in (1, -1, 7, -2)]
    out += [m.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=epoch) for epoch in (0, 1, -1)]
    out += [m.take([0, 1])]
    out += [m.fetch(epoch=epoch) for epoch in (0, 99)]
    m.epoch = 1
    out += [m.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=5), m.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=0)]
    out += [
        m.acknowledge({0: [(0, 0, [ACCEPT])]}),
        m.fetch(),
        m.acknowledge({0: [(1, 2, [ACCEPT])]}, epoch=-1),
    ]
    out += [m.fetch(), m.acknowledge({}, epoch=-1)]
    m.epoch = 0
    return [*out, m.fetch()]


@probe
def bad_names(lab: Lab) -> Transcript:
    """Groups, members, topics and partitions that do not exist."""
    lab.produce(2)
    out: Transcript = []
    for name in ("", "m" * 37, "m" * 36):
        out.append(lab.member(name).take())
    nameless = lab.member("n")
    nameless.group = None  # type: ignore[assignment]
    out += [nameless.fetch(), nameless.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=1)]
    m = lab.member("m2")
    out += [m.fetch([9]), m.fetch([])]
    out += [m.acknowledge({9: [(0, 0, [ACCEPT])], 12: [(0, 0, [ACCEPT])]})]
    return out


@probe
def unknown_topic_ids(lab: Lab) -> Transcript:
    """Topic ids that do not exist. Kafka before 4.4 fails at them."""
    lab.produce(2)
    m = lab.member("m1")
    out: Transcript = [m.take(), m.fetch([0], topic_id=UUID(int=77)), m.fetch([])]
    return [*out, m.acknowledge({0: [(0, 0, [ACCEPT])]}, topic_id=UUID(int=77))]


@probe
def wrong_batches(lab: Lab) -> Transcript:
    """Acknowledgement batches that contradict themselves or the state, in both requests."""
    lab.produce(6)
    m = lab.member("m1")
    out: Transcript = [m.take()]
    wrong: list[list[tuple[int, int, list[int]]]] = [
        [(3, 2, [1])],
        [(0, 1, [1]), (0, 0, [1])],
        [(2, 3, [1]), (0, 1, [1])],
        [(0, 1, [])],
        [(0, 2, [1, 1])],
        [(0, 2, [1, 1, 1, 1])],
        [(0, 0, [5])],
        [(0, 0, [-1])],
        [(0, 0, [RENEW])],
        [(-7, -2, [1])],
        [(-1, -1, [1])],
        [(-1, 0, [1])],
        [(0, 6, [1])],
        [(6, 9, [1])],
        [(100, 200, [1])],
        [(0, 2**63 - 1, [1])],
        [(0, 1, [1]), (1, 2, [1])],
        [(0, 0, [1]), (0, 0, [1])],
        [(0, 1, [1]), (7, 7, [1])],
        [],
    ]
    for acks in wrong:
        out.append((acks, m.acknowledge({0: acks}), m.fetch([0], {0: acks}, max_wait=0)))
        # What Kafka took of them is given back, so that each begins with the same state.
    return out


@probe
def first_request_acknowledges(lab: Lab) -> Transcript:
    """Acknowledgements in the request that begins a session."""
    lab.produce(2)
    m = lab.member("m1")
    return [m.fetch([0], {0: [(0, 0, [ACCEPT])]}), m.fetch(epoch=1), m.take(epoch=None)]


@probe
def types(lab: Lab) -> Transcript:
    """Each acknowledge type, by offset and for a batch."""
    lab.produce(8, 2)
    m = lab.member("m1")
    out: Transcript = [m.take()]
    out += [m.acknowledge({0: [(0, 5, [ACCEPT, GAP, RELEASE, REJECT, RELEASE, ACCEPT]), (6, 7, [RELEASE])]})]
    out += [m.take(), m.acknowledge({0: [(8, 9, [REJECT])]}), m.fetch()]
    out += [m.acknowledge({0: [(0, 1, [ACCEPT])]}), m.acknowledge({0: [(0, 2, [ACCEPT])]})]
    out += [m.acknowledge({0: [(5, 5, [ACCEPT])]}), m.acknowledge({0: [(4, 7, [ACCEPT])]})]
    out += [m.acknowledge({0: [(6, 7, [ACCEPT])]}), m.acknowledge({0: [(4, 4, [ACCEPT])]}), m.fetch()]
    return [*out, m.acknowledge({0: [(9, 9, [ACCEPT])]}), m.acknowledge({0: [(10, 10, [ACCEPT])]})]


@probe
def deliveries_are_limited(lab: Lab) -> Transcript:
    """Releasing until the limit."""
    lab.produce(1)
    m = lab.member("m1")
    out: Transcript = [m.take()]
    for _ in range(4):
        out += [m.acknowledge({0: [(0, 0, [RELEASE])]}), m.take()]
    return [*out, m.acknowledge({0: [(0, 0, [RELEASE])]}), m.fetch(), m.acknowledge({0: [(0, 0, [RELEASE])]})]


@probe
def modes_and_limits(lab: Lab) -> Transcript:
    """Most records and the mode in which this is exact."""
    lab.produce(3, 3, 3, 3)
    m = lab.member("m1")
    out: Transcript = [m.take(max_records=4)]
    out += [m.take(max_records=1, share_acquire_mode=1), m.take(max_records=2, share_acquire_mode=1)]
    out += [m.fetch(max_records=0), m.fetch(max_bytes=0), m.take()]
    return [*out, m.acknowledge({0: [(0, 11, [ACCEPT])]})]


@probe
def suspects(lab: Lab) -> Transcript:
    """Records that fail again and again are delivered with fewer others, and alone at last."""
    lab.produce(8)
    m = lab.member("m1")
    out: Transcript = []
    for _ in range(13):
        fetched = m.take()
        out.append(fetched)
        m.acknowledge({0: [(first, last, [RELEASE]) for first, last, _ in fetched[0][1]]})
    return out


@probe
def others(lab: Lab) -> Transcript:
    """What another member has."""
    lab.produce(2, 2)
    a, b = lab.member("a"), lab.member("b")
    out: Transcript = [a.take(max_records=1), b.take()]
    out += [b.acknowledge({0: [(1, 3, [ACCEPT])]}), b.acknowledge({0: [(2, 2, [ACCEPT])]})]
    out += [a.acknowledge({0: [(0, 1, [RELEASE])]}), b.take(), a.acknowledge({0: [(0, 1, [ACCEPT])]})]
    return [*out, b.acknowledge({0: [(0, 3, [ACCEPT])]}), b.acknowledge({0: [(0, 1, [ACCEPT])]})]


@probe
def ends_of_sessions(lab: Lab) -> Transcript:
    """What is given back when a session ends, or its connection."""
    lab.configure({"share.delivery.count.limit": "10"})  # from half of it on, few records come together
    lab.produce(4)
    a, b = lab.member("a"), lab.member("b")
    out: Transcript = [a.take(), a.fetch([0], {0: [(0, 0, [ACCEPT])]}, epoch=-1)]
    time.sleep(SETTLE_S)
    out += [b.take()]
    b.caller.close()
    time.sleep(SETTLE_S)
    c = lab.member("c")
    out += [c.take(), c.acknowledge({0: [(1, 1, [ACCEPT])]}, epoch=-1)]
    time.sleep(SETTLE_S)
    d = lab.member("d")
    return [*out, d.take(), d.fetch(epoch=0), d.acknowledge({0: [(2, 3, [ACCEPT])]}, epoch=1)]


@probe
def renewals(lab: Lab) -> Transcript:
    """Renewing locks: the form of the requests, and until when the records are locked."""
    lab.configure({"share.record.lock.duration.ms": "15000"})
    lab.produce(3)
    m = lab.member("m1")
    out: Transcript = [m.take()]
    out += [m.acknowledge({0: [(0, 0, [RENEW])]}), m.acknowledge({0: [(0, 0, [RENEW])]}, renew=True)]
    out += [m.acknowledge({0: [(0, 2, [RENEW, ACCEPT, RENEW])]}, renew=True)]
    none = {"max_wait": 0, "min_bytes": 0, "max_bytes": 0, "max_records": 0}
    renew = {0: [(0, 0, [RENEW])]}
    out += [m.fetch([0], renew, is_renew_ack=True, **none)]
    out += [m.fetch([0], renew, is_renew_ack=True, **{**none, field: 1}) for field in none]
    out += [m.fetch([0], renew, **none), m.fetch([0], renew, version=1, **none)]
    return [*out, m.acknowledge({0: [(1, 1, [RENEW])]}, renew=True)]


@probe
def waits(lab: Lab) -> Transcript:
    """A fetch that waits is woken by a record, a release, and the end of another session."""
    a, b = lab.member("a"), lab.member("b")
    out: Transcript = [a.fetch(max_wait=100), b.fetch(max_wait=100)]
    a.send_fetch(max_wait=10_000)
    time.sleep(SETTLE_S)
    lab.produce(2)
    out += [a.fetched()]
    b.send_fetch(max_wait=10_000)
    time.sleep(SETTLE_S)
    out += [a.acknowledge({0: [(0, 1, [ACCEPT, RELEASE])]}), b.fetched()]
    a.send_fetch(max_wait=10_000)
    time.sleep(SETTLE_S)
    return [*out, b.acknowledge({}, epoch=-1), a.fetched()]


@probe
def piggybacked(lab: Lab) -> Transcript:
    """Acknowledgements in ShareFetch, also of partitions that the session has not."""
    lab.produce(2)
    lab.produce(2, partition=1)
    m = lab.member("m1")
    out: Transcript = [m.take([0]), m.take([1])]
    out += [m.take([0, 1], {0: [(0, 1, [ACCEPT])], 1: [(0, 0, [ACCEPT]), (1, 1, [RELEASE])]})]
    forgotten = [Message(topic_id=lab.topic_id, partitions=[0, 1])]
    out += [m.fetch([], forgotten_topics_data=forgotten, max_wait=0), m.fetch([], max_wait=0)]
    return [*out, m.acknowledge({1: [(1, 1, [ACCEPT])]})]


Topics = Mapping[str, Sequence[int]]


def _described(lab: Lab, topics: Topics | None, group: str | None = None) -> Any:
    """The error, and of each topic whether its id is right, and the lag and the error of its partitions. The
    offset is not compared: Kafka stores it later than mainstem, so it has an earlier one."""
    wanted = None
    if topics is not None:
        wanted = [Message(topic_name=name, partitions=list(parts)) for name, parts in topics.items()]
    request = Message(groups=[Message(group_id=lab.name if group is None else group, topics=wanted)])
    shown = lab.admin.call(90, 1, request).groups[0]
    return shown.error_code, {
        topic.topic_name.replace(lab.name, "TOPIC"): (
            topic.topic_id == lab.topic_id,
            [
                (part.partition_index, part.lag, part.error_code)
                for part in sorted(topic.partitions, key=index_of)
            ],
        )
        for topic in sorted(shown.topics, key=lambda topic: str(topic.topic_name))
    }


def _altered(lab: Lab, topics: Mapping[str, Mapping[int, int]], group: str | None = None) -> Any:
    wanted = [
        Message(
            topic_name=name,
            partitions=[Message(partition_index=i, start_offset=o) for i, o in parts.items()],
        )
        for name, parts in topics.items()
    ]
    request = Message(group_id=lab.name if group is None else group, topics=wanted)
    reply = lab.admin.call(91, 0, request)
    return reply.error_code, {
        topic.topic_name.replace(lab.name, "TOPIC"): [
            (part.partition_index, part.error_code) for part in sorted(topic.partitions, key=index_of)
        ]
        for topic in sorted(reply.responses, key=lambda topic: str(topic.topic_name))
    }


def _deleted(lab: Lab, topics: Iterable[str], group: str | None = None) -> Any:
    request = Message(
        group_id=lab.name if group is None else group,
        topics=[Message(topic_name=name) for name in topics],
    )
    reply = lab.admin.call(92, 0, request)
    return reply.error_code, sorted(
        (topic.topic_name.replace(lab.name, "TOPIC"), topic.error_code) for topic in reply.responses
    )


@probe
def offsets_are_described(lab: Lab) -> Transcript:
    """The lag, as soon as something is acknowledged: before, Kafka knows nothing."""
    t = lab.name
    lab.produce(3, 3)
    m = lab.member("m1")
    out: Transcript = [m.take()]
    m.acknowledge({0: [(0, 1, [ACCEPT]), (3, 3, [ACCEPT]), (4, 4, [REJECT]), (5, 5, [RELEASE])]})
    out += [_described(lab, {t: [0]}), _described(lab, {}), _described(lab, {"nothere": [0, 1], t: [0]})]
    out += [_described(lab, {"nothere": [0]}), _described(lab, None, "no-such-group")]
    return [*out, _described(lab, {t: [0]}, "no-such-group"), _described(lab, None, "")]


@probe
def offsets_are_altered(lab: Lab) -> Transcript:
    """Setting start offsets: of groups with members, without, and that do not exist."""
    t = lab.name
    lab.produce(6, 6)
    out: Transcript = [_altered(lab, {t: {0: 3}})]
    m = lab.member("m1")
    out += [m.take(max_records=1), m.acknowledge({0: [(0, 1, [ACCEPT])]}, epoch=-1)]
    lab.leave()
    time.sleep(SETTLE_S)
    out += [_altered(lab, {t: {0: 8, 1: 0}}), _described(lab, {t: [0, 1]})]
    out += [_altered(lab, {t: {0: 4, 9: 1}, "nothere": {0: 1}}), _described(lab, {t: [0]})]
    out += [_altered(lab, {t: {0: -1}}), _altered(lab, {t: {0: 99}}), _altered(lab, {})]
    out += [_altered(lab, {t: {}}), _altered(lab, {t: {0: 1}}, "")]
    other = f"{t}-other"
    return [*out, _altered(lab, {t: {0: 5}}, other), _described(lab, None, other)]


@probe
def offsets_are_deleted(lab: Lab) -> Transcript:
    """Forgetting what a group knows of topics."""
    t = lab.name
    lab.produce(6)
    out: Transcript = [_deleted(lab, [t])]
    m = lab.member("m1")
    out += [m.take(), m.acknowledge({0: [(0, 5, [ACCEPT])]}, epoch=-1)]
    lab.leave()
    time.sleep(SETTLE_S)
    out += [_described(lab, {t: [0]}), _deleted(lab, [t, "nothere"]), _described(lab, None)]
    out += [_described(lab, {t: [0]}), _deleted(lab, [t]), _deleted(lab, [])]
    return [*out, _deleted(lab, [t], "no-such-group"), _deleted(lab, [t], "")]


def transcript(address: str, names: Iterable[str] = ()) -> dict[str, Any]:
    """What each probe says."""
    out: dict[str, Any] = {}
    for name in names or PROBES:
        lab = Lab(address, name.replace("_", "-"))
        try:
            out[name] = PROBES[name](lab)
        finally:
            lab.close()
    return out


def main() -> None:
    """Print the transcript of a server."""
    for name, lines in transcript(sys.argv[1], sys.argv[2:]).items():
        print(name)
        for line in lines:
            print("   ", line)


if __name__ == "__main__":
    main()
