"""REPORT.md and its plots, written from the figures by `python -m bench --report`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.bars import verdicts
from bench.contestants import CONTESTANTS, KAFKA, MAINSTEM, NATS, RABBITMQ, REDIS, TANSU, present
from bench.figures import PROMISES, DurabilityPromise, Figures, markdown
from bench.limits import OVERWRITE, Limits

PAGE = Path(__file__).with_name("REPORT.md")
PLOTS = Path(__file__).with_name("plots")
COLOURS = {
    MAINSTEM: "#0b6e6e",
    KAFKA: "#8a8a8a",
    TANSU: "#c97b12",
    NATS: "#4f7fc4",
    RABBITMQ: "#b5523b",
    REDIS: "#8457a6",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of figures over the number in their names."""

    name: str
    title: str
    pattern: str
    """A regular expression with one group: the number on the x axis."""
    x: str
    y: str
    promise: DurabilityPromise = "page cache"
    log_y: bool = False


PLOTTED = (
    Plot("batch-size", "Produce, one partition", r"in, batches of ([\d,]+) KB", "KB a batch", "MB/s"),
    Plot(
        "partitions",
        "Produce, 64 KB batches",
        r"in, 64 KB batches, ([\d,]+) partitions",
        "partitions",
        "MB/s",
    ),
    Plot("cost", "Cost of partitions", r"in, CPU, ([\d,]+) partitions", "partitions", "server CPU s/GB"),
    Plot(
        "kept",
        "Start after kill -9, 1,000 partitions",
        r"ready after kill -9, [\d,]+ partitions and ([\d.]+) GB kept",
        "GB kept",
        "s",
        "on disk",
    ),
    Plot(
        "connections",
        "Memory with idle connections",
        r"resident, ([\d,]+) idle connections",
        "connections",
        "MB resident",
        log_y=True,
    ),
    Plot(
        "topics",
        "Memory with topics",
        r"resident, ([\d,]+) topics",
        "topics",
        "MB resident",
        log_y=True,
    ),
    Plot(
        "tail",
        "One event to waiting readers",
        r"one event to ([\d,]+) readers, p50",
        "readers",
        "ms, p50",
        log_y=True,
    ),
    Plot(
        "latency",
        "End to end, 99th percentile",
        r"end to end at (\d+) % load, p99",
        "load, % of Kafka's top rate",
        "ms",
        log_y=True,
    ),
    Plot(
        "latency-disk",
        "End to end, 99th percentile, on disk",
        r"end to end at (\d+) % load, p99",
        "load, % of Kafka's top rate",
        "ms",
        "on disk",
        log_y=True,
    ),
)


def write(figures: Figures, machine: Limits, notes: Sequence[str], where: str) -> None:
    """Write the page, and a plot for each entry of PLOTTED that has figures."""
    parts = [HEAD, f"Measured: {where}.", "", "## The bars", ""]
    parts += ["What the project set out to reach, as ratios within this run.", ""]
    parts += [markdown(verdicts(figures, machine)), "", *one_event(figures, machine), "## All figures", ""]
    for promise, text in PROMISES.items():
        settings = "; ".join(
            f"{contestant.name}: {contestant.settings}"
            for contestant in CONTESTANTS
            if contestant.promise == promise
        )
        parts += [f"### {text}", "", f"{settings}.", ""]
        parts += [markdown(figures.table(promise, present(figures, promise))), ""]
    parts += ["### Work of many requests, in detail", "", DETAIL]
    for promise, text in PROMISES.items():
        parts += [f"{text}:", "", markdown(figures.detailed(promise)), ""]
    parts += ["### The machine itself", ""]
    rows = [["", "figure", "unit"]]
    rows += [[what, f"{value:,.3g}", unit] for what, (value, unit) in machine.items()]
    parts += [markdown(rows), "", "## Plots", ""]
    parts += [f"![{plot.title}](plots/{plot.name}.svg)" for plot in PLOTTED if _draw(plot, figures)]
    if notes:
        parts += ["", "## Not measured", "", *(f"- {note}" for note in notes)]
    PAGE.write_text("\n".join(parts) + "\n")


