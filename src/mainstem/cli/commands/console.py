"""The command `mainstem console`: runs the console in front of a Kafka cluster."""

from __future__ import annotations

import click

from mainstem.cli.common import at_option, print_error
from mainstem.cli.credentials import current_security
from mainstem.cli.exit_codes import CANNOT_SERVE, ExitCode


@click.command("console")
@at_option
@click.option(
    "--http", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where to listen."
)
@click.option(
    "--http-hosts",
    metavar="NAMES",
    help="Host names that browsers may use besides localhost, separated by commas.",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Folder of this console: users, their rights, masked fields, API tokens and the audit; and token"
    " filters, which make searches faster.  [default: mainstem in the user's cache, for token filters only]",
)
@click.option(
    "--secure",
    is_flag=True,
    default=None,
    help="TLS, a login and access control; the first start makes what that needs in --data.",
)
@click.option(
    "--access-control",
    is_flag=True,
    default=None,
    help="Deny what no access control entry in --data allows, to all but super users.",
)
@click.option(
    "--super-users", metavar="PRINCIPALS", help="Principals that may do everything: User:admin;User:bob."
)
@click.option("--http-read-only", is_flag=True, default=None, help="Refuse every change.")
@click.option("--tls-cert", metavar="FILE", help="Certificate of --http SSL://HOST:PORT, PEM.")
@click.option("--tls-key", metavar="FILE", help="The certificate's key, PEM, mode 0600.")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    default=None,
    help="Permit addresses that other machines reach, without authentication.",
)
@click.option(
    "--config", metavar="FILE", envvar="MAINSTEM_CONFIG", help="TOML file with settings (docs/SETTINGS.md)."
)
def command(address: str, http: str, data: str | None, config: str | None, **flags: object) -> int:
    """Run the console and the HTTP API in front of a Kafka cluster.

    For a mainstem server you do not need this: `mainstem serve` includes both. Prints one line when browsers
    can connect; logs are written to standard error. In the background it reads the events of the cluster
    once, newest first and at most 16 MiB per second, and builds token filters, with which searches read much
    less.

    The cluster sees one account: that of --user, --client-config and the like. With --secure, or with users
    in --data (`mainstem users add NAME --data DIR`), people log in at the console, and what no entry of its
    own allows is denied before the cluster is asked.
    """
    import os

    from mainstem.cli.secure_line import say_secure
    from mainstem.serve import console, logs
    from mainstem.serve.errors import CannotServe

    logs.set_up("info", as_json=False)
    settings = console.ConsoleSettings(
        cluster_address=address,
        http=http,
        data=data,
        flags=flags,
        environ=os.environ,
        config=config,
        security=current_security(),
    )
    try:
        console.run(settings, ready=click.echo, on_secure=say_secure)
    except CannotServe as error:
        print_error(str(error))
        return CANNOT_SERVE[error.reason]
    return ExitCode.DONE
