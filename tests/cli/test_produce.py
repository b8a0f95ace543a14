"""`mainstem produce`: what it writes, its refusals, its exit codes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import cramjam

from tests.cli.conftest import Mainstem


def events(mainstem: Mainstem, topic: str) -> list[dict[str, Any]]:
    done = mainstem("tail", topic, "--from", "earliest", "--until", "latest", "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_lines_of_standard_input_are_the_values(mainstem: Mainstem) -> None:
    done = mainstem("produce", "plain", "--header", "source=test", stdin="one\n\ntwo\r\nthree")
    assert done.code == 0
    assert done.out == ""
    assert done.err.startswith("produced 3 events, 11 B, in ")
    rows = events(mainstem, "plain")
    assert [row["value"] for row in rows] == ["one", "two", "three"]
    assert rows[0]["headers"] == [{"name": "source", "value": "test", "format": "text"}]
    assert (rows[0]["key"], rows[0]["key_format"], rows[0]["value_format"]) == (None, "null", "text")


def test_key_and_time_come_from_fields(mainstem: Mainstem) -> None:
    lines = [
        {"who": {"id": "a"}, "at": "2013-01-01T10:00:00Z"},
        {"who": {"id": 7}, "at": 1357034400},
        {"who": {"id": None}, "at": 1357034400123},
        {"who": {"id": True}, "at": "2013-01-01T11:00:00+01:00"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = mainstem("produce", "keyed", "--key", "who.id", "--timestamp", "at", "-", stdin=text)
    assert done.code == 0, done.err
    rows = events(mainstem, "keyed")
    assert [row["key"] for row in rows] == ["a", "7", None, "true"]
    assert [row["timestamp_ms"] for row in rows] == [
        1357034400000,
        1357034400000,
        1357034400123,
        1357034400000,
    ]
    assert [row["value"] for row in rows] == lines
    assert rows[0]["timestamp"] == "2013-01-01T10:00:00.000Z"


def test_a_bad_line_is_reported_and_the_others_are_written(mainstem: Mainstem, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"k":"a"}\nnot json\n{"q":1}\n[1]\n{"k":{}}\n{"k":"b"}\n')
    done = mainstem("produce", "bad", str(path), "--key", "k")
    assert done.code == 4
    messages = done.err.splitlines()
    assert messages[0].startswith(f"{path}, line 2: not JSON: ")
    assert messages[1] == f"{path}, line 3: there is no field k"
    assert messages[2].startswith(f"{path}, line 4: Expected object, got array")
    assert messages[3] == f"{path}, line 5: an object or an array cannot be the key"
    assert messages[4].startswith("produced 2 events, ")
    assert messages[4].endswith("; 4 bad lines left out")
    assert [row["key"] for row in events(mainstem, "bad")] == ["a", "b"]


def test_strict_stops_at_the_first_bad_line(mainstem: Mainstem) -> None:
    done = mainstem("produce", "strict", "--key", "k", "--strict", stdin='{"k":"a"}\nbad\n{"k":"b"}\n')
    assert done.code == 4
    assert done.err.splitlines()[1].startswith("produced 1 event, ")
    assert [row["key"] for row in events(mainstem, "strict")] == ["a"]


def test_an_event_that_the_server_refuses_is_reported_by_line(mainstem: Mainstem) -> None:
    mainstem("topics", "create", "small", "--config", "max.message.bytes=1000")
    done = mainstem("produce", "small", stdin="a\n" + "b" * 5_000 + "\nc\n")
    assert done.code == 4
    problem = "topic small: larger than the topic accepts (max.message.bytes)"
    assert done.err.splitlines()[0] == f"standard input, line 2: {problem}"
    assert done.err.splitlines()[1].endswith("; 1 bad line left out")
    assert sorted(row["value"] for row in events(mainstem, "small")) == ["a", "c"]


def test_compressed_files_are_read_directly(mainstem: Mainstem, tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    (tmp_path / "a.zst").write_bytes(
        bytes(cramjam.zstd.compress(text[:100_000])) + bytes(cramjam.zstd.compress(text[100_000:]))
    )
    (tmp_path / "b.gz").write_bytes(gzip.compress(text))
    done = mainstem("produce", "packed", str(tmp_path / "a.zst"), str(tmp_path / "b.gz"))
    assert done.code == 0, done.err
    values = [row["value"] for row in events(mainstem, "packed")]
    assert values == [f"line {number}" for number in range(20_000)] * 2


def test_a_file_that_cannot_be_read_is_reported(mainstem: Mainstem, tmp_path: Path) -> None:
    done = mainstem("produce", "none", str(tmp_path / "missing"))
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        f"mainstem: {tmp_path / 'missing'}: No such file or directory",
    )
    cut = tmp_path / "cut.zst"
    cut.write_bytes(bytes(cramjam.zstd.compress(b"line\n" * 1_000))[:-4])
    done = mainstem("produce", "none", str(cut))
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"mainstem: {cut}: incomplete zstd data: ")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"line\n" * 1_000)[:-4])
    assert mainstem("produce", "none", str(tmp_path / "cut.gz")).code == 1


def test_a_partition_can_be_chosen(mainstem: Mainstem) -> None:
    mainstem("topics", "create", "chosen", "--partitions", "3")
    assert mainstem("produce", "chosen", "--partition", "2", stdin="a\nb\n").code == 0
    assert [row["partition"] for row in events(mainstem, "chosen")] == [2, 2]
    done = mainstem("produce", "chosen", "--partition", "5", stdin="a\n")
    assert done.code == 1
    assert (
        done.err.splitlines()[-1]
        == "mainstem: topic chosen: there is no partition 5; it has partitions 0 to 2"
    )


def test_a_failure_is_one_line_however_many_batches_are_in_flight(mainstem: Mainstem) -> None:
    mainstem("topics", "create", "narrow")
    done = mainstem("produce", "narrow", "--partition", "5", stdin="a\n" * 40_000)
    assert done.code == 1
    summary, error = done.err.splitlines()
    assert summary.startswith("produced 0 events, ")
    assert error == "mainstem: topic narrow: there is no partition 5; it has only partition 0"


def test_a_key_stays_as_it_is_spelled(mainstem: Mainstem) -> None:
    spelled = ["1.10", "1e2", "-0", "0.1000000000000000055511151231257827", "123456789012345678901234567890"]
    lines = "".join(f'{{"k": {number} }}\n' for number in [*spelled, '"1.10"', '"caf\\u00e9"', "false"])
    assert mainstem("produce", "spelled", "--key", "k", stdin=lines).code == 0
    keys = [row["key"] for row in events(mainstem, "spelled")]
    assert keys == [*spelled, "1.10", "caf\u00e9", "false"]


def test_a_line_that_is_nested_too_deeply_is_a_bad_line(mainstem: Mainstem) -> None:
    deep = ["[" * 100_000, '{"k":"a","x":' + "[" * 1_000 + "]" * 1_000 + "}", '{"k":' + "[" * 5_000 + "}"]
    done = mainstem("produce", "nested", "--key", "k", stdin="\n".join(['{"k":"a"}', *deep, '{"k":"b"}']))
    assert done.code == 4
    problems = done.err.splitlines()
    assert problems[0].startswith("standard input, line 2: ")
    assert problems[1] == "standard input, line 3: nested too deeply to be read"
    assert problems[2] == "standard input, line 4: nested too deeply to be read"
    assert [row["key"] for row in events(mainstem, "nested")] == ["a", "b"]


def test_a_time_that_cannot_be_written_is_a_bad_line_and_never_another_time(mainstem: Mainstem) -> None:
    lines = [{"at": when} for when in (0, "1970-01-01", "1969-12-31T23:59:59.999Z", -1, 0.001, "1970-01-02")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = mainstem("produce", "epoch", "--timestamp", "at", stdin=text)
    assert done.code == 4
    problems = done.err.splitlines()
    assert problems[0] == "standard input, line 3: '1969-12-31T23:59:59.999Z' is before 1970"
    assert problems[1] == "standard input, line 4: -1 is not a time"
    for number, line in ((1, problems[2]), (2, problems[3])):
        assert line.startswith(
            f"standard input, line {number}: an event of the time 0 (1970-01-01T00:00:00Z) "
        )
    assert [row["timestamp_ms"] for row in events(mainstem, "epoch")] == [1, 86_400_000]


def test_a_time_that_no_event_can_have_is_a_bad_line(mainstem: Mainstem) -> None:
    done = mainstem("produce", "late", "--timestamp", "at", stdin='{"at":1e300}\n{"at":1e400}\n')
    assert done.code == 4
    assert done.err.splitlines()[0] == "standard input, line 1: 1e+300 is not a time"


def test_a_line_whose_time_is_refused_takes_no_other_line_with_it(mainstem: Mainstem) -> None:
    times = [1_700_000_000 + number for number in range(40)]
    times[7] = times[30] = 99_999_999_999  # in the year 5138
    lines = "".join(f'{{"at":{time_s}}}\n' for time_s in times)
    done = mainstem("produce", "refused", "--timestamp", "at", stdin=lines)
    assert done.code == 4
    why = (
        "topic refused: its time is too far in the future or in the past for the topic"
        " (message.timestamp.after.max.ms, message.timestamp.before.max.ms)"
    )
    assert done.err.splitlines()[:2] == [f"standard input, line {number}: {why}" for number in (8, 31)]
    published = sorted(row["timestamp_ms"] // 1000 for row in events(mainstem, "refused"))
    assert published == [time_s for time_s in times if time_s < 99_999_999_999]
