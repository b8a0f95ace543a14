"""`mainstem groups`: its output, its refusals, its exit codes."""

from __future__ import annotations

import json

from tests.cli.conftest import Mainstem


def test_lag_is_reported_in_events_and_in_time(mainstem: Mainstem) -> None:
    mainstem("topics", "create", "lagging", "--partitions", "2")
    mainstem("produce", "lagging", "--partition", "0", stdin="a\nb\nc\nd\n")
    mainstem("tail", "lagging", "--group", "g-lag", "--from", "earliest", "-n", "1")
    assert ["g-lag", "Empty", "consumer"] in mainstem("groups", "list").rows
    rows = mainstem("groups", "describe", "g-lag").rows
    assert rows[0][:3] == ["group", "g-lag", "Empty"]
    first, second = rows[1:3]
    assert first[:7] == ["position", "g-lag", "lagging", "0", "1", "4", "3"]
    assert 0 <= float(first[7]) < 300
    assert second == ["position", "g-lag", "lagging", "1", "", "0", "", "", ""]
    assert ["group", "g-lag", "Empty"] in [row[:3] for row in mainstem("groups", "describe").rows]
    described = json.loads(mainstem("groups", "describe", "g-lag", "--json").out)
    assert described["positions"][0]["lag"] == 3


def test_a_reset_is_a_dry_run_until_it_is_executed(mainstem: Mainstem) -> None:
    lines = "".join(f'{{"at":{1_370_000_000 + number}}}\n' for number in range(10))
    mainstem("produce", "again", "--timestamp", "at", stdin=lines)
    mainstem("tail", "again", "--group", "g-reset", "--from", "earliest", "-n", "10")
    done = mainstem("groups", "reset", "g-reset", "--to", "2013-05-31T11:33:24Z")
    assert done.rows == [["again", "0", "10", "4"]]
    assert done.err == "dry run: nothing was changed; add --execute to make the changes\n"
    done = mainstem("groups", "reset", "g-reset", "--to", "earliest", "--execute", "--json")
    assert json.loads(done.out) == {"topic": "again", "partition": 0, "old": 10, "new": 0, "done": True}
    assert done.err == ""
    assert mainstem("groups", "reset", "g-reset", "--to", "7", "--execute").rows == [["again", "0", "0", "7"]]
    assert mainstem("groups", "reset", "g-reset", "--to", "latest").rows == [["again", "0", "7", "10"]]


def test_a_new_group_can_be_given_positions(mainstem: Mainstem) -> None:
    mainstem("produce", "ahead", stdin="a\nb\n")
    done = mainstem("groups", "reset", "g-new", "--to", "latest")
    assert done.code == 1
    done = mainstem("groups", "reset", "g-new", "--topic", "ahead", "--to", "latest", "--execute")
    assert done.rows == [["ahead", "0", "", "2"]]
    assert mainstem("groups", "describe", "g-new").rows[1][4] == "2"


def test_groups_are_deleted(mainstem: Mainstem) -> None:
    mainstem("produce", "gone", stdin="a\n")
    mainstem("tail", "gone", "--group", "g-gone", "--from", "earliest", "-n", "1")
    assert mainstem("groups", "delete", "g-gone").code == 2
    assert mainstem("groups", "delete", "g-gone", "--yes").out == "deleted g-gone\n"
    done = mainstem("groups", "describe", "g-gone")
    assert (done.code, done.err) == (1, "mainstem: group g-gone: there is no such group\n")
