"""Plays the same scripts to RabbitMQ and to mainstem and shows in which lines the answers differ.

    python -m tests.compat.rabbitmq.compare_with_rabbitmq ADDRESS [ADDRESS] [--only TEXT]
    python -m tests.compat.rabbitmq.compare_with_rabbitmq ADDRESS --record    # writes transcript_3_10.txt

With one address, the answers are compared with those recorded of RabbitMQ 3.10. Servers should be fresh.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

import tests.compat.rabbitmq.probes  # noqa: F401  (registers them)
from tests.compat.rabbitmq.probing import PROBES, transcript

AGAIN = 3
"""How often a probe is played again whose answers differ."""
RECORDED = Path(__file__).with_name("transcript_3_10.txt")


def play(address: str, names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """Probe -> its transcript."""
    return {name: transcript(address, name) for name in (PROBES if names is None else names)}


def play_until_alike(address: str, names: Iterable[str], is_alike: Callable[[str, list[str]], bool]) -> None:
    """Play probes again whose answers differ: what they look at after a time may be late on a busy machine.
    AssertionError: the answers of one differ each time."""
    for name in names:
        lines: list[str] = []
        for _ in range(AGAIN):
            lines = transcript(address, name)
            if is_alike(name, lines):
                break
        else:
            raise AssertionError("\n".join([f"{name} is answered otherwise each time:", *lines]))


def write(transcripts: dict[str, list[str]]) -> str:
    """As text: a head line a probe, each line of its transcript indented."""
    return "".join(
        f"{name}\n" + "".join(f"    {line.replace(chr(13), '')}\n" for line in lines)
        for name, lines in transcripts.items()
    )


def read(text: str) -> dict[str, list[str]]:
    """What `write` wrote."""
    transcripts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith("    "):
            lines.append(line[4:])
        elif line:
            lines = transcripts.setdefault(line, [])
    return transcripts


def difference(theirs: list[str], ours: list[str]) -> list[str]:
    """The lines that differ: `-` RabbitMQ's, `+` the other server's."""
    lines = difflib.unified_diff(theirs, ours, lineterm="", n=0)
    return [line for line in lines if line[:2] not in {"--", "++", "@@"} and line[:1] in "-+"]


def main() -> None:
    """Print the differences, with the line before each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", nargs="+")
    parser.add_argument("--only", default="")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    names = [name for name in PROBES if given.only in name]
    ours = play(given.address[-1], names)
    if given.record:
        RECORDED.write_text(write(ours))
        return
    theirs = play(given.address[0], names) if len(given.address) > 1 else read(RECORDED.read_text())
    for name in names:
        lines = list(difflib.unified_diff(theirs.get(name, []), ours[name], lineterm="", n=1))
        if lines:
            print(name, *lines[2:], sep="\n    ")
    same = sum(theirs.get(name) == ours[name] for name in names)
    print(f"{same} of {len(names)} the same")


if __name__ == "__main__":
    main()
