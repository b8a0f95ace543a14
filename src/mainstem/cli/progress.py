"""A progress bar on standard error, with the rate, for commands that read or copy whole folders."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(total_bytes: Callable[[], int], *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar; yields a function to call with the number of bytes done since its last call. If standard
    error is not a terminal, nothing is shown and `total_bytes` is not called."""
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total_bytes())
        yield lambda count: progress.advance(task, count)


def format_rate(size_bytes: int, seconds: float) -> str:
    """A size, a duration and the rate: `1,234.5 MB in 2.3 s (537 MB/s)`."""
    megabytes = size_bytes / 1e6
    return f"{megabytes:,.1f} MB in {seconds:.1f} s ({megabytes / max(seconds, 0.001):,.0f} MB/s)"
