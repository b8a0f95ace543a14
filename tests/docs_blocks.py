"""The tables in docs/ that are made from the code: `python -m tests.docs_blocks` writes them.

test_docs.py compares them.
A block is between `<!-- begin: name -->` and `<!-- end: name -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from kio.schema.index import api_key_map

import mainstem as package
from mainstem import doors
from mainstem.cli import mainstem
from mainstem.cli.subscriber_health import METRICS as SUBSCRIBER_METRICS
from mainstem.coordinator.groups.group_configs import GROUP_CONFIGS
from mainstem.coordinator.topics.topic_configs import TOPIC_CONFIGS
from mainstem.doors.http import openapi
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.routes.metrics import METRICS
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.rights import NoRights, Right
from mainstem.http_api.problems import KINDS
from mainstem.serve import options as server_options
from tests.compat import suites
from tests.docs_pubsub import pubsub_methods, pubsub_traps
from tests.docs_rabbitmq import methods_table
from tests.doors.rabbitmq_management.documented_paths import management_table, missing_table
from tests.support import cards

DOCS = Path(__file__).parents[1] / "docs"
SOURCE = DOCS.parent / "src" / "mainstem"

NOT_OFFERED = {
    "Between brokers and controllers of a cluster, or on the controller's own port": (
        {4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 64, 67, 70, 73, 80, 81, 82}
    ),
    "Between a broker and the keeper of the state of share groups, which here is one server: there is no"
    " topic `__share_group_state`": {83, 84, 85, 86, 87},
    "Transactions, not yet": {24, 25, 26, 27, 28, 65, 66},
    "Authentication, not yet": {17, 36, 38, 39, 40, 41},
    "The newer consumer protocol (KIP-848), not yet: clients use the classic one": {68, 69},
    "Groups of Kafka Streams (KIP-1071), not yet: Streams uses the classic protocol": {88, 89},
    "Features of a cluster's controllers": {57},
}
"""Why each key of Kafka's schema that has no handler has none."""


def camel(key: int) -> str:
    """A key's name as Kafka writes it."""
    return "".join(word.capitalize() for word in api_key_map[key].split("_"))


def keys() -> str:
    """Every key that is offered, from the cards of the handlers."""
    rows = [cards.read(path) for path in cards.handler_files()]
    return "\n".join(
        [
            "| key | name | versions | left out |",
            "|---|---|---|---|",
            *(f"| {card.key} | {card.name} | {card.versions} | {card.left_out} |" for card in rows),
        ]
    )


def rights() -> str:
    """What each key needs the right to, from the declarations of the handlers."""
    rows = []
    for key, handler in sorted(discover().items()):
        needs = (
            f"nothing: {handler.rights.reason}"
            if isinstance(handler.rights, NoRights)
            else "; ".join(map(_right, handler.rights))
        )
        rows.append(f"| {key} | {camel(key)} | {needs} |")
    return "\n".join(["| key | name | needs the right to |", "|---|---|---|", *rows])


def _right(right: Right) -> str:
    kind = right.resource_type.name.lower()
    on = f"the {kind}" if right.name_of is not None or kind == "cluster" else f"each {kind}"
    text = f"{right.operation.name} {on}"
    if right.or_cluster is not None:
        text += f", or {right.or_cluster.name} the cluster"
    if right.or_any is not None:
        operation, any_kind = right.or_any
        text += f", or {operation.name} any {any_kind.name.lower()}"
    return f"{text} ({right.when})" if right.when else text


def keys_not_offered() -> str:
    """Every key of Kafka's schema that is not offered, with the reason."""
    offered = {cards.read(path).key for path in cards.handler_files()}
    reasons = {key: why for why, group in NOT_OFFERED.items() for key in group}
    absent = set(api_key_map) - offered
    assert absent <= set(reasons), f"without a reason: {sorted(absent - set(reasons))}"
    rows = []
    for why, group in NOT_OFFERED.items():
        names = ", ".join(f"{camel(key)} ({key})" for key in sorted(group & absent))
        if names:
            rows.append(f"| {why} | {names} |")
    return "\n".join(["| why | keys |", "|---|---|", *rows])


def topic_settings() -> str:
    """Every setting of a topic."""
    rows = [
        f"| `{config.name}` | {config.type} | {f'`{config.default}`' if config.default else 'empty'} "
        f"| {config.documentation} |"
        for config in TOPIC_CONFIGS.values()
    ]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def group_settings() -> str:
    """Every setting of a group."""
    rows = [
        f"| `{config.name}` | {config.type} | {f'`{config.default}`' if config.default else 'empty'} "
        f"| {f'`{config.field}`' if config.field else ''} | {config.documentation} |"
        for config in GROUP_CONFIGS.values()
    ]
    head = "| setting | type | default | of the subscription | meaning |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def clients() -> str:
    """Every client whose suite runs against a real server, and what its report card says."""
    card = suites.report() if suites.REPORT.exists() else {}
    rows = []
    for name in suites.SUITES:
        verdicts = card.get(name, {})
        failed = [
            f"`{case}`: {verdict.removeprefix('fail: ')}"
            for case, verdict in verdicts.items()
            if verdict != "pass"
        ]
        passed = len(verdicts) - len(failed) if verdicts else "not on the report card yet"
        rows.append(f"| {name} | {passed} | {'; '.join(failed)} |")
    return "\n".join(["| suite | cases that pass | cases that do not |", "|---|---|---|", *rows])


