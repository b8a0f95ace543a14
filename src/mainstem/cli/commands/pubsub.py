"""The commands `mainstem pubsub`: for programs that use clients of Google Cloud Pub/Sub.

Owns: their options, and the form of a seed file. Refuses: what topics and subscriptions may have; the Pub/Sub
door, which is asked by its REST API, says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import click

from mainstem.cli.common import json_option, print_error, print_json, print_rows
from mainstem.cli.credentials import credential_options, current_security
from mainstem.cli.exit_codes import ExitCode
from mainstem.stream_errors import InvalidArgument, NotReachable

if TYPE_CHECKING:
    from http.client import HTTPConnection

FILE_BYTES_MAX = 16 << 20
TIMEOUT_S = 30
CONFLICT = 409
PARTS = ("schemas", "topics", "subscriptions")
"""The parts of a seed file, in the order in which they are made: each may name what is before it."""
REQUIRED = {"schemas": ("definition",), "subscriptions": ("topic",)}
"""What items have beside a name; the door's own answer would not name the field."""
NAMED = {"topics": ("topic", "deadLetterTopic"), "schemas": ("schema",)}
"""Fields with the name of another resource, by its collection."""


class SeedItem(NamedTuple):
    """A resource to be made."""

    part: str
    name: str
    """The full name."""
    method: str
    path: str
    body: dict[str, Any]


@click.group("pubsub")
def command() -> None:
    """For programs that use clients of Google Cloud Pub/Sub."""


@command.command("seed")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--at",
    "door",
    envvar="PUBSUB_EMULATOR_HOST",
    default="127.0.0.1:8085",
    show_default=True,
    metavar="HOST:PORT",
    help="Address of the Pub/Sub door, https://HOST:PORT with TLS; also PUBSUB_EMULATOR_HOST. --ca FILE,"
    " --user NAME and others: see docs/CLI.md.",
)
@credential_options
@click.option(
    "--project",
    envvar="GOOGLE_CLOUD_PROJECT",
    default="mainstem",
    show_default=True,
    help="Project of names without one; also GOOGLE_CLOUD_PROJECT.",
)
@json_option
def seed(file: str, door: str, project: str, as_json: bool) -> int:
    """Create the schemas, topics and subscriptions of a file.

    FILE is JSON: an object with lists `schemas`, `topics` and `subscriptions`, whose items are those of
    Pub/Sub's API, or names alone for topics. A name may be an id, which is in the project. What exists
    already stays as it is.

    Columns: kind, name, created or exists.
    """
    items = list(_items(_read(file), project))
    connection = _connect(door)
    results: list[tuple[str, str, str]] = []
    try:
        for item in items:
            outcome, problem = _make(connection, door, item)
            if problem:
                print_error(f"{item.name}: {problem}")
                return ExitCode.FAILED
            results.append((item.part, item.name, outcome))
    finally:
        connection.close()
        if as_json:
            for part, name, outcome in results:
                print_json({"kind": part, "name": name, "outcome": outcome})
        else:
            print_rows(("kind", "name", "outcome"), results)
    return ExitCode.DONE


def _read(file: str) -> dict[str, Any]:
    data = Path(file).read_bytes()
    if len(data) > FILE_BYTES_MAX:
        raise InvalidArgument(f"{file} is larger than {FILE_BYTES_MAX >> 20} MiB")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{file} is no JSON: {error}") from None
    if not isinstance(document, dict) or not document.keys() <= set(PARTS):
        raise InvalidArgument(f"{file} is no object with the lists {', '.join(PARTS)}")
    return document


def _items(document: dict[str, Any], project: str) -> Iterator[SeedItem]:
    for part in PARTS:
        for entry in _list(document.get(part, []), part):
            fields = {"name": entry} if isinstance(entry, str) else entry
            if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
                raise InvalidArgument(f"an item of {part} has no name: {json.dumps(entry)[:200]}")
            for field in REQUIRED.get(part, ()):
                if not fields.get(field):
                    raise InvalidArgument(f"an item of {part} has no {field}: {json.dumps(entry)[:200]}")
            name = _full(fields["name"], part, project)
            body = {**_with_full_names(fields, project), "name": name}
            path = f"/v1/{quote(name, safe='/')}"
            if part == "schemas":
                definition = body.get("definition")
                if not isinstance(definition, str):
                    body["definition"] = json.dumps(definition)
                parent, _, id_ = path.rpartition("/")
                yield SeedItem(part, name, "POST", f"{parent}?schemaId={id_}", body)
            else:
                yield SeedItem(part, name, "PUT", path, body)


def _list(value: Any, part: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidArgument(f"{part} is no list")
    return value


def _full(name: str, part: str, project: str) -> str:
    return name if "/" in name else f"projects/{project}/{part}/{name}"


def _with_full_names(fields: dict[str, Any], project: str) -> dict[str, Any]:
    """The fields, in which names of other resources are full."""
    full: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict) and key != "definition":
            value = _with_full_names(value, project)
        elif isinstance(value, str):
            for part, keys in NAMED.items():
                value = _full(value, part, project) if key in keys else value
        full[key] = value
    return full


def _connect(door: str) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    scheme, separator, place = door.rpartition("://")
    host, _, port = place.rstrip("/").rpartition(":")
    if not host or not port.isdigit() or (separator and scheme not in ("http", "https")):
        raise InvalidArgument(f"{door} is no address: HOST:PORT, or https://HOST:PORT")
    host = host.strip("[]")
    if scheme == "https":
        context = current_security().ssl_context()
        return HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=context)
    return HTTPConnection(host, int(port), timeout=TIMEOUT_S)


def _make(connection: HTTPConnection, door: str, item: SeedItem) -> tuple[str, str]:
    """What became of a resource, and why it failed if it did. NotReachable."""
    from http.client import HTTPException

    headers = {"content-type": "application/json"}
    if (authorization := current_security().authorization()) is not None:
        headers["authorization"] = authorization
    try:
        connection.request(item.method, item.path, json.dumps(item.body), headers)
        response = connection.getresponse()
        data = response.read(FILE_BYTES_MAX)
    except (OSError, HTTPException) as error:
        raise NotReachable(f"cannot connect to the Pub/Sub door at {door}: {error}") from None
    if response.status == CONFLICT:
        return "exists", ""
    return ("created", "") if response.status < 300 else ("", _problem(response.status, data))


def _problem(status: int, data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server replied with status {status}: is it the Pub/Sub door?"
