"""REPORT.md and its plots: made from figures, written by `python -m bench --report`."""

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
    """Figures whose name holds a number, over that number."""

    name: str
    title: str
    pattern: str
    """With one group: the number on the x axis."""
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
    """The page, and a picture for each plot that has figures."""
    parts = [HEAD, f"Measured: {where}.", "", "## The bars", ""]
    parts += ["What the project set out to reach, as ratios within this run.", ""]
    parts += [markdown(verdicts(figures, machine)), "", *one_event(figures, machine), "## All figures", ""]
    for promise, text in PROMISES.items():
        who = "; ".join(f"{one.name}: {one.settings}" for one in CONTESTANTS if one.promise == promise)
        parts += [f"### {text}", "", f"{who}.", ""]
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
    """Where the time of one event goes that is acknowledged when it is on disk: the reason for two bars."""
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
    """(x, y) in rising order."""
    found = []
    for (promise, what), row in figures.rows.items():
        match = re.fullmatch(plot.pattern, what)
        value = row.median(server)
        if promise == plot.promise and match and value is not None:
            found.append((float(match[1].replace(",", "")), value))
    return sorted(found)


def _draw(plot: Plot, figures: Figures) -> bool:
    lines = {name: points(plot, figures, name) for name in COLOURS}
    if max(map(len, lines.values())) < 2:
        return False
    import matplotlib  # only here: it takes a second

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    drawing, axes = pyplot.subplots(figsize=(5.2, 3.2))
    for name, them in lines.items():
        if them:
            xs, ys = zip(*them, strict=True)
            width = 2.2 if name == MAINSTEM else 1.3
            axes.plot(xs, ys, marker="o", markersize=4, label=name, color=COLOURS[name], linewidth=width)
    axes.set_title(plot.title, fontsize=11)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    if max(x for them in lines.values() for x, _ in them) >= 100 or plot.name == "kept":
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


HEAD = """# How fast, how small

`make bench` prints these tables on your machine (a subset, some minutes); `make bench ARGS="--full --report"`
does all the work and writes this page. Each server is started fresh for each visit, the servers take turns,
clients and servers share the machine's cores. What is compared is a ratio within one run: the figures
themselves are this machine's.

- mainstem, Kafka and Tansu are driven by the same client: prebuilt Produce frames, five requests on their
  way, no record looked into (`bench/clients/kafka.py`). NATS, RabbitMQ and Redis have raw clients of their
  own in the same manner; their CPU is in the table.
- Two promises are never mixed: what a power cut may take, and what it may not.
- For a queue (RabbitMQ's quorum queue), reading is taking: each message is acknowledged.
- "end to end" is at the same three loads for all: 1, 30 and 80 % of what Kafka took in this run. A sender
  that is behind does not slow its clock.
"""

DETAIL = """The middle run of each. Latency is from sending a request to its answer; a producer of batches has
five on their way, so most of that is the time in the queue (the batching clients of the other protocols do
not look at it). For "end to end" it is from sending to having read.
"""

ONE_EVENT = """The raw disk has neither client nor server: all but the second row must fit into the 0.15 ms
that the aim leaves. The third row is the price of a server that never waits for its disk: an fdatasync in
the event loop would save most of it and let all clients wait when the disk does, and in a thread of the
server it starves behind a busy loop for the interpreter's lock. So a process of its own waits, and two
wake-ups of a process lie on the way. With many events at once they cost nothing, for all that came
meanwhile goes along: see "100 producers of single events". Redis and NATS, compiled programs, are beside it
in the tables below.
"""
