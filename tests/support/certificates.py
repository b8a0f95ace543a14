"""Certificates for tests, made once for each process."""

from __future__ import annotations

import functools
import ssl
import tempfile
from pathlib import Path

from mainstem.certificates import CertificateFiles, make_client, make_server


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="certificates-")  # it is removed at the end of the process


@functools.cache
def server_files() -> CertificateFiles:
    """The files of a server on this machine."""
    return make_server(Path(_folder().name))


@functools.cache
def client_files(name: str) -> CertificateFiles:
    """The files of a client."""
    return make_client(Path(server_files().ca.parent), name)


def client_context(name: str | None = None) -> ssl.SSLContext:
    """The TLS of a client that trusts `server_files`, and shows the certificate of `name` if it is given."""
    context = ssl.create_default_context(cafile=str(server_files().ca))
    if name is not None:
        files = client_files(name)
        context.load_cert_chain(files.cert, files.key)
    return context
