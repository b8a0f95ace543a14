"""TLS of a listener: its certificates, which clients have to show one, and who those are.

Owns: the contexts of OpenSSL, the choice of a certificate by the name that the client asks for (SNI), reading
changed files again, and how many handshakes may be in progress. Refuses: TLS before 1.2, ciphers without
forward secrecy, renegotiation, keys that other users of the machine can read, and files that do not fit
together: those of before stay in use then.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mainstem.access_contract import Principal
from mainstem.doors.net.certificate import CertificateError, CertificateInfo, read_certificate
from mainstem.doors.net.principal_rules import PrincipalRules

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; TLS 1.3 has none that are weak."""
VERSIONS: dict[Literal["1.2", "1.3"], ssl.TLSVersion] = {
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
VERIFY: dict[Literal["none", "requested", "required"], ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "requested": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class TlsError(Exception):
    """The error for a certificate, a key or a file of them that cannot be used. The message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """What the settings say of the TLS of a listener."""

    files: tuple[tuple[str, str], ...]
    """(certificate and chain, key) in PEM for each certificate, the usual one first; both may be one file."""
    client_ca: str = ""
    """File of the certificates, in PEM, that sign those of clients."""
    client_auth: Literal["none", "requested", "required"] = "none"
    """Whether clients have to show a certificate: Kafka's `ssl.client.auth`."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    alpn: tuple[str, ...] = ()
    """Protocols that clients may ask for in the handshake."""
    rules: PrincipalRules
    """How a user's name follows from the name of a certificate."""
    handshake_s: float = 10.0
    """How long a client may take for the handshake."""
    handshakes_max: int = 5_000
    """Number of handshakes in progress; one more ends the oldest."""


class Handshake(Protocol):
    """A connection whose handshake is in progress."""

    def abort(self) -> None:
        """End it at once."""


class ServerTls:
    """TLS of one listener. TlsError if its files cannot be used."""

    def __init__(self, options: TlsOptions) -> None:
        self.options = options
        self._handshakes: dict[Handshake, None] = {}
        self._ends_handshakes = False
        self._state = self._file_state()
        self._context, self.certificates = self._load()

    @property
    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        return self._context

    def reload(self, *, forced: bool = False) -> bool:
        """Read the files again if they have changed, or if `forced`; whether they were read. TlsError: they
        cannot be used, and those of before stay in use; it is not raised again until they change again."""
        state = self._file_state()
        if state == self._state and not forced:
            return False
        self._state = state
        self._context, self.certificates = self._load()
        return True

    def principal(self, certificate: bytes | None, default: Principal) -> Principal | None:
        """Who a client is that showed this certificate, in DER; `default` without one. None: it has a name
        that no rule accepts."""
        if certificate is None:
            return default
        try:
            return self.options.rules.principal(read_certificate(certificate).subject)
        except CertificateError:
            return None

    def handshake_begins(self, handshake: Handshake) -> None:
        """Count a handshake until `handshake_ends`. The oldest is aborted if there are too many: handshakes
        of honest clients take milliseconds, so it is one of those that do not finish."""
        if self._ends_handshakes:
            handshake.abort()
            return
        if len(self._handshakes) >= self.options.handshakes_max:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.abort()
        self._handshakes[handshake] = None

    def handshake_ends(self, handshake: Handshake) -> None:
        """The handshake is over, or has failed. Idempotent."""
        self._handshakes.pop(handshake, None)

    def cancel_handshakes(self) -> None:
        """End the connections whose handshake is in progress, and each that begins later: of a connection
        that was accepted before, and whose door is being opened."""
        self._ends_handshakes = True
        for handshake in list(self._handshakes):
            handshake.abort()

    def _file_state(self) -> tuple[object, ...]:
        return tuple(
            map(_state, (*(path for pair in self.options.files for path in pair), self.options.client_ca))
        )

    def _load(self) -> tuple[ssl.SSLContext, tuple[CertificateInfo, ...]]:
        contexts, infos = [], []
        for cert, key in self.options.files:
            check_private(key or cert)
            contexts.append(_context(self.options, cert, key))
            infos.append(_first_certificate(cert))
        if len(contexts) > 1:
            contexts[0].sni_callback = _Chooser(contexts, infos)
        return contexts[0], tuple(infos)


def _state(path: str) -> tuple[object, ...]:
    """What changes when a file is replaced or written."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (error.errno,)
    return status.st_mtime_ns, status.st_size, status.st_ino


def check_private(path: str) -> None:
    """TlsError if other users of this machine can read the key, or it cannot be read. A file of root may be
    readable for its group, as PostgreSQL has it."""
    try:
        status = os.stat(path)
        readable = os.access(path, os.R_OK)
    except OSError as error:
        raise TlsError(f"key file {path} cannot be read: {error.strerror}") from None
    if not readable:
        raise TlsError(f"key file {path} cannot be read by this user")
    permitted = 0o740 if status.st_uid == 0 and os.geteuid() != 0 else 0o700
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~permitted & 0o777:
        raise TlsError(f"key file {path} can be read by others (mode {mode:04o}): chmod 600 {path}")


def _context(options: TlsOptions, cert: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[options.min_version]
    context.set_ciphers(CIPHERS)
    context.options |= (
        ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    )
    context.num_tickets = (
        0  # an idle connection costs less, and a revoked certificate does not live on in them
    )
    context.verify_mode = VERIFY[options.client_auth]
    if options.alpn:
        context.set_alpn_protocols(options.alpn)
    try:
        context.load_cert_chain(cert, key or None, password=_no_password)
    except _EncryptedKey:
        raise TlsError(f"key file {key or cert} is encrypted: give one that is not, of mode 0600") from None
    except ssl.SSLError as error:
        what = "the key does not belong to the certificate" if "MISMATCH" in str(error) else "no such PEM"
        raise TlsError(f"certificate {cert}, key {key or cert}: {what} ({error.reason})") from None
    except OSError as error:
        raise TlsError(f"certificate {cert} cannot be read: {error.strerror}") from None
    if options.client_auth != "none":
        try:
            context.load_verify_locations(options.client_ca)
        except ssl.SSLError as error:
            raise TlsError(f"{options.client_ca} has no certificates in PEM ({error.reason})") from None
        except OSError as error:
            raise TlsError(f"{options.client_ca} cannot be read: {error.strerror}") from None
    return context


class _EncryptedKey(Exception):
    """The error for a key that asks for a password."""


def _no_password() -> str:
    raise _EncryptedKey


def _first_certificate(path: str) -> CertificateInfo:
    try:
        with open(path, encoding="latin-1") as file:
            text = file.read()
        start = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
        return read_certificate(ssl.PEM_cert_to_DER_cert(text[start:end]))
    except OSError as error:
        raise TlsError(f"certificate {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise TlsError(f"certificate {path}: not an X.509 certificate in PEM") from None


class _Chooser:
    """Chooses the certificate by the name that the client asks for; the first one if none is for it."""

    def __init__(self, contexts: Sequence[ssl.SSLContext], infos: Sequence[CertificateInfo]) -> None:
        self._pairs = list(zip(contexts, infos, strict=True))

    def __call__(self, client: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        for context, info in self._pairs:
            if name and info.is_for(name):
                client.context = context
                return
