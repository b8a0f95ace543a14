"""`mainstem doctor`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import is_terminal, json_option, print_json, style, tab_cell
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.progress import format_rate, progress_bar

if TYPE_CHECKING:
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.offline.doctor import FolderExamination
    from mainstem.log.offline.doctor_scan import Finding

COLUMNS = ("verdict", "topic", "partition", "first", "last", "path", "what", "then")
COLOURS = {"damage": "red", "derived": "yellow", "note": None}


@click.command("doctor")
@click.option("--data", metavar="DIR", default="mainstem-data", show_default=True, help="The data folder.")
@click.option("--repair", is_flag=True, help="Then repair what was found.")
@json_option
def command(data: str, repair: bool, as_json: bool) -> int:
    """Read everything in the data folder of a stopped server and say what is damaged. Changes nothing
    without --repair.

    Checks each batch and index, checkpoints, journal, state log and snapshots. Columns: verdict, topic,
    partition, first and last offset concerned, path, what is wrong, what follows from it. Verdicts:
    `damage` (something that was acknowledged cannot be read), `derived` (a file that the server builds
    again by itself), `note` (nothing is wrong). Exit code 4 if there is damage.

    With --repair, what was done follows in the same columns, and what is still wrong after it: lost offsets
    are given up and passed by readers, indexes and checkpoint are made again. Every byte that goes is kept
    in a file *.quarantine.
    """
    from mainstem.cli import complain
    from mainstem.log.errors import LogFolderError, LogFolderLocked

    if not os.path.exists(data):
        complain(f"data folder {data}: there is no such folder")
        return ExitCode.FOLDER
    try:
        damaged, mend = _examine(data, as_json=as_json)
        if repair:
            done = 0
            for finding, state in mend():
                done += 1
                show_finding(finding, state, as_json=as_json)
            click.echo(f"{data}: repaired, {done:,} changes", err=True)
            damaged, _ = _examine(data, as_json=as_json)
    except LogFolderLocked as error:
        complain(f"data folder {data}: {error}")
        return ExitCode.LOCKED
    except LogFolderError as error:
        complain(f"data folder {data}: {error}")
        return ExitCode.FOLDER
    except NotADirectoryError:
        complain(f"data folder {data} is a file; give --data a folder")
        return ExitCode.FOLDER
    except OSError as error:
        complain(f"data folder {data} cannot be used: {error.strerror} ({error.filename})")
        return ExitCode.FOLDER
    return ExitCode.BAD_INPUT if damaged else ExitCode.DONE


def _examine(data: str, *, as_json: bool) -> tuple[int, Callable[[], Iterator[tuple[Finding, OfflineState]]]]:
    """Show what is found: how many places are damaged, and what repairs them."""
    from mainstem.coordinator.doctor import STATE, OfflineState
    from mainstem.log.offline.doctor import FolderExamination
    from mainstem.log.offline.doctor_repair import FolderRepair

    begun = time.monotonic()
    with FolderExamination(data) as exam:
        with progress_bar(exam.total_bytes, shown=not as_json) as exam.read_bytes:
            state = OfflineState(exam.disk)
            found = list(findings(exam, state))
        for finding in found:
            show_finding(finding, state, as_json=as_json)
        damaged = sum(finding.severity == "damage" for finding in found)
        _sum_up(exam, state, damaged, time.monotonic() - begun, as_json=as_json)
    rng = random.Random(os.urandom(32))
    repair = FolderRepair(
        data,
        rng,
        lambda key, gap: key != STATE or gap.last_offset < state.first_needed_offset,
        state.redundant_snapshots,
    )
    return damaged, lambda: ((one, state) for one in repair.run())


def findings(exam: FolderExamination, state: OfflineState) -> Iterator[Finding]:
    """Of the state and of everything else."""
    from mainstem.log.offline.doctor_scan import Finding
    from mainstem.search.index import unavailable_reason

    yield from state.findings
    why = unavailable_reason()
    for name in state.indexed_topics() if why is not None else ():
        what = f"topic {name} is set mainstem.search=indexed, but {why}"
        yield Finding("note", "search-index", what, "it is searched without an index")
    yield from exam.run(lambda key: state.status(key) == "live")


def show_finding(finding: Finding, state: OfflineState, *, as_json: bool = False) -> None:
    """One line."""
    topic = None if finding.topic_id is None else state.topic_name(finding.topic_id) or str(finding.topic_id)
    numbers = [
        None if each < 0 else each for each in (finding.partition, finding.first_offset, finding.last_offset)
    ]
    row = (finding.severity, topic, *numbers, finding.path or None, finding.problem, finding.consequence)
    if as_json:
        print_json(dict(zip(COLUMNS, row, strict=True)))
    elif is_terminal():
        where = finding.path or "the folder"
        if topic is not None:
            where = f"{topic}/{finding.partition}"
            if finding.first_offset >= 0:
                where += f" offsets {finding.first_offset:,} to {finding.last_offset:,}"
            where += f"  {finding.path}"
        click.echo(f"{style(f'{finding.severity:<8}', fg=COLOURS[finding.severity])} {where}")
        click.echo(f"         {finding.problem}: {finding.consequence}")
    else:
        click.echo("\t".join(tab_cell(cell) for cell in row))


def _sum_up(
    exam: FolderExamination, state: OfflineState, damaged: int, seconds: float, *, as_json: bool
) -> None:
    size = exam.total_bytes()
    if as_json:
        summary = {
            "topics": state.topic_count(),
            "partitions": exam.partitions,
            "batches": exam.batches,
            "events": exam.events,
            "bytes": size,
            "damaged": damaged,
            "stopped_cleanly": exam.clean,
        }
        print_json(summary)
        return
    held = (
        f"{state.topic_count():,} topics, {exam.partitions:,} partitions, {exam.batches:,} batches,"
        f" {exam.events:,} events, {format_rate(size, seconds)}"
    )
    verdict = f"{damaged:,} places are damaged" if damaged else "whole"
    click.echo(f"{exam.disk.root}: {held}; {verdict}", err=True)
