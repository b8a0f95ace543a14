"""The command `mainstem backup`: copies a data folder, also while a server is using it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import print_error
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.progress import format_rate, progress_bar

if TYPE_CHECKING:
    from mainstem.log.offline.backup import Key


@click.command("backup")
@click.argument("folder", metavar="DIR")
@click.argument("dest", metavar="DEST")
def command(folder: str, dest: str) -> int:
    """Copy the data folder DIR to DEST; a server may be using it.

    DEST will contain everything that was acknowledged before the backup began: events, topics, groups and
    their positions. On the same file system, segments that can no longer change are cloned or hard-linked:
    that is fast and takes little space, but they stay on the same disk. DEST must be empty or not exist.
    Any tool can copy it to other media.
    """
    from mainstem.coordinator.doctor import OfflineState
    from mainstem.log.errors import LogFolderError
    from mainstem.log.offline.backup import Backup
    from mainstem.log.offline.backup_folder import FolderTarget
    from mainstem.log.offline.doctor import ReadOnlyDisk

    started = time.monotonic()
    try:
        target = FolderTarget(folder, dest)
    except LogFolderError as error:
        print_error(f"backup folder {dest}: {error}")
        return ExitCode.FOLDER

    def is_live() -> Callable[[Key], bool]:
        state = OfflineState(ReadOnlyDisk(target.root))
        return lambda key: state.status(key) == "live"

    backup = Backup(ReadOnlyDisk(folder), target, is_live)
    try:
        with progress_bar(backup.total_bytes) as advance:
            for copied_bytes in backup.run():
                advance(copied_bytes)
    except LogFolderError as error:
        print_error(f"data folder {folder}: {error}")
        return ExitCode.FOLDER
    except OSError as error:
        reason = f"{error.strerror} ({error.filename}); {dest} is not a usable backup"
        print_error(f"backup of {folder} to {dest}: {reason}")
        return ExitCode.FOLDER
    summary = backup.summary
    copied = format_rate(summary.copied_bytes, time.monotonic() - started)
    text = f"{summary.partitions:,} partitions, {copied} copied"
    if summary.shared_bytes:
        text += f"; {summary.shared_bytes / 1e6:,.1f} MB are on the same disk as the original"
    click.echo(f"{dest}: {text}", err=True)
    return ExitCode.DONE
