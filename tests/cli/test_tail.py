"""`mainstem tail`: its output, its refusals, its exit codes."""

from __future__ import annotations

import json
import os
import pty
import selectors
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Mainstem, command
from tests.support.server import Server

LINES = "".join(f'{{"n":{number},"at":{1_370_000_000 + number}}}\n' for number in range(20))


def numbers(out: str) -> list[int]:
    return [json.loads(line)["value"]["n"] for line in out.splitlines()]


def test_from_and_until_limit_what_is_shown(mainstem: Mainstem) -> None:
    mainstem("produce", "where", "--timestamp", "at", stdin=LINES)

    def tail(*arguments: str) -> list[int]:
        done = mainstem("tail", "where", "--json", *arguments)
        assert done.code == 0, done.err
        return numbers(done.out)

    assert tail("--from", "earliest", "-n", "3") == [0, 1, 2]
    assert tail("--from", "17", "-n", "2") == [17, 18]
    assert tail("-n", "2") == [18, 19]
    assert tail("--from", "earliest", "--until", "latest") == list(range(20))
    assert tail("--from", "18", "--until", "latest") == [18, 19]
    assert tail("--from", "2013-05-31T11:33:30Z", "--until", "2013-05-31T11:33:35Z") == [10, 11, 12, 13, 14]
    assert tail("--from", "-10m", "--until", "latest") == []
    assert tail("--from", "latest", "--until", "latest") == []


def test_several_topics_in_a_pipe_are_tab_separated_lines(mainstem: Mainstem) -> None:
    mainstem("produce", "left", "--key", "k", "--timestamp", "t", stdin='{"k":"a\\tb","t":0.5}\n')
    mainstem("produce", "right", stdin=b"\xff\xfe\n")
    done = mainstem("tail", "left", "right", "--from", "earliest", "-n", "2")
    rows = sorted(done.rows)
    assert rows[0] == [
        "left",
        "0",
        "0",
        "1970-01-01T00:00:00.500Z",
        "a\\tb",
        '{"k":"a\\tb","t":0.5}'.replace("\\t", "\\t"),
    ]
    assert rows[1][:3] == ["right", "0", "0"]
    assert rows[1][4:] == ["", "//4="]


def test_json_has_the_format_of_each_part(mainstem: Mainstem) -> None:
    mainstem("produce", "formats", stdin=b'{"a": [1, 2.50]}\ntext\n\xff\n1e400\n')
    out = mainstem("tail", "formats", "--from", "earliest", "-n", "4", "--json").out
    assert '"value":{"a": [1, 2.50]}' in out  # unchanged: no number is rounded
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["value_format"]) for row in rows] == ["json", "text", "base64", "json"]
    assert rows[2]["value"] == "/w=="


def test_a_group_commits_the_events_that_were_shown(mainstem: Mainstem) -> None:
    mainstem("produce", "grouped", stdin=LINES)
    first = mainstem("tail", "grouped", "--group", "g-tail", "--from", "earliest", "-n", "8", "--json")
    second = mainstem("tail", "grouped", "--group", "g-tail", "-n", "4", "--json")
    assert numbers(first.out) + numbers(second.out) == list(range(12))
    done = mainstem("tail", "grouped", "--group", "g-tail", "--until", "latest")
    assert done.code == 2


def test_a_missing_topic_is_not_created(mainstem: Mainstem) -> None:
    done = mainstem("tail", "nowhere", "-n", "1")
    assert (done.code, done.err) == (1, "mainstem: topic nowhere: there is no such topic or partition\n")
    assert "nowhere" not in mainstem("topics", "list").out
    done = mainstem("tail", "nowhere", "--from", "yesterday")
    assert done.code == 2
    assert "'yesterday' is not earliest, latest, an offset, a time" in done.err


def follow(server: Server, topic: str, *, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mainstem", "tail", topic, "--from", "earliest", "--at", server.address],
        stdout=stdout,
        stderr=stderr,
    )


