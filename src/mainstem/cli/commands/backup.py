"""`mainstem backup`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.progress import format_rate, progress_bar

if TYPE_CHECKING:
    from mainstem.log.offline.backup import Key


@click.command("backup")
@click.argument("folder", metavar="DIR")
@click.argument("dest", metavar="DEST")
def command(folder: str, dest: str) -> int:
    """Copy the data folder DIR to DEST, also while a server uses it.

    DEST holds everything that was acknowledged before the backup began: events, topics, groups and their
    positions. On the same file system, segments that cannot change any more are clones or hard links: quick
    and small, but on the same disk. DEST must be empty or not there; it can be copied to other media by any
    tool.
    """
    from mainstem.cli import complain
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.errors import LogFolderError
    from mainstem.log.offline.backup import Backup
    from mainstem.log.offline.backup_folder import FolderTarget
    from mainstem.log.offline.doctor import ReadOnlyDisk

    begun = time.monotonic()
    try:
        target = FolderTarget(folder, dest)
    except LogFolderError as error:
        complain(f"backup folder {dest}: {error}")
        return ExitCode.FOLDER

    def topics() -> Callable[[Key], bool]:
        state = OfflineState(ReadOnlyDisk(target.root))
        return lambda key: state.status(key) == "live"

    backup = Backup(ReadOnlyDisk(folder), target, topics)
    try:
        with progress_bar(backup.total_bytes) as advance:
            for done in backup.run():
                advance(done)
    except LogFolderError as error:
        complain(f"data folder {folder}: {error}")
        return ExitCode.FOLDER
    except OSError as error:
        told = f"{error.strerror} ({error.filename}); what is in {dest} is no backup"
        complain(f"backup of {folder} to {dest}: {told}")
        return ExitCode.FOLDER
    summary = backup.summary
    copied = format_rate(summary.copied_bytes, time.monotonic() - begun)
    text = f"{summary.partitions:,} partitions, {copied} copied"
    if summary.shared_bytes:
        text += f"; {summary.shared_bytes / 1e6:,.1f} MB are on the same disk as the original"
    click.echo(f"{dest}: {text}", err=True)
    return ExitCode.DONE
