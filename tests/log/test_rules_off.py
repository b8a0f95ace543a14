"""Each rule of FORMAT.md is needed: with one of them switched off, the random runs find a fault.

`python -m tests.log.test_rules_off [--seeds N]` tries all of them and prints after how many runs each was
found. The rules are switched off by replacing the function that holds them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from mainstem.log.commit import journal_reader
from mainstem.log.commit.checkpointer import Checkpointer
from mainstem.log.commit.direct_sync import DirectSyncs
from mainstem.log.commit.fenced_partitions import FencedPartitions
from mainstem.log.commit.journal import Journal
from mainstem.log.commit.journal_files import JournalFilePool
from mainstem.log.commit.journal_format import APPEND
from mainstem.log.commit.partition_repair import PartitionRepair
from mainstem.log.commit.segment_repair import SegmentRepairs
from mainstem.log.disk.contract import SyncResults
from mainstem.log.recovery import partition_replay
from mainstem.log.recovery.partition_replay import PartitionReplay
from mainstem.log.recovery.startup import Startup
from mainstem.promise import Promise
from tests.log.test_hiccup_model import run_seed as hiccup_run
from tests.log.test_log_model import KINDS, RandomLogRun, seed_run

Patch = Callable[[], AbstractContextManager[Any]]


def model_run(seed: int) -> RandomLogRun:
    """A run of the log's model with durability disk."""
    return seed_run(seed * len(KINDS) // (len(KINDS) - 1))


class SwitchedOff(NamedTuple):
    """One rule, how it is switched off, and the runs that must find it."""

    rule: str
    patch: Patch
    run: Callable[[int], RandomLogRun]
    runs_max: int = 200
    """Within how many runs the test must find it; 0: rarer, only the command line tries it."""


def replaced(owner: object, name: str, new: object) -> Patch:
    """Replace a function or method."""
    return lambda: patch.object(owner, name, new)


def free_all(pool: JournalFilePool, first_seq: int, fenced: set[Any]) -> None:
    """`JournalFilePool.release` that keeps no file for a fenced partition."""
    release(pool, first_seq, set())


release = JournalFilePool.release


def keep_current_file(journal: Journal) -> None:
    """`Journal._seal_file` that writes on to a file whose sync failed."""
    if journal._current_file is not None and journal._current_file.failed:
        journal._current_file.failed = False
        return
    seal_file(journal)


seal_file = Journal._seal_file


def sync_nothing(startup: Startup) -> None:
    """`Startup._sync` that says that everything is synced."""
    unsynced, startup._unsynced, startup._unsynced_names = startup._unsynced, {}, 0
    for key, recovered in unsynced.items():
        startup._add(key, recovered)


def resume_at_once(repair: PartitionRepair, partition: Any) -> None:
    """`PartitionRepair._repaired` that lets a partition accept events before a checkpoint covers it."""
    repair.states.remove(partition)
    repair.unfence(partition)


def write_nothing(repairs: SegmentRepairs, run: Any, *_: Any) -> None:
    """`SegmentRepairs._write_again` that trusts the page cache."""


def sync_no_folder(checkpointer: Checkpointer, partition: Any, files: Any) -> list[str]:
    """`Checkpointer.folders_to_sync` that needs none."""
    return []


def without_files(checkpointer: Checkpointer, run: Any) -> None:
    """`Checkpointer._sync_files` that syncs no segment."""
    checkpointer._drop_untrusted(run)
    checkpointer._sync_folders(run)


def without_epoch(journal: Journal, partition: Any) -> None:
    """`Journal._begin_epoch` that records no epoch."""
    journal._awaiting_epoch.pop(partition, None)
    partition.resume()


def past_at_once(checkpointer: Checkpointer, partition: Any, offset: int) -> Promise[None]:
    """`Checkpointer.when_past` that does not wait."""
    return Promise.resolved(None)


def without_annulment() -> AbstractContextManager[Any]:
    """Ignores which groups the next file annuls, and which records a later EPOCH record makes void: each of
    the two is enough in most runs."""
    stack = ExitStack()
    ignoring = partial(ignore_following, journal_reader._read_file)
    stack.enter_context(patch.object(journal_reader, "_read_file", ignoring))
    stack.enter_context(patch.object(partition_replay, "_in_force", list))
    return stack


def ignore_following(read_file: Any, contents: Any, header: Any, file: Any, following: Any) -> int:
    """`journal_reader._read_file` that reads a file as if it were the last one."""
    end: int = read_file(contents, header, file, None)
    return end


def apply_any_epoch(replay: PartitionReplay, record: Any) -> str | None:
    """`PartitionReplay._apply` that forgets which epoch it has reached."""
    if record.kind == APPEND:
        replay._epoch = min(replay._epoch, record.epoch)
    return apply(replay, record)


apply = PartitionReplay._apply


def always_trusted(states: FencedPartitions, key: Any) -> bool:
    """`FencedPartitions.is_trusted` that believes a sync after one that failed."""
    return True


def rows_only(results: Promise[SyncResults]) -> Promise[SyncResults]:
    """Errors of syncs are not seen."""
    return Promise.resolved([None for _ in results.result()])


def blind_results(checkpointer: Checkpointer, run: Any, owners: Any, files: Any, results: Any) -> None:
    """`Checkpointer._process_results` that sees no error."""
    process_results(checkpointer, run, owners, files, rows_only(results))


process_results = Checkpointer._process_results

RULES = (
    SwitchedOff(
        "R1, R3: folders are synced", replaced(Checkpointer, "folders_to_sync", sync_no_folder), model_run
    ),
    SwitchedOff("R3: segments are synced", replaced(Checkpointer, "_sync_files", without_files), model_run),
    SwitchedOff(
        "R5: not written after a failed sync", replaced(Journal, "_seal_file", keep_current_file), model_run
    ),
    SwitchedOff("R6: recovery ends in a sync", replaced(Startup, "_sync", sync_nothing), model_run),
    SwitchedOff(
        "R7: a sync of a file at a time", replaced(DirectSyncs, "may_start", lambda *_: True), model_run
    ),
    SwitchedOff("R8: EPOCH before appends", replaced(Journal, "_begin_epoch", without_epoch), model_run, 0),
    SwitchedOff("R5, R8: failed groups and ended epochs are void", without_annulment, model_run),
    SwitchedOff(
        "R8: no record of an ended epoch", replaced(PartitionReplay, "_apply", apply_any_epoch), hiccup_run, 0
    ),
    SwitchedOff(
        "R10: an error is seen", replaced(Checkpointer, "_process_results", blind_results), hiccup_run
    ),
    SwitchedOff(
        "R10: not trusted after an error",
        replaced(FencedPartitions, "is_trusted", always_trusted),
        hiccup_run,
        0,
    ),
    SwitchedOff("R10: journal files are kept", replaced(JournalFilePool, "release", free_all), hiccup_run),
    SwitchedOff("R10: written again", replaced(SegmentRepairs, "_write_again", write_nothing), hiccup_run),
    SwitchedOff(
        "R10: a checkpoint covers it first",
        replaced(PartitionRepair, "_repaired", resume_at_once),
        hiccup_run,
    ),
    SwitchedOff("R11: unlink last", replaced(Checkpointer, "when_past", past_at_once), model_run, 0),
)


def runs_until_found(rule: SwitchedOff, seeds: int) -> int | None:
    """After how many runs the missing rule was found; None: in none of them."""
    with rule.patch():
        for seed in range(seeds):
            try:
                rule.run(seed)
            except (TypeError, AttributeError):  # the switch does not fit the code any more
                raise
            except Exception:  # whatever is found first
                return seed + 1
    return None


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.runs_max], ids=lambda rule: rule.rule)
def test_the_random_runs_find_that_a_rule_is_switched_off(rule: SwitchedOff) -> None:
    logging.disable()
    try:
        assert runs_until_found(rule, rule.runs_max) is not None
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3000)
    arguments = parser.parse_args()
    logging.disable()
    for rule in RULES:
        print(f"{rule.rule}: {runs_until_found(rule, arguments.seeds)}", flush=True)


if __name__ == "__main__":
    main()
