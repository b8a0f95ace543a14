"""The examination of index files: each kind of damage, what doctor and inspect say of it, and that it costs
nothing but the rebuilding."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from click.testing import CliRunner

from mainstem.cli.commands import inspect as inspect_command
from mainstem.coordinator.queues.index_examination import examine_file, routed_findings
from mainstem.coordinator.queues.topology import Topology
from mainstem.coordinator.queues.topology_records import NamespaceCreated, QueueRouted
from tests.coordinator.routed_rig import RoutedRig, sequence_of, values

GROUP_HEAD = 56


def rig_with_files() -> tuple[RoutedRig, str]:
    """A node whose index is in a file, in two groups."""
    rig = RoutedRig("a", "b")
    for number in range(30):
        rig.publish(b"%d" % number, *(("a", "b") if number % 3 else ("a",)), partition=number % 2)
        if number == 20:
            rig.write_index()
    rig.write_index()
    return rig, f"{sequence_of(rig.node).files.folder}/0000000001.index"


def examined(data: bytes) -> list[tuple[int, int, int, str]]:
    def pread(length: int, position: int) -> bytes:
        return data[position : position + length]

    groups = examine_file(pread, len(data))
    return [(group.pages, group.arrivals, group.entries, group.problem) for group in groups]


def flipped(position: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def other_row(data: bytes) -> bytes:
    """The head says that the first page has another last sequence, with the right checksums."""
    partitions, pages = struct.unpack_from(">II", data, 16)
    row = GROUP_HEAD + 12 * partitions
    head_end = row + 30 * pages
    changed = bytearray(data)
    struct.pack_into(">Q", changed, row + 16, struct.unpack_from(">Q", data, row + 16)[0] + 5)
    struct.pack_into(">I", changed, head_end, crc32(changed[:head_end]))
    return bytes(changed)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "magic": (flipped(0), "no group of version 1"),
    "version": (flipped(7), "no group of version 1"),
    "namespace": (flipped(15), "checksum of a group's head"),
    "rows": (flipped(GROUP_HEAD + 3), "checksum of a group's head"),
    "cut in a head": (lambda data: data[:30], "the head of a group is cut off"),
    "cut in its pages": (lambda data: data[:200], "the file ends before"),
    "a page": (flipped(240), "checksum of a group's pages"),
    "another page than the head says": (other_row, "has other events"),
    "zeros": (lambda data: bytes(len(data)), "no group of version 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_the_index_is_that_of_the_log_again(kind: str, tmp_path: Path) -> None:
    damage, problem = DAMAGE[kind]
    rig, path = rig_with_files()
    expected = {queue: values(rig.node, queue) for queue in ("a", "b")}
    whole = rig.disk.read_all(path)
    assert [group[3] for group in examined(whole)] == ["", ""]
    assert [group[:3] for group in examined(whole)] == [(3, 21, 35), (3, 9, 15)]
    assert list(routed_findings(rig.disk, rig.node.subscriptions.topology)) == []
    damaged = damage(whole)
    assert problem in examined(damaged)[-1][3]
    rig.disk.write_all(path, damaged)
    (finding,) = routed_findings(rig.disk, rig.node.subscriptions.topology)
    assert (finding.severity, finding.path) == ("derived", path)
    assert problem in finding.problem
    file = tmp_path / "1.index"
    file.write_bytes(damaged)
    result = CliRunner().invoke(inspect_command.command, [str(file), "--json"], standalone_mode=False)
    assert result.return_value == 4
    assert problem in json.loads(result.stdout.splitlines()[-1])["state"]
    rig.kill()
    assert {queue: values(rig.node, queue) for queue in ("a", "b")} == expected


def test_inspect_shows_the_groups_of_an_index(tmp_path: Path) -> None:
    rig, path = rig_with_files()
    file = tmp_path / "0000000001.index"
    file.write_bytes(rig.disk.read_all(path))
    result = CliRunner().invoke(inspect_command.command, [str(tmp_path)], standalone_mode=False)
    assert result.return_value == 0
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[3:] for row in rows] == [
        ["3", "21", "35", "0", "20", "ok"],
        ["3", "9", "15", "21", "29", "ok"],
    ]
    assert "2 groups, 6 pages, 30 events; no damage" in result.output


def test_folders_and_files_that_belong_to_nothing_are_noted() -> None:
    rig, path = rig_with_files()
    folder = path.rpartition("/")[0]
    rig.disk.make_folder("routed/" + "0" * 32)
    rig.disk.make_folder("routed/strange")
    rig.disk.write_all(f"{folder}/notes.txt", b"x")
    findings = list(routed_findings(rig.disk, rig.node.subscriptions.topology))
    assert [(finding.severity, finding.problem) for finding in findings] == [
        ("note", "no namespace has this id"),
        ("note", "is no file of mainstem"),
        ("note", "no namespace has this id"),
    ]
    whole = rig.disk.read_all(path)
    rig.disk.write_all(f"{folder}/0000000002.index", whole)
    rig.disk.write_all(path, whole[:50])
    problems = [finding.problem for finding in routed_findings(rig.disk, rig.node.subscriptions.topology)]
    assert f"follows {path}, where the index ends" in problems


def test_records_about_namespaces_that_contradict_others_are_damage() -> None:
    topology = Topology()
    created = NamespaceCreated(1, "shop", sequence_of(rig_with_files()[0].node).namespace.sequence_id, 0)
    topology.apply(created)
    with pytest.raises(ValueError, match="already"):
        topology.apply(created)
    with pytest.raises(KeyError):
        topology.apply(QueueRouted(7, 3))
