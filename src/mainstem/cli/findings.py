"""Collects and prints the findings of `doctor` and `restore`: what is damaged in a data folder or worth a
note."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import is_terminal, print_json, style, tab_cell
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.offline.doctor import FolderExamination
    from mainstem.log.offline.doctor_scan import Finding

COLUMNS = ("verdict", "topic", "partition", "first", "last", "path", "what", "then")
COLOURS = {"damage": "red", "derived": "yellow", "note": None}


def find_all(examination: FolderExamination, state: OfflineState) -> Iterator[Finding]:
    """Examine all files of the data folder, and yield a finding for each damage or note."""
    from mainstem.log.offline.doctor_scan import Finding
    from mainstem.search.index import unavailable_reason

    yield from state.findings
    reason = unavailable_reason()
    for name in state.indexed_topics() if reason is not None else ():
        problem = f"topic {name} is set mainstem.search=indexed, but {reason}"
        yield Finding("note", "search-index", problem, "it is searched without an index")
    yield from examination.run(lambda key: state.status(key) == "live")


def show_finding(finding: Finding, state: OfflineState, *, as_json: bool = False) -> None:
    """Print one finding of an examined data folder: what is damaged, where, and what follows from it."""
    topic = None if finding.topic_id is None else state.topic_name(finding.topic_id) or str(finding.topic_id)
    numbers = [
        None if number < 0 else number
        for number in (finding.partition, finding.first_offset, finding.last_offset)
    ]
    row = (finding.severity, topic, *numbers, finding.path or None, finding.problem, finding.consequence)
    if as_json:
        print_json(dict(zip(COLUMNS, row, strict=True)))
    elif is_terminal():
        place = finding.path or "the folder"
        if topic is not None:
            place = f"{topic}/{finding.partition}"
            if finding.first_offset >= 0:
                place += f" offsets {finding.first_offset:,} to {finding.last_offset:,}"
            place += f"  {finding.path}"
        severity = style(f"{finding.severity:<8}", fg=COLOURS[finding.severity])
        click.echo(f"{severity} {escape_controls(place)}")
        click.echo(escape_controls(f"         {finding.problem}: {finding.consequence}"))
    else:
        click.echo("\t".join(tab_cell(cell) for cell in row))
