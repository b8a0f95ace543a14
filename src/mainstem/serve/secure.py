"""`--secure`: all that makes a server safe for others, set up in the data folder at the first start.

Owns: the folder `secure/` with an authority, the server's certificate and the first password; the user
`admin`; and the settings that follow. What is there stays: later starts change nothing. Refuses: settings
that contradict it, an address without TLS and a login, and secrets that other users of the machine can read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.access_contract import USER, AccessAdmin, Principal, ScramMechanism
from mainstem.doors.net.security import SecurityProtocol
from mainstem.log import paths
from mainstem.log.errors import StorageError
from mainstem.private_file import write_private
from mainstem.serve.errors import CannotServe

if TYPE_CHECKING:
    from mainstem.serve.listener_names import ListenerNames, NamedAddress
    from mainstem.settings import Settings

ADMIN = "admin"
PASSWORD_FILE = "admin-password"
PASSWORD_BYTES = 18
"""Random bytes of a password: 24 characters."""
PROTOCOL = SecurityProtocol.SASL_SSL.name


@dataclasses.dataclass(frozen=True, slots=True)
class SecureSummary:
    """What a start with `--secure` says, before the ready line."""

    password_file: Path | None
    """None: the administrator has removed it."""
    ca: Path | None
    """The authority that clients have to trust; None: the certificate is not of this folder."""
    new_password: str | None
    """The password, only in the start that made it."""

    @property
    def line(self) -> str:
        """The line, without the password."""
        return f"secure  user={ADMIN} password-file={self.password_file or '-'} ca={self.ca or '-'}"

    def __repr__(self) -> str:
        return f"SecureSummary({self.line!r})"


class SecureStart:
    """One start with `--secure`."""

    def __init__(self, data: Path) -> None:
        """`data`: the data folder, which exists. CannotServe: a secret in it can be read by others."""
        self._folder = data / paths.SECURE
        self._password_file = self._folder / PASSWORD_FILE
        self._ca: Path | None = None
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            _refuse_loose(self._folder.iterdir())
        except OSError as error:
            raise CannotServe("folder", f"{error.filename or self._folder}: {error.strerror}") from None

    def settings(self, given: Settings) -> Settings:
        """The settings of a safe server. CannotServe: those that were given contradict `--secure`."""
        if given.allow_anonymous:
            raise CannotServe("usage", "--secure contradicts --allow-anonymous: everybody has to log in")
        if given.security_protocol not in ("PLAINTEXT", PROTOCOL):  # the first is the default
            raise CannotServe(
                "usage", f"--secure contradicts --security-protocol {given.security_protocol}: use {PROTOCOL}"
            )
        admin = Principal(USER, ADMIN).text
        changes: dict[str, object] = {
            "security_protocol": PROTOCOL,
            "access_control": True,
            "super_users": ";".join(filter(None, (given.super_users, admin))),
        }
        if not given.tls_cert:
            self._ca = self._folder / "ca.pem"
            changes["tls_cert"] = str(self._folder / "server.pem")
            changes["tls_key"] = str(self._folder / "server-key.pem")
        return dataclasses.replace(given, **changes)  # type: ignore[arg-type]  # names of fields, as above

    def make_certificate(self, listeners: ListenerNames, addresses: Sequence[NamedAddress]) -> None:
        """Make the certificate of the server for these addresses and what clients are given instead, and its
        authority; unless they are there and good. CannotServe: an address is without TLS or a login, or the
        files cannot be written."""
        hosts: dict[str, None] = {}
        for named in addresses:
            security = listeners.security(named.name)
            if not (security.tls and security.authenticates):
                raise CannotServe("usage", f"--secure contradicts the address {named}: use {PROTOCOL}")
            advertised = listeners.advertised(named.name, named.address)
            for address in (named.address, advertised):
                if not address.is_wildcard:
                    hosts[address.host] = None
        if self._ca is None:
            return
        from mainstem.certificates import CertificatesError, make_server

        try:
            with _locked(self._folder):
                made = make_server(self._folder, list(hosts))
        except CertificatesError as error:
            raise CannotServe("folder", f"--secure: {error}") from None
        except OSError as error:
            raise CannotServe("folder", f"{self._folder}: {error.strerror}") from None
        self._ca = made.ca

    async def make_admin(self, admin: AccessAdmin) -> SecureSummary:
        """Add the user `admin`, unless there is one. Its password is in a file before it is used, so that a
        crash in between loses nothing. CannotServe: the file cannot be written."""
        new = None
        if admin.user(ADMIN) is None:
            new, password = self._password()
            from mainstem.authentication.scram import SALT_BYTES, make_verifier

            verifiers = [
                make_verifier(mechanism, password, os.urandom(SALT_BYTES)) for mechanism in ScramMechanism
            ]
            try:
                await admin.put_verifiers(ADMIN, verifiers)
            except StorageError as error:
                raise CannotServe("folder", f"the user {ADMIN} cannot be stored: {error}") from None
        file = self._password_file if self._password_file.exists() else None
        return SecureSummary(file, self._ca, new)

    def _password(self) -> tuple[str | None, str]:
        """The password if it is new, and the password: that of the file, if an earlier start wrote it."""
        try:
            if self._password_file.exists():
                return None, self._password_file.read_text().strip()
            password = secrets.token_urlsafe(PASSWORD_BYTES)
            write_private(self._password_file, f"{password}\n".encode())
        except OSError as error:
            raise CannotServe("folder", f"{self._password_file}: {error.strerror}") from None
        return password, password


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the starts on the same folder: the data folder is locked later, when it is opened.
    OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_loose(paths: Iterable[Path]) -> None:
    """CannotServe: one of these is a secret that other users of the machine can read."""
    for path in paths:
        is_secret = path.name.startswith(PASSWORD_FILE) or "key" in path.name
        if is_secret and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise CannotServe(
                "refused",
                f"{path} can be read by other users of this machine: if it may have been, remove it for a new"
                f" one; else chmod 600 {path}",
            )
