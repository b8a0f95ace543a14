"""Compares how frequent field values are in two sets of matches."""

from __future__ import annotations

from collections import Counter

from mainstem.search.contract import Difference
from mainstem.search.facets import FieldValueCounter


def differences(
    selected: FieldValueCounter,
    selected_events: int,
    baseline: FieldValueCounter,
    baseline_events: int,
    top: int,
) -> list[Difference]:
    """The `top` field values whose shares of the selected and of the baseline events differ most, the largest
    difference first."""
    differences_found = []
    for name in {**selected.counters, **baseline.counters}:
        selected_counts = selected.counters.get(name, Counter())
        baseline_counts = baseline.counters.get(name, Counter())
        for value in {**selected_counts, **baseline_counts}:
            selected_count, baseline_count = selected_counts[value], baseline_counts[value]
            selected_share = selected_count / selected_events if selected_events else 0.0
            baseline_share = baseline_count / baseline_events if baseline_events else 0.0
            differences_found.append(
                Difference(name, value, selected_count, selected_share, baseline_count, baseline_share)
            )
    differences_found.sort(
        key=lambda difference: (
            -abs(difference.selected_share - difference.baseline_share),
            difference.field,
            difference.value,
        )
    )
    return differences_found[:top]
