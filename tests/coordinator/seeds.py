"""Runs of seeds: in a test, and more of them on the command line of the module that has the run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol
from unittest import mock

from mainstem.log.config import LogConfig

Durability = Literal["disk", "os"]
SMALL: dict[str, Any] = {
    "journal_file_bytes": 64 << 10,
    "first_journal_file_bytes": 48 << 10,
    "checkpoint_interval_s": 0.2,
}


def small_log(**options: Any) -> LogConfig:
    """The node's log settings, with small journal files."""
    return LogConfig(**SMALL, **options)


@contextmanager
def small() -> Iterator[None]:
    """Small journal files, and a snapshot after a few records."""
    with (
        mock.patch("mainstem.node.LogConfig", small_log),
        mock.patch("mainstem.coordinator.runtime.snapshots.TAIL_RECORDS", 12),
        mock.patch("mainstem.coordinator.runtime.snapshots.SLICE_BYTES", 100),
    ):
        yield


class SeededRun(Protocol):
    """A run that a seed determines."""

    @property
    def answers(self) -> int:
        """How many answers it had; a test that had none has tested nothing."""

    def run(self) -> None:
        """Execute it. Fails if an invariant does not hold."""


def run_seeds(
    make: Callable[[int, Durability], SeededRun], seeds: Iterable[int], durability: Durability | None = None
) -> int:
    """Execute the runs of these seeds; how many answers they had. Without a durability every third one has
    `os`. A failure names the seed."""
    answers = 0
    logging.disable(logging.CRITICAL)
    try:
        with small():
            for seed in seeds:
                its_durability = durability or ("os" if seed % 3 == 0 else "disk")
                try:
                    run = make(seed, its_durability)
                    run.run()
                except Exception as error:
                    raise AssertionError(f"seed {seed}, durability {its_durability}: {error}") from error
                answers += run.answers
    finally:
        logging.disable(logging.NOTSET)
    return answers


def main(make: Callable[[int, Durability], SeededRun]) -> None:
    """Execute as many runs as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    answers = run_seeds(make, range(options.first, options.first + options.seeds))
    print(f"{options.seeds} runs, {answers} answers, no failure")
