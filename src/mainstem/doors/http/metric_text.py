"""Prometheus's text format 0.0.4: lines of metrics.

Owns: escaping, and how many lines are made in a turn of the event loop. Refuses: to know which metrics there
are.
"""

from __future__ import annotations

from mainstem.doors.contract import MetricDefinition, MetricSample

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
SLICE_LINES = 500
"""Lines that are made in a turn of the loop, some 2 ms."""
_ESCAPED = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def metric_head(name: str, definition: MetricDefinition) -> bytes:
    """The lines before those of a metric's samples."""
    return f"# HELP {name} {definition.text}\n# TYPE {name} {definition.kind}\n".encode()


def sample_line(definition: MetricDefinition, sample: MetricSample) -> str:
    """The line of a sample."""
    name, values, number = sample
    labels = ",".join(
        f'{label}="{value.translate(_ESCAPED)}"'
        for label, value in zip(definition.labels, values, strict=True)
    )
    return f"{name}{{{labels}}} {float(number)!r}\n" if labels else f"{name} {float(number)!r}\n"
