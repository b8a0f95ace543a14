"""The command `mainstem console`: runs the console in front of a Kafka cluster."""

from __future__ import annotations

import click

from mainstem.cli.common import at_option, print_error
from mainstem.cli.exit_codes import CANNOT_SERVE, ExitCode


@click.command("console")
@at_option
@click.option(
    "--http", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where to listen."
)
@click.option(
    "--http-hosts",
    default="",
    metavar="NAMES",
    help="Host names that browsers may use besides localhost, separated by commas.",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Folder for token filters, which make searches faster.  [default: mainstem in the user's cache]",
)
@click.option("--http-read-only", is_flag=True, help="Refuse every change.")
@click.option(
    "--allow-anonymous",
    is_flag=True,
    help="Permit addresses that other machines reach, without authentication.",
)
def command(
    address: str, http: str, http_hosts: str, data: str | None, http_read_only: bool, allow_anonymous: bool
) -> int:
    """Run the console and the HTTP API in front of a Kafka cluster.

    For a mainstem server you do not need this: `mainstem serve` includes both. Prints one line when browsers
    can connect; logs are written to standard error. In the background it reads the events of the cluster
    once, newest first and at most 16 MiB per second, and builds token filters, with which searches read much
    less.
    """
    from mainstem.serve import console, logs
    from mainstem.serve.errors import CannotServe

    logs.set_up("info", as_json=False)
    settings = console.ConsoleSettings(
        cluster_address=address,
        http=http,
        http_hosts=http_hosts,
        data=data,
        read_only=http_read_only,
        allow_anonymous=allow_anonymous,
    )
    try:
        console.run(settings, ready=click.echo)
    except CannotServe as error:
        print_error(str(error))
        return CANNOT_SERVE[error.reason]
    return ExitCode.DONE
