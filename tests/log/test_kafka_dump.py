"""Apache Kafka's own dump tool reads our segments and finds nothing wrong with indexes and batches.

Needs Java and the jars that the compatibility suite fetches (`make test-all`).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from mainstem.log.config import PartitionConfig
from mainstem.log.storage import codecs
from mainstem.log.storage.record_batch import build
from tests.log.partition_rig import PartitionRig

JARS = Path(__file__).parents[1] / "compat" / "java" / "target" / "lib"
BATCHES = 600

pytestmark = pytest.mark.slow


def dump(folder: Path, *arguments: str) -> tuple[str, str]:
    """(standard output, standard error) of the tool on all segment, index and time index files."""
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".log", ".index", ".timeindex"))
    command = ["java", "org.apache.kafka.tools.DumpLogSegments", "--files", ",".join(files), *arguments]
    done = subprocess.run(
        command,
        env=os.environ | {"CLASSPATH": f"{JARS}/*"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout, done.stderr


def test_kafkas_dump_tool_reports_no_mismatch(tmp_path: Path) -> None:
    if shutil.which("java") is None or not JARS.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs Java and the jars of tests/compat/java")
    rng = random.Random(3)
    rig = PartitionRig(PartitionConfig(segment_bytes=200_000))
    for n in range(BATCHES):
        records = [
            (b"k", rng.randbytes(rng.randint(0, 300)), (("h", b"x"),), rng.randint(0, 50_000) + n * 10)
            for _ in range(rng.randint(1, 20))
        ]
        rig.partition.append(memoryview(build(records, codec=rng.choice(codecs.NAMES))))
        if n % 100 == 77:
            rig.checkpoint()
        if n == 150:
            rig.restart()
        if n == 300:
            rig.crash()
        if n == 450:
            rig.partition.config = PartitionConfig(segment_bytes=200_000, log_append_time=True)
    rig.partition.close()
    for name, data in rig.disk.files.items():
        (tmp_path / name.rpartition("/")[2]).write_bytes(data)
    out, errors = dump(tmp_path, "--deep-iteration", "--verify-index-only")
    assert out.count("isvalid: true") == BATCHES
    assert "isvalid: false" not in out
    # "Non-consecutive offsets: -1 is followed by N" is what it says of each segment that begins after 0.
    complaints = [line for line in errors.splitlines() if not line.startswith(("Non-consecutive", "  -1 is"))]
    assert [line for line in complaints if "ndex" in line or "ismatch" in line] == []
    out, errors = dump(tmp_path, "--index-sanity-check")
    assert "passed sanity check" in out
    assert "rror" not in errors
