"""Which values set some matches apart from others.

Owns: the shares of values and their order. Used by both kinds of search.
"""

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
    """The values whose shares differ most."""
    found = []
    for name in {**selected.counters, **baseline.counters}:
        ours = selected.counters.get(name, Counter())
        others = baseline.counters.get(name, Counter())
        for value in {**ours, **others}:
            mine, their = ours[value], others[value]
            share = mine / selected_events if selected_events else 0.0
            base = their / baseline_events if baseline_events else 0.0
            found.append(Difference(name, value, mine, share, their, base))
    found.sort(key=lambda each: (-abs(each.selected_share - each.baseline_share), each.field, each.value))
    return found[:top]
