"""The command `mainstem import`: takes over what is declared on another server.

Owns: its options and columns. Refuses: to read a file larger than the server takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mainstem.cli.common import at_option, json_option, print_error, print_json, print_rows
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.http_door import with_door
from mainstem.stream_errors import InvalidArgument, StreamError

if TYPE_CHECKING:
    from mainstem.http_api.definitions import ImportReport

FILE_BYTES_MAX = 16 << 20
NO_SUCH_API = ("there is nothing at", "gave no reason")
"""What the errors say of a server without the door, and of a refusal by it."""
PATH = "/rabbitmq/api/definitions?report=true"


@click.group("import")
def command() -> None:
    """Take over what is declared on another server."""


@command.command("rabbitmq")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@at_option
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
@json_option
def import_rabbitmq(file: str, address: str, dry_run: bool, as_json: bool) -> int:
    """Declare what RabbitMQ's definitions say: virtual hosts, exchanges, queues, bindings, policies.

    FILE is that of `rabbitmqctl export_definitions` or of the management API. What exists already stays as it
    is. Users keep their passwords, but for SCRAM; `guest` is skipped, whose password everybody knows. The
    server needs `--rabbitmq-management`.

    Columns: part of the document, how many items are there now, how many were skipped. Why is on standard
    error.
    """
    document = _read(file)
    path = PATH + ("&dry_run=true" if dry_run else "")

    async def work(door: str) -> ImportReport:
        from mainstem.cli.http_client import request_json
        from mainstem.http_api.definitions import ImportReport

        try:
            return await request_json(door, "POST", path, document, ImportReport)
        except StreamError as error:
            if not any(text in str(error) for text in NO_SUCH_API):
                raise
            raise StreamError(
                f"{door} has no management API of RabbitMQ, or refuses this: the server needs"
                " --rabbitmq-management"
            ) from None

    report = with_door(address, work)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report.error:
        print_error(report.error)
        return ExitCode.FAILED
    return ExitCode.BAD_INPUT if report.skipped else ExitCode.DONE


def _read(file: str) -> Any:
    import msgspec

    data = Path(file).read_bytes()
    if len(data) > FILE_BYTES_MAX:
        raise InvalidArgument(f"{file} is larger than {FILE_BYTES_MAX >> 20} MiB")
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"{file} is no document of definitions")
    return document


def _print(report: ImportReport) -> None:
    parts = dict.fromkeys([*report.taken, *(item["part"] for item in report.skipped)])
    rows = [
        (part, report.taken.get(part, 0), sum(item["part"] == part for item in report.skipped))
        for part in parts
    ]
    print_rows(("part", "taken", "skipped"), rows)
    for item in report.skipped:
        print_error(f"skipped {item['part']} {item['name']}: {item['reason']}")
