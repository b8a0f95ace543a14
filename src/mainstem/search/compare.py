"""Compares how frequent field values are in two sets of matches."""

from __future__ import annotations

from mainstem.search.contract import Difference
from mainstem.search.facets import FacetCounts, FieldCounts


def differences(
    selected: FacetCounts,
    selected_events: int,
    baseline: FacetCounts,
    baseline_events: int,
    top: int,
) -> list[Difference]:
    """The `top` field values whose shares of the selected and of the baseline events differ most, the largest
    difference first."""
    differences_found = []
    nothing = FieldCounts({}, {}, {})
    for name in {**selected.fields, **baseline.fields}:
        ours, theirs = selected.fields.get(name, nothing), baseline.fields.get(name, nothing)
        spellings = {**theirs.spellings, **ours.spellings}  # the same for both, to find equal numbers
        selected_counts, baseline_counts = ours.shown(spellings), theirs.shown(spellings)
        for value in {**selected_counts, **baseline_counts}:
            selected_count, baseline_count = selected_counts.get(value, 0), baseline_counts.get(value, 0)
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
