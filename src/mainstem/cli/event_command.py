"""Runs a command for an event: the payload on its standard input, the rest in its environment.

Owns: the names of the variables, what is left out of them, and the process with its group. Refuses: to decide
what an exit code means, which `worker` does. The variables that an event fills begin with MAINSTEM_, so that
no header of a stranger can set any other.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from mainstem.contract import Event
from mainstem.engines.remote.event_decoding import decode_event
from mainstem.http_api.deliveries import DeliveryJson

VARIABLE_BYTES_MAX = 100_000
"""Longer values are left out: Linux starts no program with a variable of 128 KiB or more."""
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")


def event_variables(subscription: str, delivery: DeliveryJson, event: Event) -> dict[str, str]:
    """The environment variables that describe an event. A key or header that is not UTF-8, contains a zero
    byte or is too long is left out."""
    values: dict[str, bytes | None] = {
        "SUBSCRIPTION": subscription.encode(),
        "TOPIC": event.topic.encode(),
        "PARTITION": b"%d" % event.partition,
        "OFFSET": b"%d" % event.offset,
        "TIMESTAMP_MS": b"%d" % event.timestamp_ms,
        "ATTEMPT": b"%d" % delivery.attempt,
        "KEY": event.key,
        "HEADERS": msgspec.json.encode(delivery.event.headers),
    }
    for name, value in event.headers:
        values["HEADER_" + _NOT_IN_NAMES.sub("_", name.upper())] = value
    variables = {}
    for name, content in values.items():
        if content is None or b"\0" in content or len(content) > VARIABLE_BYTES_MAX:
            continue
        with suppress(UnicodeDecodeError):
            variables["MAINSTEM_" + name] = content.decode()
    return variables


class EventCommand:
    """A command that is run for each event. `run` may be called several times at once."""

    def __init__(self, command: Sequence[str], subscription: str, environment: Mapping[str, str]) -> None:
        self._command = command
        self._subscription = subscription
        self._environment = {
            name: value
            for name, value in environment.items()
            if name == "MAINSTEM_AT" or not name.startswith("MAINSTEM_")
        }
        self._processes: set[asyncio.subprocess.Process] = set()

    async def run(self, delivery: DeliveryJson) -> int:
        """Run the command for an event. Returns its exit code; -N: signal N ended it. Raises OSError if it
        cannot be started."""
        event = decode_event(delivery.event)
        variables = event_variables(self._subscription, delivery, event)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            env=self._environment | variables,
            process_group=0,  # Ctrl-C in the terminal is for us, and the command ends its work
        )
        self._processes.add(process)
        try:
            await process.communicate(event.value or b"")
        finally:
            self._processes.discard(process)
        assert process.returncode is not None, "communicate waits for the process"
        return process.returncode

    def terminate_all(self) -> None:
        """Send SIGTERM to all commands that are running, and to what they have started."""
        for process in self._processes:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
