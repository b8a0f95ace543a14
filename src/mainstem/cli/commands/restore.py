"""The command `mainstem restore`: copies a backup to a data folder."""

from __future__ import annotations

import time

import click

from mainstem.cli.common import print_error
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.findings import find_all, show_finding
from mainstem.cli.progress import format_rate, progress_bar


@click.command("restore", short_help="Copy BACKUP to DIR, to be used by a server.")
@click.argument("backup", metavar="BACKUP")
@click.argument("folder", metavar="DIR")
def command(backup: str, folder: str) -> int:
    """Copy BACKUP to DIR, to be used by a server, and check the whole copy as `doctor` does.

    DIR must be empty or not exist. The first start on it raises the leader epochs, so that clients that have
    read later events notice. If the copy is damaged, each finding is one line and the exit code is 4: a
    server can use the rest of it, and `mainstem doctor --repair` repairs what it can.
    """
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.errors import LogFolderError, LogFolderLocked
    from mainstem.log.offline.backup_folder import FolderRestore
    from mainstem.log.offline.doctor import FolderExamination

    started = time.monotonic()
    try:
        with FolderExamination(backup) as source:
            restore = FolderRestore(source.disk, folder)
            with progress_bar(restore.total_bytes) as advance:
                for copied_bytes in restore.run():
                    advance(copied_bytes)
            size_bytes = restore.total_bytes()
        with FolderExamination(folder) as examination:
            state = OfflineState(examination.disk)
            with progress_bar(examination.total_bytes) as examination.read_bytes:
                damage = [finding for finding in find_all(examination, state) if finding.severity == "damage"]
    except LogFolderLocked as error:
        print_error(f"backup {backup}: {error}")
        return ExitCode.LOCKED
    except LogFolderError as error:
        print_error(f"restoring {backup} to {folder}: {error}")
        return ExitCode.FOLDER
    except OSError as error:
        print_error(f"restoring {backup} to {folder}: {error.strerror} ({error.filename})")
        return ExitCode.FOLDER
    for finding in damage:
        show_finding(finding, state)
    counts = (state.topic_count(), examination.partitions, examination.events)
    contents = "{:,} topics, {:,} partitions, {:,} events".format(*counts)
    verdict = f"{len(damage):,} places are damaged" if damage else "no damage"
    rate = format_rate(size_bytes, time.monotonic() - started)
    click.echo(f"{folder}: {contents}, {rate}; {verdict}", err=True)
    return ExitCode.BAD_INPUT if damage else ExitCode.DONE
