"""The command `mainstem doctor`: checks a data folder for damage, and repairs it.

Owns: its options, output and exit codes. Refuses: a folder that a server is using, and changes without
`--repair`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import json_option, print_error, print_json
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.findings import find_all, show_finding
from mainstem.cli.progress import format_rate, progress_bar

if TYPE_CHECKING:
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.offline.doctor import FolderExamination
    from mainstem.log.offline.doctor_scan import Finding


@click.command("doctor", short_help="Report damage in a data folder; with --repair, repair it.")
@click.option("--data", metavar="DIR", default="mainstem-data", show_default=True, help="The data folder.")
@click.option(
    "--repair",
    is_flag=True,
    help="Repair the damage that was found; removed bytes are kept in *.quarantine files.",
)
@json_option
def command(data: str, repair: bool, as_json: bool) -> int:
    """Check all data in the data folder of a stopped server and report what is damaged. Changes nothing
    without --repair.

    Checks every batch and index, the checkpoints, the journal, the state logs and the snapshots. Columns:
    verdict, topic, partition, first and last offset affected, path, what is wrong, what follows from it.
    Verdicts: `damage` (acknowledged data cannot be read), `derived` (a file that the server rebuilds by
    itself), `note` (nothing is wrong). The exit code is 4 if there is damage.

    With --repair, the changes are reported in the same columns, and then what is still wrong. Offsets that
    are lost are given up, and readers skip them; indexes and checkpoint are rebuilt. All bytes that are
    removed are kept in *.quarantine files.
    """
    from mainstem.log.errors import LogFolderError, LogFolderLocked

    if not os.path.exists(data):
        print_error(f"data folder {data}: there is no such folder")
        return ExitCode.FOLDER
    try:
        damage_count, run_repair = _examine(data, as_json=as_json)
        if repair:
            changes = 0
            for finding, state in run_repair():
                changes += 1
                show_finding(finding, state, as_json=as_json)
            click.echo(f"{data}: repaired, {changes:,} changes", err=True)
            damage_count, _ = _examine(data, as_json=as_json)
    except LogFolderLocked as error:
        print_error(f"data folder {data}: {error}")
        return ExitCode.LOCKED
    except LogFolderError as error:
        print_error(f"data folder {data}: {error}")
        return ExitCode.FOLDER
    except NotADirectoryError:
        print_error(f"data folder {data} is a file; give --data a folder")
        return ExitCode.FOLDER
    except OSError as error:
        print_error(f"data folder {data} cannot be used: {error.strerror} ({error.filename})")
        return ExitCode.FOLDER
    return ExitCode.BAD_INPUT if damage_count else ExitCode.DONE


def _examine(data: str, *, as_json: bool) -> tuple[int, Callable[[], Iterator[tuple[Finding, OfflineState]]]]:
    """Print all findings. Returns how many places are damaged, and the function that repairs them."""
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.offline.doctor import FolderExamination
    from mainstem.log.offline.doctor_repair import FolderRepair

    started = time.monotonic()
    with FolderExamination(data) as examination:
        with progress_bar(examination.total_bytes, shown=not as_json) as examination.read_bytes:
            state = OfflineState(examination.disk)
            findings = list(find_all(examination, state))
        for finding in findings:
            show_finding(finding, state, as_json=as_json)
        damage_count = sum(finding.severity == "damage" for finding in findings)
        _sum_up(examination, state, damage_count, time.monotonic() - started, as_json=as_json)
    rng = random.Random(os.urandom(32))
    repair = FolderRepair(
        data,
        rng,
        lambda key, gap: not state.needs(key, gap.last_offset),
        state.redundant_snapshots,
    )
    return damage_count, lambda: ((finding, state) for finding in repair.run())


def _sum_up(
    examination: FolderExamination, state: OfflineState, damage_count: int, seconds: float, *, as_json: bool
) -> None:
    size_bytes = examination.total_bytes()
    if as_json:
        summary = {
            "topics": state.topic_count(),
            "partitions": examination.partitions,
            "batches": examination.batches,
            "events": examination.events,
            "bytes": size_bytes,
            "damaged": damage_count,
            "stopped_cleanly": examination.clean,
        }
        print_json(summary)
        return
    contents = (
        f"{state.topic_count():,} topics, {examination.partitions:,} partitions,"
        f" {examination.batches:,} batches, {examination.events:,} events"
    )
    verdict = f"{damage_count:,} places are damaged" if damage_count else "no damage"
    rate = format_rate(size_bytes, seconds)
    click.echo(f"{examination.disk.root}: {contents}, {rate}; {verdict}", err=True)
