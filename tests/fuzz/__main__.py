"""`python -m tests.fuzz --seconds N [--target T]`: fuzz, guided by coverage, from the kept corpus on.

Needs the dependency group `fuzz` (atheris). Inputs that fail stay in the folder that is printed. `--keep`
adds the inputs that reached new code to the archives of tests/fuzz/corpus.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import archives
from tests.fuzz.seeds import NAMES

LENGTHS = {"requests": 2048, "query": 200, "frames": 4096, "segment": 600, "journal": 9000}
"""Longest input; 1,000 bytes for the others."""


def inner(target: str, arguments: list[str]) -> None:
    """The process that fuzzes one target. Ends by itself."""
    import atheris

    with atheris.instrument_imports(include=["mainstem"]):
        from tests.fuzz.targets import targets
    logging.getLogger("mainstem").propagate = False  # each refusal is logged: thousands of lines
    atheris.Setup([sys.argv[0], *arguments], targets()[target])
    atheris.Fuzz()


def run(target: str, seconds: int, keep: bool) -> int:
    """Fuzz one target; the exit code of the fuzzer."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-"))
    corpus, new = folder / "kept", folder / "new"
    corpus.mkdir()
    new.mkdir()
    archives.extract(target, corpus)
    command = [sys.executable, "-m", "tests.fuzz", "--inner", target, "--"]
    limits = [
        f"-max_len={LENGTHS.get(target, 1000)}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    done = subprocess.run([*command, f"-max_total_time={seconds}", *limits, str(new), str(corpus)])
    print(f"{target}: exit code {done.returncode}; new inputs and failures are in {folder}", flush=True)
    if keep and done.returncode == 0:
        archives.add(target, (file.read_bytes() for file in new.iterdir()))
    return done.returncode


def main() -> int:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("--seconds", type=int, default=60, help="for each target")
    options.add_argument("--target", choices=NAMES, action="append")
    options.add_argument("--keep", action="store_true", help="extend the kept corpus")
    options.add_argument("--inner", choices=NAMES, help=argparse.SUPPRESS)
    options.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.inner is not None:
        inner(given.inner, given.rest)
    return max(run(target, given.seconds, given.keep) for target in given.target or NAMES)


if __name__ == "__main__":
    sys.exit(main())