def one_event(figures: Figures, machine: Limits) -> list[str]:
    """Where the time of one event that is acknowledged on disk is spent: the reason for two bars."""
    what = "one event acknowledged, p50"
    whole, without = (figures.median(promise, what, MAINSTEM) for promise in ("on disk", "page cache"))
    disk = machine.get(OVERWRITE)
    if whole is None or without is None or disk is None:
        return []
    rows = [["one event, on disk", "ms"]]
    rows += [["client, TCP and server, as for an event that is not waited for on disk", f"{without:.3f}"]]
    rows += [["the disk: overwrite 4 KB + fdatasync, measured raw", f"{disk[0]:.3f}"]]
    rows += [
        ["writing the journal, and the way to the sync process and back", f"{whole - without - disk[0]:.3f}"]
    ]
    rows += [["in all", f"{whole:.3f}"]]
    return ["### One event, on disk", "", ONE_EVENT, markdown(rows), ""]


def points(plot: Plot, figures: Figures, server: str) -> list[tuple[float, float]]:
    """The (x, y) of a server, in order of x."""
    values = []
    for (promise, what), row in figures.rows.items():
        match = re.fullmatch(plot.pattern, what)
        value = row.median(server)
        if promise == plot.promise and match and value is not None:
            values.append((float(match[1].replace(",", "")), value))
    return sorted(values)


def _draw(plot: Plot, figures: Figures) -> bool:
    lines = {name: points(plot, figures, name) for name in COLOURS}
    if max(map(len, lines.values())) < 2:
        return False
    import matplotlib  # only here: it takes a second

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    drawing, axes = pyplot.subplots(figsize=(5.2, 3.2))
    for name, line in lines.items():
        if line:
            xs, ys = zip(*line, strict=True)
            width = 2.2 if name == MAINSTEM else 1.3
            axes.plot(xs, ys, marker="o", markersize=4, label=name, color=COLOURS[name], linewidth=width)
    axes.set_title(plot.title, fontsize=11)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    if max(x for line in lines.values() for x, _ in line) >= 100 or plot.name == "kept":
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
        axis.set_minor_formatter(NullFormatter())
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    PLOTS.mkdir(exist_ok=True)
    drawing.tight_layout()
    drawing.savefig(PLOTS / f"{plot.name}.svg", metadata={"Date": None})
    pyplot.close(drawing)
    return True


HEAD = """# Speed and memory beside the peers

`make bench` prints these tables on your machine (a subset, some minutes); `make bench ARGS="--full --report"`
runs all workloads and writes this page. Each server is started fresh for each visit, the servers take turns,
clients and servers share the machine's cores. Compare ratios within one run: the figures themselves depend on
the machine.

- mainstem, Kafka and Tansu are driven by the same client: prebuilt Produce frames, five requests under way,
  no record decoded (`bench/clients/kafka.py`). NATS, RabbitMQ and Redis have raw clients of the same kind;
  their CPU is in the table.
- Two promises are never mixed: events that a power cut may remove, and events that it may not.
- Reading from a queue (RabbitMQ's quorum queue) removes: each message is acknowledged.
- "end to end" is at the same three loads for all: 1, 30 and 80 % of Kafka's highest rate in this run. A
  sender that falls behind keeps its schedule.
"""

DETAIL = """The median run of each. Latency is from a request to its reply; a producer of batches has five
requests under way, so most of that is time in the queue (the batching clients of the other protocols do not
measure it). For "end to end" it is from sending to having read.
"""

ONE_EVENT = """The raw disk has neither client nor server: all but the second row must fit into the 0.15 ms
of the aim. The third row is the price of a server that never waits for its disk: an fdatasync in the event
loop would save most of it, and all clients would wait when the disk stalls; in a thread of the server it
competes with a busy loop for the interpreter's lock. So a separate process waits, which costs two wake-ups of
a process. With many events at once they cost nothing, because all events that arrived meanwhile share the
commit: see "100 producers of single events". Redis and NATS, compiled programs, are in the tables below.
"""
