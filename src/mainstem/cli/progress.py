"""A bar with the rate on standard error, for commands that read or copy whole folders. Used by the files
beside it only."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(total_bytes: Callable[[], int], *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """What it gives is called with the bytes that were done since the last call. Nothing is shown, and
    `total_bytes` not asked, if no person looks at it."""
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shows:
        task = shows.add_task("", total=total_bytes())
        yield lambda count: shows.advance(task, count)


def format_rate(size: int, seconds: float) -> str:
    """`1,234.5 MB in 2.3 s (537 MB/s)`."""
    return f"{size / 1e6:,.1f} MB in {seconds:.1f} s ({size / 1e6 / max(seconds, 0.001):,.0f} MB/s)"