def files() -> str:
    """Every module of the source, with the first sentence of its head; handlers are listed in KAFKA.md."""
    rows = []
    for path in sorted(SOURCE.rglob("*.py"), key=lambda path: (path.parent, path.name)):
        head = ast.get_docstring(ast.parse(path.read_text()))
        if head and path.parent != cards.HANDLERS:
            first = " ".join(head.split("\n\n")[0].split())
            rows.append(f"| `{path.relative_to(SOURCE).as_posix()}` | {first} |")
    return "\n".join(["| file | what it is |", "|---|---|", *rows])


def commands(group: click.Group = mainstem, path: str = "mainstem") -> Iterator[tuple[str, click.Command]]:
    """(words, command) of every command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def options() -> str:
    """What each command says of itself with --help."""
    lines = []
    for words, command in commands():
        context = click.Context(command, info_name=words, terminal_width=100, **mainstem.context_settings)
        lines += [f"### `{words}`", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines)


def http_routes() -> str:
    """Every route of the HTTP door."""
    rows = []
    for endpoint in ENDPOINTS:
        what = " ".join((inspect.getdoc(endpoint.handle) or "").split("\n\n")[0].split())
        rights = endpoint.rights.text or "a login"
        rows.append(f"| `{endpoint.method} {openapi.path_of(endpoint)}` | {what} | {rights} |")
    return "\n".join(["| route | what it does | what it needs |", "|---|---|---|", *rows])


def http_problems() -> str:
    """Every kind of problem."""
    rows = [f"| `{name}` | {kind.status} | {kind.title} | {kind.fix} |" for name, kind in KINDS.items()]
    return "\n".join(["| `urn:mainstem:…` | status | title | what to do |", "|---|---|---|---|", *rows])


def http_metrics() -> str:
    """Every metric, those that doors declare at the end."""
    door_metrics = {name: metric for door in doors.DOORS for name, metric in door.metrics.items()}
    rows = [
        f"| `{name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.text} |"
        for name, metric in (METRICS | door_metrics).items()
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def settings_table() -> str:
    """Every setting of the server."""
    lines = ["| setting | default | Kafka's name | meaning |", "|---|---|---|---|"]
    for setting in server_options.definitions():
        kafka = f"`{setting.kafka}`" if setting.kafka else ""
        default = f"`{setting.shown_default}`" if setting.shown_default else ""
        lines.append(f"| `{setting.name}` | {default} | {kafka} | {setting.doc} |")
    return "\n".join(lines)


def server_flags() -> str:
    """The flags of `mainstem serve`, in one line."""
    shown = []
    for setting in server_options.definitions():
        if setting.has_flag:
            value = "|".join(setting.choices) or setting.metavar
            name = f" (`{setting.name}`)" if setting.flag_name else ""
            shown.append(f"`{setting.flag}{' ' if value else ''}{value}`{name}")
    return ", ".join(shown)


def door_table() -> str:
    """Every door."""
    rows = [
        f"| {door.title} | `{door.name}` | `{door.flag} HOST:PORT` | {door.port} |"
        f" {'yes' if door.on_by_default else 'no'} |"
        for door in doors.DOORS
    ]
    return "\n".join(
        [
            "| door | its name in `--doors` | its flag | usual port | on by default |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def python_names() -> str:
    """Every public name of the Python API, and the members of its classes, with the first sentence."""
    rows = []
    names = sorted(set(package.__all__) - {"connect", "__version__"}, key=str.lower)
    for name in ("connect", "open", *names):
        value = getattr(package, name)
        rows.append(f"| `{name}` | {_first_sentence(value)} |")
        if name in DESCRIBED_BY_MEMBERS:
            members = [member for member in vars(value) if not member.startswith("_")]
            described = [(member, getattr(value, member)) for member in members]
            rows += [
                f"| `{name}.{member}` | {_first_sentence(thing)} |"
                for member, thing in described
                if callable(thing) or isinstance(thing, property)
            ]
    return "\n".join(["| name | meaning |", "|---|---|", *rows])


DESCRIBED_BY_MEMBERS = {"Event", "Stream", "Topic"}
"""The classes whose members are listed. Those of others are the same words, or fields."""


def _first_sentence(value: object) -> str:
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", text)[0].replace("|", "\\|")


def subscriber_metrics() -> str:
    """The metrics of `mainstem run --health`."""
    rows = [f"| `{metric.name}` | {metric.type} | {metric.help} |" for metric in SUBSCRIBER_METRICS]
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows])


BLOCKS: dict[str, dict[str, Callable[[], str]]] = {
    "RABBITMQ.md": {
        "amqp methods": methods_table,
        "management": management_table,
        "management-missing": missing_table,
    },
    "ARCHITECTURE.md": {"files": files},
    "CLI.md": {"options": options, "subscriber metrics": subscriber_metrics},
    "HTTP.md": {"routes": http_routes, "problems": http_problems, "metrics": http_metrics},
    "KAFKA.md": {
        "keys": keys,
        "keys not offered": keys_not_offered,
        "topic settings": topic_settings,
        "group settings": group_settings,
        "clients": clients,
    },
    "PUBSUB.md": {"pubsub methods": pubsub_methods, "pubsub traps": pubsub_traps},
    "PYTHON.md": {"python-names": python_names},
    "SECURITY.md": {"rights": rights},
    "SETTINGS.md": {"flags": server_flags, "doors": door_table, "settings": settings_table},
}


def filled(page: str) -> str:
    """The page with its blocks as they should be."""
    text = (DOCS / page).read_text()
    for name, make in BLOCKS[page].items():
        before, begin, rest = text.partition(f"<!-- begin: {name} -->\n")
        _, end, after = rest.partition(f"<!-- end: {name} -->")
        assert begin, f"docs/{page} needs a block named {name}"
        assert end, f"docs/{page}: the block {name} has no end"
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for name in BLOCKS:
        (DOCS / name).write_text(filled(name))
        print(f"docs/{name}", file=sys.stderr)
