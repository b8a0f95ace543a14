"""Makes certificates for development and for one's own network: an authority, and what it signs.

Owns: the authority's folder with `ca.pem`, `ca-key.pem`, `server.pem`, `server-key.pem` and a pair of files
for each client, all for their owner alone. Refuses: to replace an authority that exists, because its
certificates are in use, and names that are no names of machines or users.

The keys are of the curve P-256. `cryptography` is imported when the first certificate is made.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_DAYS = 3_650
DAYS = 397
"""What browsers accept of a server at most is 398 days."""
RENEW_DAYS = 30
"""A server's certificate that ends sooner is made again."""
HOST_CHARACTERS_MAX = 253
NAME_CHARACTERS_MAX = 64
"""Length of a common name (RFC 5280)."""


class CertificatesError(Exception):
    """The error for certificates that cannot be made. The message is one line."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Files in PEM: the authority, a certificate that it signed, and the certificate's key."""

    ca: Path
    cert: Path
    key: Path


def make_server(folder: Path, hosts: Sequence[str] = ()) -> CertificateFiles:
    """A certificate of a server for this machine's name, localhost, the addresses of loopback and `hosts`,
    and its authority if the folder has none. One that is there stays if it is for all of these names and does
    not end soon. CertificatesError: a host is neither a name nor an address, or files cannot be read or
    written."""
    files = CertificateFiles(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")
    names = list(dict.fromkeys(_host(host) for host in (*hosts, "localhost", "127.0.0.1", "::1")))
    own_name = platform.node().lower()
    with contextlib.suppress(CertificatesError):
        names = list(dict.fromkeys([*names, _host(own_name)]))
    with _reported(folder):
        authority = _Authority(folder)
        if not authority.is_usable(files, names):
            authority.sign(files, names[0], names)
    return files


def make_client(folder: Path, name: str) -> CertificateFiles:
    """A certificate of the client `name`, its subject is CN=`name`, signed by the authority of the folder,
    which is made if there is none. A certificate that is there is replaced. CertificatesError as above."""
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable() or set(name) & set("/\\\0"):
        raise CertificatesError(f"{name!r} is not the name of a client: 1 to 64 characters without / and \\")
    if name.startswith("."):
        raise CertificatesError(f"{name!r} is not the name of a client: it begins with a dot")
    files = CertificateFiles(
        folder / "ca.pem", folder / f"client-{name}.pem", folder / f"client-{name}-key.pem"
    )
    with _reported(folder):
        _Authority(folder).sign(files, name)
    return files


@contextlib.contextmanager
def _reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CertificatesError(f"{error.filename or folder}: {error.strerror}") from None
    except ValueError as error:
        raise CertificatesError(f"{folder} has a file that is not PEM of an authority: {error}") from None


class _Authority:
    """The authority in a folder; it is made if there is none. OSError, ValueError: its files are unusable."""

    def __init__(self, folder: Path) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

        self._now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).replace(microsecond=0)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        cert, key = folder / "ca.pem", folder / "ca-key.pem"
        if not cert.exists() and not key.exists():
            self._make(cert, key)
            return
        self._cert = x509.load_pem_x509_certificate(cert.read_bytes())
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, EllipticCurvePrivateKey) or loaded.public_key() != self._cert.public_key():
            raise ValueError(f"{key.name} is not the key of {cert.name}")
        self._key = loaded

    def _make(self, cert: Path, key: Path) -> None:
        from cryptography import x509

        self._key = _new_key()
        name = _common_name(f"mainstem development CA of {platform.node() or 'this machine'}"[:64])
        builder = self._builder(name, name, self._key, CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        self._cert = self._signed(builder)
        _write(key, _key_pem(self._key))
        _write(cert, _cert_pem(self._cert))

    def is_usable(self, files: CertificateFiles, hosts: Sequence[str]) -> bool:
        """Whether the server's certificate is there, of this authority, for all of these hosts, and does not
        end soon."""
        from cryptography import x509

        if not (files.cert.exists() and files.key.exists()):
            return False
        cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = {str(name.value) for name in names}
        ends_late = cert.not_valid_after_utc > self._now + datetime.timedelta(days=RENEW_DAYS)
        return ends_late and known.issuperset(hosts) and cert.issuer == self._cert.subject

    def sign(self, files: CertificateFiles, name: str, hosts: Sequence[str] = ()) -> None:
        """Write a key and a certificate: of a server if there are `hosts`, else of a client."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = _new_key()
        builder = self._builder(_common_name(name[:64]), self._cert.subject, key, DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        cert = self._signed(builder)
        _write(files.key, _key_pem(key))
        _write(files.cert, _cert_pem(cert) + _cert_pem(self._cert))

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        from cryptography import x509

        begin = self._now - datetime.timedelta(hours=1)  # for clocks that are slow
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(self._now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        from cryptography.hazmat.primitives.hashes import SHA256

        return builder.sign(self._key, SHA256())


def _host(text: str) -> str:
    """A host in the form that certificates have it in. CertificatesError if it is none."""
    host = text.strip("[]").lower()
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    labels = host.removeprefix("*.").split(".")
    if len(host) > HOST_CHARACTERS_MAX or not all(
        label.isascii() and label.replace("-", "").replace("_", "").isalnum() for label in labels
    ):
        raise CertificatesError(f"{text!r} is neither the name nor the IP address of a machine")
    return host


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _common_name(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _cert_pem(cert: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return cert.public_bytes(Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    """Write the file, for its owner alone, whole or not at all."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, path)
