"""mainstem with the Echo door: `python -m tests.doors.echo serve --echo 127.0.0.1:0`."""

from __future__ import annotations

import sys

from mainstem import doors
from tests.doors.echo import DOOR

doors.DOORS = (*doors.DOORS, DOOR)  # the one line

if __name__ == "__main__":
    from mainstem.cli import run

    sys.exit(run(sys.argv[1:]))
