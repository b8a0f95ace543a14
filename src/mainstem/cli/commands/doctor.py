"""`mainstem doctor`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import is_terminal, json_option, paint, plain, print_json
from mainstem.cli.exit_codes import Exit
from mainstem.cli.progress import bar, rate

if TYPE_CHECKING:
    from mainstem.coordinator.doctor import State
    from mainstem.log.offline.doctor import Examination
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
        return Exit.FOLDER
    try:
        damaged, mend = _examine(data, as_json=as_json)
        if repair:
            done = 0
            for finding, state in mend():
                done += 1
                show(finding, state, as_json=as_json)
            click.echo(f"{data}: repaired, {done:,} changes", err=True)
            damaged, _ = _examine(data, as_json=as_json)
    except LogFolderLocked as error:
        complain(f"data folder {data}: {error}")
        return Exit.LOCKED
    except LogFolderError as error:
        complain(f"data folder {data}: {error}")
        return Exit.FOLDER
    except NotADirectoryError:
        complain(f"data folder {data} is a file; give --data a folder")
        return Exit.FOLDER
    except OSError as error:
        complain(f"data folder {data} cannot be used: {error.strerror} ({error.filename})")
        return Exit.FOLDER
    return Exit.BAD_INPUT if damaged else Exit.DONE


def _examine(data: str, *, as_json: bool) -> tuple[int, Callable[[], Iterator[tuple[Finding, State]]]]:
    """Show what is found: how many places are damaged, and what repairs them."""
    from mainstem.coordinator.doctor import STATE, State
    from mainstem.log.offline.doctor import Examination
    from mainstem.log.offline.doctor_repair import Repair

    begun = time.monotonic()
    with Examination(data) as exam:
        with bar(exam.total_bytes, shown=not as_json) as exam.read_bytes:
            state = State(exam.disk)
            found = list(findings(exam, state))
        for finding in found:
            show(finding, state, as_json=as_json)
        damaged = sum(finding.verdict == "damage" for finding in found)
        _sum_up(exam, state, damaged, time.monotonic() - begun, as_json=as_json)
    rng = random.Random(os.urandom(32))
    repair = Repair(data, rng, lambda key, gap: key != STATE or gap.last < state.counts_from, state.needless)
    return damaged, lambda: ((one, state) for one in repair.run())


def findings(exam: Examination, state: State) -> Iterator[Finding]:
    """Of the state and of everything else."""
    from mainstem.log.offline.doctor_scan import Finding
    from mainstem.search.index import unavailable

    yield from state.findings
    why = unavailable()
    for name in state.indexed() if why is not None else ():
        what = f"topic {name} is set mainstem.search=indexed, but {why}"
        yield Finding("note", "search-index", what, "it is searched without an index")
    yield from exam.run(lambda key: state.status(key) == "live")


def show(finding: Finding, state: State, *, as_json: bool = False) -> None:
    """One line."""
    topic = None if finding.topic_id is None else state.name(finding.topic_id) or str(finding.topic_id)
    numbers = [None if each < 0 else each for each in (finding.partition, finding.first, finding.last)]
    row = (finding.verdict, topic, *numbers, finding.path or None, finding.what, finding.then)
    if as_json:
        print_json(dict(zip(COLUMNS, row, strict=True)))
    elif is_terminal():
        where = finding.path or "the folder"
        if topic is not None:
            where = f"{topic}/{finding.partition}"
            if finding.first >= 0:
                where += f" offsets {finding.first:,} to {finding.last:,}"
            where += f"  {finding.path}"
        click.echo(f"{paint(f'{finding.verdict:<8}', fg=COLOURS[finding.verdict])} {where}")
        click.echo(f"         {finding.what}: {finding.then}")
    else:
        click.echo("\t".join(plain(cell) for cell in row))


def _sum_up(exam: Examination, state: State, damaged: int, seconds: float, *, as_json: bool) -> None:
    size = exam.total_bytes()
    if as_json:
        summary = {
            "topics": state.topics(),
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
        f"{state.topics():,} topics, {exam.partitions:,} partitions, {exam.batches:,} batches,"
        f" {exam.events:,} events, {rate(size, seconds)}"
    )
    verdict = f"{damaged:,} places are damaged" if damaged else "whole"
    click.echo(f"{exam.disk.root}: {held}; {verdict}", err=True)
