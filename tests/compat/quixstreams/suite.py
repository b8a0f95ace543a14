"""Quix Streams' quickstart against a server: `python -m tests.compat.quixstreams.suite ADDRESS [CASE…]`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compat.cases import Address, case, main, same

HERE = Path(__file__).parent


def _program(name: str, *arguments: str) -> str:
    command = [sys.executable, "-u", str(HERE / f"{name}.py"), Address.value, *arguments]
    with tempfile.TemporaryDirectory() as folder:  # it makes a folder `state` where it runs
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    same(done.returncode, 0, f"exit code of {name} ({done.stderr[-400:]})")
    return done.stdout


@case("hello-world")
def _hello() -> None:
    same(_program("hello_produce").count("Produce event"), 4)
    said = _program("hello_process", "21")
    same(said.count("Input: "), 4)
    same(
        "Output: {'text': 'consectetur', 'length': 11}" in said.lower().replace("output", "Output"),
        True,
        said,
    )
    # It stopped after the 21 words and has committed them: the next run starts where it ended.
    same(_program("hello_produce").count("Produce event"), 4)
    same(_program("hello_process", "21").count("Input: "), 4)


if __name__ == "__main__":
    main()
