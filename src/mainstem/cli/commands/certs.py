"""The command `mainstem certs`: makes certificates for TLS.

Owns: its options, and what it says about the next step. Refuses: nothing; `mainstem.certificates` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import print_error
from mainstem.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from mainstem.certificates import CertificateFiles

dir_option = click.option(
    "--dir",
    "folder",
    default="mainstem-certs",
    show_default=True,
    metavar="DIR",
    help="Folder of the files; made if missing.",
)


@click.group("certs", invoke_without_command=True)
@dir_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Another name or address that clients know the machine by; may be repeated.",
)
@click.pass_context
def command(ctx: click.Context, folder: str, hosts: tuple[str, ...]) -> int:
    """Make the certificate of a server, and an authority to sign it if there is none.

    It is for the name of this machine, localhost, the addresses of loopback and each --host. A certificate
    that is there already stays if it is for all of these and does not end within 30 days; a new one can
    replace it while the server runs. Clients have to trust the authority: give them its file, ca.pem. Keep
    ca-key.pem secret: who has it can pretend to be the server and every client. All files are for their owner
    alone (mode 0600).
    """
    if ctx.invoked_subcommand is not None:
        return ExitCode.DONE
    from mainstem.certificates import make_server

    def hint(files: CertificateFiles) -> str:
        return f"serve with it: mainstem serve --tls-cert {files.cert} --tls-key {files.key}"

    return _make(lambda: make_server(Path(folder), hosts), hint)


@command.command("client")
@click.argument("name", metavar="NAME")
@dir_option
def make_client_files(name: str, folder: str) -> int:
    """Make a certificate that says who a client is: the user CN=NAME.

    A server with --tls-client-auth and --tls-client-ca ca.pem accepts it. A certificate of this name that is
    there already is replaced.
    """
    from mainstem.certificates import make_client

    def hint(files: CertificateFiles) -> str:
        return f"a server knows its owner as User:CN={name}, if it has: --tls-client-ca {files.ca}"

    return _make(lambda: make_client(Path(folder), name), hint)


def _make(make: Callable[[], CertificateFiles], hint: Callable[[CertificateFiles], str]) -> int:
    from mainstem.certificates import CertificatesError

    try:
        files = make()
    except CertificatesError as error:
        print_error(str(error))
        return ExitCode.FAILED
    click.echo(f"ca={files.ca}  cert={files.cert}  key={files.key}")
    click.echo(hint(files), err=True)
    return ExitCode.DONE
