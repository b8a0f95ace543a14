"""The report card names the suites that exist, and what once passed is never taken off it."""

from __future__ import annotations

import subprocess

import pytest

from tests.compat.suites import REPORT, ROOT, SUITES, report


def test_every_suite_is_on_the_report_card() -> None:
    assert set(report()) == set(SUITES)


def test_each_verdict_is_pass_or_fail_with_a_reason() -> None:
    verdicts = [verdict for cases in report().values() for verdict in cases.values()]
    assert [v for v in verdicts if v != "pass" and not v.startswith("fail: ")] == []


def test_the_cases_that_pass_only_grow() -> None:
    path = REPORT.relative_to(ROOT).as_posix()
    log = ["git", "-C", str(ROOT), "log", "--format=%H", "--", path]
    history = subprocess.run(log, capture_output=True, text=True, check=False)
    if history.returncode:
        pytest.skip("not a git checkout: the earlier report cards are not known")
    now = report()
    for commit in history.stdout.split()[:20]:
        show = ["git", "-C", str(ROOT), "show", f"{commit}:{path}"]
        before = report(subprocess.run(show, capture_output=True, text=True, check=True).stdout)
        for suite, cases in before.items():
            lost = [c for c, v in cases.items() if v == "pass" and now.get(suite, {}).get(c) != "pass"]
            assert lost == [], f"{suite}: passed in {commit[:10]}, off the card now"
