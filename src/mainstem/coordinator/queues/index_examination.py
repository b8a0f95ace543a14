"""Examines the index files of namespaces, for `mainstem doctor` and `mainstem inspect`.

Owns: reading each group and each page with all of its checksums, up to the first that does not fit, where a
start would end the index. Refuses: to change anything, and to call damage here a loss: the index is derived,
and a start reads the log from where it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from mainstem.coordinator.queues.index_files import PageGroup, number_of, read_group
from mainstem.coordinator.queues.topology import Topology
from mainstem.log import paths
from mainstem.log.offline.doctor_scan import Finding
from mainstem.queues.index_page import DamagedIndexPage, decode_arrivals, decode_queue

REBUILT = "the next start reads the log from where the index is whole"


@dataclass(frozen=True, slots=True)
class ExaminedGroup:
    """A group of a file, or what is there in place of one."""

    position: int
    end_position: int
    namespace: int = 0
    pages: int = 0
    arrivals: int = 0
    """Events with their places."""
    entries: int = 0
    """Events of queues."""
    first: int | None = None
    last: int | None = None
    """The lowest and the highest arrival sequence in it."""
    problem: str = ""
    """What is damaged; the index ends there."""


class ReadableFile(Protocol):
    """What is read of a file."""

    def pread(self, length: int, position: int) -> bytes: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class ReadableDisk(Protocol):
    """What is read of a folder."""

    def list(self, folder: str) -> list[str]: ...
    def open(self, path: str) -> ReadableFile: ...


def examine_file(pread: Callable[[int, int], bytes], size: int) -> Iterator[ExaminedGroup]:
    """The groups of a file in order, up to one that is damaged. OSError."""
    position = 0
    while position < size:
        try:
            group = read_group(pread, size, position, verify=True)
            yield _examined(pread, position, group)
        except DamagedIndexPage as error:
            yield ExaminedGroup(position, size, problem=str(error))
            return
        position = group.end_position


def _examined(pread: Callable[[int, int], bytes], position: int, group: PageGroup) -> ExaminedGroup:
    arrivals = entries = 0
    for row in group.rows:
        at_byte, length = row.place
        data = pread(length, at_byte)
        if row.queue:
            sequences = decode_queue(data, group.namespace, row.queue)
            entries += row.entries
        else:
            sequences = decode_arrivals(data, group.namespace).sequences
            arrivals += row.entries
        if (sequences[0], sequences[-1], len(sequences)) != (row.first, row.last, row.entries):
            raise DamagedIndexPage(f"the page at byte {at_byte} has other events than the group's head says")
    return ExaminedGroup(
        position,
        group.end_position,
        group.namespace,
        len(group.rows),
        arrivals,
        entries,
        min((row.first for row in group.rows), default=None),
        max((row.last for row in group.rows), default=None),
    )


def routed_findings(disk: ReadableDisk, topology: Topology) -> Iterator[Finding]:
    """What is not as a clean stop leaves it in the folder of indexes."""
    for name in disk.list(paths.ROUTED):
        folder = f"{paths.ROUTED}/{name}"
        try:
            namespace = topology.by_sequence(UUID(hex=name))
        except ValueError:
            namespace = None
        if namespace is None:
            yield Finding("note", folder, "no namespace has this id", "the next start removes it")
            continue
        ends_at = ""
        for file_name in disk.list(folder):
            path = f"{folder}/{file_name}"
            if number_of(file_name) is None:
                yield Finding("note", path, "is no file of mainstem", "it is left alone")
            elif ends_at:
                problem = f"follows {ends_at}, where the index ends"
                yield Finding("derived", path, problem, "the next start removes it")
            elif problem := _problem(disk, path, namespace.id):
                yield Finding("derived", path, problem, REBUILT)
                ends_at = path


def _problem(disk: ReadableDisk, path: str, namespace: int) -> str:
    try:
        file = disk.open(path)
        try:
            for group in examine_file(file.pread, file.size()):
                if group.problem:
                    return f"byte {group.position}: {group.problem}"
                if group.namespace != namespace:
                    return f"byte {group.position}: a group of namespace {group.namespace}"
        finally:
            file.close()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""
