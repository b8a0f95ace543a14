"""The card that each Kafka handler opens with, read from its source without importing it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

HANDLERS = Path(__file__).parents[2] / "src" / "mainstem" / "doors" / "kafka" / "handlers"

_FORM = re.compile(
    r"(?P<key>\d+) (?P<name>[A-Za-z]+)\. "
    r"Versions: (?P<low>\d+)(?:-(?P<high>\d+))?(?:, advertised from (?P<advertised>\d+)\b.*?)?\. "
    r"Behaviour: (?P<behaviour>.+) "
    r"Notes: (?P<notes>.+) "
    r"Left out: (?P<left_out>.+)"
)


@dataclass(frozen=True, slots=True)
class Card:
    """What a handler says of itself; the texts are single lines."""

    key: int
    name: str
    low: int
    high: int
    advertised: int
    """The lowest version that ApiVersions reports; below `low` where Apache Kafka does so too."""
    behaviour: str
    notes: str
    left_out: str

    @property
    def versions(self) -> str:
        """As in `0-13`, or `0` where there is one."""
        served = str(self.low) if self.low == self.high else f"{self.low}-{self.high}"
        return served if self.advertised == self.low else f"{served}, advertised from {self.advertised}"


def handler_files() -> list[Path]:
    """One file a key, in their order."""
    return sorted(HANDLERS.glob("k[0-9]*.py"))


def read(path: Path) -> Card:
    """The card of one handler. AssertionError shows the docstring that is none."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    match = _FORM.fullmatch(" ".join(docstring.split()))
    assert match, f"{path.name}: the docstring is not a card: {docstring[:300]!r}"
    low = int(match["low"])
    texts = match["behaviour"], match["notes"], match["left_out"]
    return Card(
        int(match["key"]),
        match["name"],
        low,
        int(match["high"] or low),
        int(match["advertised"] or low),
        *texts,
    )
