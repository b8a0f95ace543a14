"""Prints how the schemas of the newest kio differ from schema.json. `make drift` runs it.

Owns: making the table with the newest release of kio, in an environment of its own, and the comparison. Where
that release cannot be installed, or its table not be made, the output says why. Refuses: to change a file of
the checkout, and to fail: upstream may change on any day, and what to do about it is decided by a person.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.doors.kafka import make_schema

ROOT = Path(__file__).parents[3]
INSTALL_TIMEOUT_S = 120
_MAKE = "from tests.doors.kafka import make_schema; import sys; sys.stdout.write(make_schema.generate())"
_VERSION = "from importlib.metadata import version; print(version('kio'))"


def lines_of(table: dict[str, Any]) -> Iterator[str]:
    """One line for each message and field of a schema table; the line begins with the path of what it
    describes."""
    for key, entry in table.items():
        for direction in ("request", "response"):
            path = f"{key} {entry['name']} {direction}"
            yield from _described(path, entry[direction])


def _described(path: str, entry: dict[str, Any]) -> Iterator[str]:
    attributes = {name: value for name, value in entry.items() if name not in ("name", "fields")}
    yield f"{path} {json.dumps(attributes)}"
    for field in entry.get("fields", ()):
        yield from _described(f"{path}.{field['name']}", field)


def difference(ours: str, theirs: str) -> list[str]:
    """What one schema table has and the other has not: `-` for a line of ours, `+` for one of theirs."""
    our_lines, their_lines = (list(lines_of(json.loads(text))) for text in (ours, theirs))
    marked = [*((line, "-") for line in our_lines), *((line, "+") for line in their_lines)]
    common = set(our_lines) & set(their_lines)
    marked.sort(key=lambda item: (item[0].partition(" {")[0], item[1] == "+"))
    return [f"{mark} {line}" for line, mark in marked if line not in common]


def _output(python: Path, *arguments: str) -> str:
    """What a Python program prints. CalledProcessError with its standard error; TimeoutExpired."""
    command = [str(python), "-B", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=True
    )
    return done.stdout


def newest_table(folder: Path) -> tuple[str, str]:
    """The version of the newest kio, and the table made from it. CalledProcessError, TimeoutExpired."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    quick = ("--quiet", "--disable-pip-version-check", "--retries", "0", "--timeout", "10")
    _output(python, "-m", "pip", "install", *quick, "kio")
    return _output(python, "-c", _VERSION).strip(), _output(python, "-c", _MAKE)


def main() -> None:
    """Print the report."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            version, theirs = newest_table(Path(folder))
        except subprocess.CalledProcessError as error:
            reason = (error.stderr or "").strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
            print(f"drift: not compared with the newest kio: {reason[0]}")
            return
        except (subprocess.TimeoutExpired, OSError) as error:
            print(f"drift: not compared with the newest kio: {error}")
            return
    lines = difference(make_schema.TARGET.read_text(), theirs)
    for line in lines:
        print(line)
    print(f"drift: {len(lines)} lines differ between schema.json (-) and kio {version} (+)")


if __name__ == "__main__":
    main()
