"""What the Python suites share: naming a case, running the cases one by one, saying how each went.

A suite is a program `suite ADDRESS [CASE…]`. It prints one line per case, `PASS name` or `FAIL name: reason`,
and ends with 1 when a case failed. The suites in other languages print the same lines. A suite knows only the
server's address.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

CASE_SECONDS_MAX = 60
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

Case = Callable[[], None]
_cases: dict[str, Case] = {}


class Address:
    """Where the server is; set once, by `main`."""

    value = ""


LOGIN: dict[str, str] = json.loads(os.environ.get("COMPAT_LOGIN", "{}"))
"""How to log in: `security` (Kafka's word), `ca` (a file, with TLS), `mechanism`, `user`, `password`,
`token`. Empty: not at all."""


def librdkafka_login() -> dict[str, Any]:
    """LOGIN as settings of librdkafka."""
    if not LOGIN:
        return {}
    settings: dict[str, Any] = {"security.protocol": LOGIN["security"], "sasl.mechanism": LOGIN["mechanism"]}
    if "ca" in LOGIN:
        settings["ssl.ca.location"] = LOGIN["ca"]
    if "token" in LOGIN:
        return settings | {"oauth_cb": lambda _: (LOGIN["token"], time.time() + 600)}
    return settings | {"sasl.username": LOGIN["user"], "sasl.password": LOGIN["password"]}


def case(name: str) -> Callable[[Case], Case]:
    """Register a function as the case of this name."""

    def register(function: Case) -> Case:
        assert name not in _cases, name
        _cases[name] = function
        return function

    return register


def fresh(prefix: str) -> str:
    """A name for a topic or group that no other case uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def same(actual: object, expected: object, what: str = "") -> None:
    """Fail the case, with both values, unless they are equal."""
    if actual != expected:
        raise AssertionError(f"{what or 'value'}: got {actual!r}, expected {expected!r}"[:600])


def eventually(check: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait until `check()` is true; fail the case otherwise."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:.0f} s: {what}")
        time.sleep(0.05)


def _too_long(_signal: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"case still running after {CASE_SECONDS_MAX} s")


def _run(name: str, function: Case) -> bool:
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(CASE_SECONDS_MAX)
    try:
        function()
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"FAIL {name}: {reason}"[:500], flush=True)
        return False
    finally:
        signal.alarm(0)
    print(f"PASS {name}", flush=True)
    return True


def main() -> None:
    """Run all cases, or those named after the address."""
    Address.value, *only = sys.argv[1:]
    failed = sum(not _run(name, _cases[name]) for name in (only or list(_cases)))
    sys.exit(1 if failed else 0)
