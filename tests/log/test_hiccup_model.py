"""Random runs of the log on a disk with hiccups: syncs of segments fail for a while, the sync process dies,
topics come and go, records are deleted. Nothing acknowledged is lost, and when the disk works again all
partitions accept events without a restart (FORMAT.md, R10).

`python -m tests.log.test_hiccup_model --seeds 3500 [--first 0]` runs more of them, and prints their counts.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from uuid import UUID

import pytest

from mainstem.log import paths
from mainstem.log.errors import LogError
from tests.log.batches import batch
from tests.log.logs import Status
from tests.log.test_log_model import RandomLogRun

CHURN = 1 << 100
"""Topics from this id on come and go."""


class HiccupLogRun(RandomLogRun):
    """A run in which the disk fails for moments, often, and the journal is healthy unless the sync process
    dies."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, "disk", "hiccups")
        self.topics: dict[UUID, bool] = {}
        """Topics that come and go: whether its deletion was asked for."""
        self.lives = 0
        self.hiccups = 0
        self.deaths = 0
        self.is_stopped = False

    def start(self) -> None:
        self.lives += 1
        self.fenced = True  # for the notes of a start: a file that was freed may be half overwritten
        super().start()
        self.disk.sync_fails, self.disk.sync_fails_in = 0.0, "partitions/"

    def status(self, topic_id: UUID) -> Status:
        return "deleted" if self.topics.get(topic_id) else "live"

    def step(self) -> None:
        self.stops += self.log.read_only is not None and not self.is_stopped
        self.is_stopped = self.log.read_only is not None
        choice = self.rng.random()
        if choice < 0.05:
            self.hiccup()
        elif choice < 0.08:
            self.deaths += 1
            self.disk.kill_sync_process()
        elif choice < 0.16:
            self.churn()
        else:
            super().step()

    def hiccup(self) -> None:
        """The syncs of some segments fail for a while."""
        disk = self.disk
        self.hiccups += 1
        disk.sync_fails = self.rng.choice((0.3, 1.0))
        partition = self.rng.choice((None, *range(len(self.models))))
        folder = paths.PARTITIONS if partition is None else self.partition(partition).folder
        disk.sync_fails_in = f"{folder}/"
        seconds = self.rng.choice((0.05, 0.5, 3.0))
        disk.clock.call_later(seconds, lambda: setattr(disk, "sync_fails", 0.0))

    def churn(self) -> None:
        """Create a topic with an event, or delete one."""
        living = [topic for topic, deleted in self.topics.items() if not deleted]
        if living and self.rng.random() < 0.5:
            topic = self.rng.choice(living)
            self.topics[topic] = True
            self.log.delete_topic(topic)
            return
        self.names += 1
        topic = UUID(int=CHURN + self.names)
        self.topics[topic] = False
        try:
            self.log.partition(topic, 0).append(memoryview(batch(size=100)))
        except LogError:
            return


def run_seed(seed: int) -> HiccupLogRun:
    """Run one seed; returns the run at its end."""
    run = HiccupLogRun(seed)
    run.run(steps=80)
    return run


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_a_hiccup_of_the_disk_loses_nothing_and_ends_without_a_restart(first: int) -> None:
    hiccups = deaths = 0
    for seed in range(first, first + 20):
        try:
            run = run_seed(seed)
            hiccups, deaths = hiccups + run.hiccups, deaths + run.deaths
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: python -m tests.log.test_hiccup_model --first {seed} --seeds 1"
            ) from error
    assert min(hiccups, deaths) > 10, "nothing was tested"


def test_a_repair_writes_no_rolled_back_record_over_events_that_were_synced_directly() -> None:
    """The journal still has the record: it is of the epoch before the durable row's."""
    run_seed(1126)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_hiccups_lose_nothing_and_end_without_a_restart() -> None:
    logging.disable()  # else the log lines of all runs are kept in memory
    try:
        for seed in range(1000, 1600):
            run_seed(seed)
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable()
    counts = Counter[str]()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            run = run_seed(seed)
        except BaseException:
            print(f"seed {seed} fails", file=sys.stderr)
            raise
        counts += run.crashes
        counts.update(lives=run.lives, hiccups=run.hiccups, deaths=run.deaths, stops=run.stops)
    print(
        f"{arguments.seeds} runs from seed {arguments.first}: {counts['lives']} lives with"
        f" {counts['hiccups']} hiccups and {counts['deaths']} deaths of the sync process,"
        f" {counts['power']} power cuts and {counts['kill']} kills; all writes stopped for a while"
        f" {counts['stops']} times; nothing lost"
    )


if __name__ == "__main__":
    main()
