"""`mainstem restore`."""

from __future__ import annotations

import time

import click

from mainstem.cli.commands.doctor import findings, show_finding
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.progress import format_rate, progress_bar


@click.command("restore", short_help="Copy BACKUP to DIR, where a server shall use it.")
@click.argument("backup", metavar="BACKUP")
@click.argument("folder", metavar="DIR")
def command(backup: str, folder: str) -> int:
    """Copy BACKUP to DIR, where a server shall use it, and read all of the copy as `doctor` does.

    DIR must be empty or not there. The first start on it raises the leader epochs, so that clients that
    remember later events notice. Exit code 4, and one line for each, if something in it is damaged: what is
    around it is served, and `mainstem doctor --repair` helps where it can.
    """
    from mainstem.cli import complain
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.errors import LogFolderError, LogFolderLocked
    from mainstem.log.offline.backup_folder import FolderRestore
    from mainstem.log.offline.doctor import FolderExamination

    begun = time.monotonic()
    try:
        with FolderExamination(backup) as source:
            restore = FolderRestore(source.disk, folder)
            with progress_bar(restore.total_bytes) as advance:
                for done in restore.run():
                    advance(done)
            size = restore.total_bytes()
        with FolderExamination(folder) as exam:
            state = OfflineState(exam.disk)
            with progress_bar(exam.total_bytes) as exam.read_bytes:
                found = [one for one in findings(exam, state) if one.severity == "damage"]
    except LogFolderLocked as error:
        complain(f"backup {backup}: {error}")
        return ExitCode.LOCKED
    except LogFolderError as error:
        complain(f"restoring {backup} to {folder}: {error}")
        return ExitCode.FOLDER
    except OSError as error:
        complain(f"restoring {backup} to {folder}: {error.strerror} ({error.filename})")
        return ExitCode.FOLDER
    for finding in found:
        show_finding(finding, state)
    held = f"{state.topic_count():,} topics, {exam.partitions:,} partitions, {exam.events:,} events"
    verdict = f"{len(found):,} places are damaged" if found else "whole"
    click.echo(f"{folder}: {held}, {format_rate(size, time.monotonic() - begun)}; {verdict}", err=True)
    return ExitCode.BAD_INPUT if found else ExitCode.DONE
