"""Files of secrets that a client reads.

Owns: reading a password or a token. Refuses: files that others on the machine can read.
"""

from __future__ import annotations

import os
import stat

from mainstem.client_security import ClientSecurityError

SECRET_BYTES_MAX = 64 << 10


def read_secret(path: str) -> str:
    """The first line of a file of mode 0600. ClientSecurityError."""
    check_private(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(SECRET_BYTES_MAX)
    except OSError as error:
        raise ClientSecurityError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClientSecurityError(f"{path} is not UTF-8") from None
    secret = text.splitlines()[0] if text else ""
    if not secret:
        raise ClientSecurityError(f"{path} is empty")
    return secret


def check_private(path: str) -> None:
    """ClientSecurityError if others on the machine can read the file. Pipes, such as /dev/fd/3, have none."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ClientSecurityError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise ClientSecurityError(f"{path} has a secret and can be read by others: chmod 600 {path}")