def test_it_follows_until_ctrl_c_and_ends_quietly(mainstem: Mainstem, server: Server) -> None:
    mainstem("produce", "followed", stdin="first\n")
    process = follow(server, "followed", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert b"first" in process.stdout.readline()
    mainstem("produce", "followed", stdin="second\n")
    assert b"second" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_closed_pipe_ends_it_quietly(mainstem: Mainstem, server: Server) -> None:
    mainstem("produce", "piped", stdin="first\n")
    process = follow(server, "piped", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    mainstem("produce", "piped", stdin="second\n")
    assert process.wait(20) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_closed_pipe_is_noticed_without_another_event(mainstem: Mainstem, server: Server) -> None:
    mainstem("produce", "silent", stdin="first\n")
    process = follow(server, "silent", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_terminal_gets_colours_and_no_control_characters_of_events(
    mainstem: Mainstem, server: Server
) -> None:
    mainstem("produce", "shown", "--key", "k", stdin='{"k":"a"}\n')
    mainstem("produce", "shown", stdin="evil \x1b[2J\x9b\n".encode())
    main, side = pty.openpty()
    process = follow(server, "shown", stdout=side, stderr=side)
    seen = b""
    with selectors.DefaultSelector() as selector:
        selector.register(main, selectors.EVENT_READ)
        while b"u009b" not in seen and selector.select(20):
            seen += os.read(main, 65_536)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    os.close(side)
    os.close(main)
    text = seen.decode()
    assert "\x1b[36m0@0\x1b[0m  \x1b[33ma\x1b[0m  {" in text
    assert '\x1b[34m"k"\x1b[0m:"a"' in text
    assert "evil \\u001b[2J\\u009b" in text


@pytest.mark.slow
def test_a_damaged_batch_is_counted_and_skipped(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    command("topics", "create", "hurt", address=server.address)
    for text in ("one", "two", "three"):
        lines = f"{text * 20}\n" * 50
        assert command("produce", "hurt", address=server.address, stdin=lines).code == 0
    server.stop()
    files = (tmp_path / "data" / "partitions").glob("*/*.log")
    (segment,) = [segment_file for segment_file in files if b"twotwo" in segment_file.read_bytes()]
    content = bytearray(segment.read_bytes())
    content[content.index(b"twotwo")] ^= 1
    segment.write_bytes(content)
    done = command("inspect", str(segment))
    assert done.code == 4
    assert [row[-1] for row in done.rows] == ["ok", "damaged", "ok"]
    with server.start():
        done = command("tail", "hurt", "--from", "earliest", "--until", "latest", address=server.address)
    assert [row[5] for row in done.rows] == ["one" * 20] * 50 + ["three" * 20] * 50
    assert done.code == 4
    assert done.err.splitlines() == [
        "mainstem: hurt 0@50: damaged, skipped",
        "mainstem: 1 damaged range could not be read",
    ]


def test_an_offset_beyond_the_end_is_reported(mainstem: Mainstem) -> None:
    mainstem("topics", "create", "short", "--partitions", "2")
    mainstem("produce", "short", "--partition", "1", stdin="a\nb\nc\n")
    done = mainstem("tail", "short", "--from", "1795983497895", "--until", "latest")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "mainstem: --from 1795983497895: offset 1,795,983,497,895 is beyond the end of short, which is 3;"
        " for the time, write 2026-11-29T20:18:17.895Z\n"
    )
    done = mainstem("tail", "short", "--from", "earliest", "--until", "4")
    assert (done.code, done.out) == (1, "")
    assert done.err == "mainstem: --until 4: offset 4 is beyond the end of short, which is 3\n"
    done = mainstem("tail", "short", "--from", "2", "--until", "latest")
    assert (done.code, [row[-1] for row in done.rows]) == (0, ["c"])
    assert done.err == "mainstem: --from 2: short partition 0 ends at 0\n"
    done = mainstem("groups", "reset", "short-group", "--topic", "short", "--to", "99")
    assert (done.code, done.out) == (1, "")
    assert done.err == "mainstem: --to 99: offset 99 is beyond the end of short, which is 3\n"


def test_output_in_a_pipe_is_utf8_whatever_the_encoding(mainstem: Mainstem) -> None:
    mainstem("produce", "euro", stdin="caf\u00e9 \u20ac\n")
    for name, encoding in (("PYTHONIOENCODING", "latin-1"), ("PYTHONIOENCODING", "ascii"), ("LC_ALL", "C")):
        done = mainstem("tail", "euro", "-n", "1", **{name: encoding})
        assert (done.code, done.rows[0][-1]) == (0, "caf\u00e9 \u20ac")


def test_a_terminal_gets_escapes_for_characters_that_it_has_not(server: Server) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mainstem", "topics", "describe", "caf\u00e9-\u20ac"],
            env={**os.environ, "MAINSTEM_AT": server.address, "PYTHONIOENCODING": "latin-1"},
            stdout=theirs,
            stderr=theirs,
            timeout=60,
        )
        shown = os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert shown.startswith(b"mainstem: topic caf\xe9-\\u20ac: ")
