"""Notifies systemd that the server is ready (sd_notify(3), for units with `Type=notify`).

Owns: the one datagram. Refuses: to need systemd, and to fail without it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], state: str = "READY=1") -> None:
    """Send `state` to the socket that NOTIFY_SOCKET names, if there is one."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + path[1:] if path[0] == "@" else path)  # "@": an abstract socket name (Linux)
        sender.send(state.encode())
