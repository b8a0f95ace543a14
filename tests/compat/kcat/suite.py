"""kcat against a server: `python -m tests.compat.kcat.suite ADDRESS [CASE…]`.

Debian's kcat: librdkafka 2.0.2, the oldest client of the lot."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from tests.compat.cases import CODECS, Address, case, eventually, fresh, librdkafka_login, main, same


def kcat(*arguments: str, stdin: str = "") -> str:
    """Run kcat; its standard output. Fails the case unless it ends with 0."""
    login = [part for name, value in librdkafka_login().items() for part in ("-X", f"{name}={value}")]
    command = ["kcat", "-b", Address.value, *login, *arguments]
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, timeout=40, check=False)
    same(done.returncode, 0, f"exit code of {' '.join(arguments)} ({done.stderr.decode()[-300:]})")
    return done.stdout.decode()


def produce(name: str, text: str, *arguments: str) -> None:
    kcat("-P", "-t", name, *arguments, stdin=text)


def consume(name: str, *arguments: str) -> list[dict[str, Any]]:
    """Every record to the end of the topic, as kcat's JSON."""
    lines = kcat("-C", "-t", name, "-e", "-q", "-J", *arguments).splitlines()
    return [json.loads(line) for line in lines]


def payloads(records: list[dict[str, Any]]) -> list[str | None]:
    return [record["payload"] for record in records]


def _codec(codec: str) -> None:
    name = fresh("kcat")
    lines = [f"line {i} " * 30 for i in range(200)]
    produce(name, "\n".join(lines), "-z", codec)
    same(payloads(consume(name)), lines)


for _name in CODECS:
    case(f"produce-{_name}")(lambda codec=_name: _codec(codec))  # type: ignore[misc]


@case("headers")
def _headers() -> None:
    name = fresh("kcat")
    produce(name, "x", "-H", "a=1", "-H", "a=2", "-H", "empty=")
    same(consume(name)[0]["headers"], ["a", "1", "a", "2", "empty", ""])


@case("null-key")
def _null_key() -> None:
    name = fresh("kcat")
    produce(name, "x\nk:y", "-K", ":")
    same([record["key"] for record in consume(name)], [None, "k"])


@case("null-value")
def _null_value() -> None:
    name = fresh("kcat")
    produce(name, "k:", "-K", ":", "-Z")
    same([(record["key"], record["payload"]) for record in consume(name)], [("k", None)])


@case("empty-value")
def _empty_value() -> None:
    name = fresh("kcat")
    produce(name, "k:", "-K", ":")
    same([(record["key"], record["payload"]) for record in consume(name)], [("k", "")])


@case("idempotent-producer")
def _idempotent() -> None:
    name = fresh("kcat")
    produce(
        name, "\n".join(map(str, range(500))), "-X", "enable.idempotence=true", "-X", "batch.num.messages=10"
    )
    same(payloads(consume(name)), [str(i) for i in range(500)])


@case("explicit-partition")
def _explicit_partition() -> None:
    name = fresh("kcat")
    produce(name, "x", "-p", "0")
    same([(record["partition"], record["offset"]) for record in consume(name, "-p", "0")], [(0, 0)])


@case("record-timestamp")
def _timestamp() -> None:
    name = fresh("kcat")
    before = int(time.time() * 1000)
    produce(name, "x")
    record = consume(name)[0]
    same((record["tstype"], abs(record["ts"] - before) < 60_000), ("create", True))


@case("consume-latest")
def _latest() -> None:
    name = fresh("kcat")
    produce(name, "a\nb\nc")
    same(payloads(consume(name, "-o", "-1")), ["c"])
    same(payloads(consume(name, "-o", "end")), [])


@case("consume-from-offset")
def _from_offset() -> None:
    name = fresh("kcat")
    produce(name, "\n".join(map(str, range(100))))
    same(payloads(consume(name, "-o", "57", "-c", "3")), ["57", "58", "59"])


@case("consume-from-time")
def _from_time() -> None:
    name = fresh("kcat")
    produce(name, "old")
    time.sleep(0.2)
    middle = int(time.time() * 1000)
    time.sleep(0.2)
    produce(name, "new")
    same(payloads(consume(name, "-o", f"s@{middle}")), ["new"])
    same(kcat("-Q", "-t", f"{name}:0:{middle}").strip(), f"{name} [0] offset 1")


@case("group-commits-survive")
def _group() -> None:
    name, group = fresh("kcat"), fresh("g")
    produce(name, "a\nb\nc")
    config = ("-X", "auto.offset.reset=earliest")
    same(kcat("-G", group, "-c", "2", "-q", *config, name).split(), ["a", "b"])
    same(kcat("-G", group, "-c", "1", "-q", *config, name).split(), ["c"])


@case("group-join-leave")
def _group_of_two() -> None:
    name, group = fresh("kcat"), fresh("g")
    produce(name, "a")
    members = [
        subprocess.Popen(
            ["kcat", "-b", Address.value, "-G", group, "-u", "-X", "auto.offset.reset=earliest", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        eventually(lambda: f"Group {group} rebalanced" in _said(members[0]), "the first member joined")
        members[0].terminate()
        said, _ = members[0].communicate(timeout=20)
        assert members[1].stdout is not None
        first = said or members[1].stdout.readline()
        same(first.strip(), b"a")
    finally:
        for member in members:
            member.kill()
            member.wait()


def _said(member: subprocess.Popen[bytes]) -> str:
    assert member.stderr is not None
    return member.stderr.readline().decode()


@case("list-metadata")
def _metadata() -> None:
    name = fresh("kcat")
    produce(name, "x")
    cluster = json.loads(kcat("-L", "-J"))
    same([f"{broker['name']}" for broker in cluster["brokers"]], [Address.value])
    parts = next(topic["partitions"] for topic in cluster["topics"] if topic["topic"] == name)
    same([(part["partition"], part["leader"], part["isrs"]) for part in parts], [(0, 1, [{"id": 1}])])


if __name__ == "__main__":
    main()
