"""The order in which searches get workers, as pure arithmetic: no processes, no clock."""

from __future__ import annotations

from collections import Counter

from mainstem.search.workers.schedule import (
    INTERACTIVE_S,
    LONG_SHARE,
    LONG_TURN_S,
    PAUSE_MARGIN_S,
    JobGroup,
    Schedule,
)

SLICE_S = 0.1


def long_group() -> JobGroup[str]:
    return JobGroup(used_s=INTERACTIVE_S)


def run_slices(schedule: Schedule[str], groups: dict[str, JobGroup[str]], slices: int) -> list[str]:
    """One worker: each job takes a slice and waits again. Returns the jobs in the order of their slices."""
    order = []
    for _ in range(slices):
        job = schedule.pop()
        order.append(job)
        schedule.release(groups[job], SLICE_S)
        schedule.add(job, groups[job], first=True)
    return order


def test_an_interactive_search_comes_before_the_long_ones_that_wait() -> None:
    schedule: Schedule[str] = Schedule()
    for number in range(5):
        schedule.add(f"long {number}", long_group())
    schedule.add("needle", JobGroup())
    assert schedule.pop() == "needle"


def test_a_search_is_long_when_its_jobs_have_used_their_interactive_time() -> None:
    schedule: Schedule[str] = Schedule()
    compare: JobGroup[str] = JobGroup()
    schedule.add("unit 0", compare)
    schedule.add("unit 1", compare)
    assert schedule.pop() == "unit 0"
    schedule.release(compare, INTERACTIVE_S)
    schedule.add("needle", JobGroup())
    assert [schedule.pop(), schedule.pop()] == ["needle", "unit 1"]


def test_the_jobs_of_a_search_keep_their_order_and_a_paused_one_goes_on_first() -> None:
    schedule: Schedule[str] = Schedule()
    group: JobGroup[str] = JobGroup()
    for name in ("a", "b", "c"):
        schedule.add(name, group)
    paused = schedule.pop()
    schedule.add(paused, group, first=True)
    assert schedule.drain() == ["a", "b", "c"]
    assert len(schedule) == 0


def test_long_searches_of_many_clients_share_the_workers_equally() -> None:
    schedule: Schedule[str] = Schedule()
    groups = {f"client {number}": long_group() for number in range(7)}
    for name, group in groups.items():
        schedule.add(name, group)
    turns = Counter(run_slices(schedule, groups, 70))
    assert set(turns.values()) == {10}


def test_a_search_with_many_jobs_gets_no_more_than_one_with_a_single_job() -> None:
    schedule: Schedule[str] = Schedule()
    many, single = long_group(), long_group()
    for number in range(50):
        schedule.add(f"many {number}", many)
    schedule.add("single 0", single)
    first = [schedule.pop() for _ in range(2)]
    assert sorted(name.split()[0] for name in first) == ["many", "single"]


def test_an_old_long_search_is_not_overtaken_for_ever_by_new_ones() -> None:
    """A newcomer begins level with the others, not at zero."""
    schedule: Schedule[str] = Schedule()
    groups = {"old": long_group()}
    schedule.add("old", groups["old"])
    run_slices(schedule, groups, 100)
    turns = 0
    for number in range(50):
        groups[f"new {number}"] = long_group()
        schedule.add(f"new {number}", groups[f"new {number}"])
        turns += run_slices(schedule, groups, 2 + number).count("old")
    assert turns > 20


def test_long_searches_keep_their_share_under_a_stream_of_interactive_ones() -> None:
    schedule: Schedule[str] = Schedule()
    compare = long_group()
    schedule.add("compare", compare)
    used = Counter[str]()
    for _ in range(1_000):
        group = JobGroup[str]()
        schedule.add("needle", group)
        job = schedule.pop()
        used[job] += 1
        if job == "compare":
            schedule.release(compare, SLICE_S)
            schedule.add("compare", compare, first=True)
            schedule.remove("needle", group)
        else:
            schedule.release(group, SLICE_S)
    share = used["compare"] / 1_000
    assert LONG_SHARE * 0.9 <= share <= LONG_SHARE * 1.1


def test_interactive_searches_share_the_workers_so_that_none_waits_for_ever() -> None:
    schedule: Schedule[str] = Schedule()
    groups = {"slow": JobGroup[str](used_s=0.4, virtual_s=0.4)}
    schedule.add("slow", groups["slow"])
    for number in range(20):
        name = f"new {number}"
        groups[name] = JobGroup()
        schedule.add(name, groups[name])
        job = schedule.pop()
        if job == "slow":
            return
        schedule.release(groups[job], SLICE_S)
    raise AssertionError("newcomers overtook it 20 times")


def test_a_long_job_pauses_for_an_interactive_search_and_for_no_other() -> None:
    schedule: Schedule[str] = Schedule()
    running = [("compare", long_group(), 0.01), ("export", long_group(), 0.02)]
    schedule.add("another long one", long_group())
    assert schedule.to_pause(running) is None
    schedule.add("needle", JobGroup())
    assert schedule.to_pause(running) == "export"


def test_an_interactive_job_pauses_only_for_a_search_that_has_used_less() -> None:
    schedule: Schedule[str] = Schedule()
    waiting: JobGroup[str] = JobGroup()
    schedule.add("needle", waiting)
    running: JobGroup[str] = JobGroup()
    assert schedule.to_pause([("wide", running, PAUSE_MARGIN_S / 2)]) is None
    assert schedule.to_pause([("wide", running, PAUSE_MARGIN_S * 2)]) == "wide"
    assert schedule.to_pause([("needle's own", waiting, 1.0)]) is None


def test_a_long_job_that_is_due_its_turn_does_not_pause() -> None:
    schedule: Schedule[str] = Schedule()
    compare = long_group()
    schedule.add("next unit", compare)
    for _ in range(int(LONG_TURN_S / LONG_SHARE / SLICE_S) + 1):
        earlier: JobGroup[str] = JobGroup()
        schedule.add("an earlier needle", earlier)
        if schedule.pop() == "an earlier needle":
            schedule.release(earlier, SLICE_S)
        else:
            schedule.add("next unit", compare, first=True)
            break
    schedule.add("needle", JobGroup())
    assert schedule.to_pause([("compare", compare, 0.01)]) is None
    assert schedule.pop() == "next unit"
