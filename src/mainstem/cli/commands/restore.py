"""`mainstem restore`."""

from __future__ import annotations

import time

import click

from mainstem.cli.commands.doctor import findings, show
from mainstem.cli.exit_codes import Exit
from mainstem.cli.progress import bar, rate


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
    from mainstem.coordinator.doctor import State
    from mainstem.log.errors import LogFolderError, LogFolderLocked
    from mainstem.log.offline.backup_folder import Restore
    from mainstem.log.offline.doctor import Examination

    begun = time.monotonic()
    try:
        with Examination(backup) as source:
            restore = Restore(source.disk, folder)
            with bar(restore.total_bytes) as advance:
                for done in restore.run():
                    advance(done)
            size = restore.total_bytes()
        with Examination(folder) as exam:
            state = State(exam.disk)
            with bar(exam.total_bytes) as exam.read_bytes:
                found = [one for one in findings(exam, state) if one.verdict == "damage"]
    except LogFolderLocked as error:
        complain(f"backup {backup}: {error}")
        return Exit.LOCKED
    except LogFolderError as error:
        complain(f"restoring {backup} to {folder}: {error}")
        return Exit.FOLDER
    except OSError as error:
        complain(f"restoring {backup} to {folder}: {error.strerror} ({error.filename})")
        return Exit.FOLDER
    for finding in found:
        show(finding, state)
    held = f"{state.topics():,} topics, {exam.partitions:,} partitions, {exam.events:,} events"
    verdict = f"{len(found):,} places are damaged" if found else "whole"
    click.echo(f"{folder}: {held}, {rate(size, time.monotonic() - begun)}; {verdict}", err=True)
    return Exit.BAD_INPUT if found else Exit.DONE
