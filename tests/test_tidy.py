"""Style is a test: sizes, docstrings, cards, what may be imported where, words that do not belong.

Each rule is one test and names every offender. Sizes are a ratchet: see tidy_exemptions.toml.
"""

from __future__ import annotations

import ast
import configparser
import gc
import importlib
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from kio.schema.index import api_key_map, schema_name_map
from kio.static.constants import EntityType

from mainstem.doors import DOORS
from tests.support import cards

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "mainstem"
MODULE_LINES = 500
FUNCTION_LINES = 70
FUNCTION_LINES_P95 = 40
FILE_BYTES_MAX = 300_000
HANDLERS = cards.handler_files()


def python_files(*folders: str) -> list[Path]:
    """Every Python file of the project below these folders, sorted."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def name_of(path: Path) -> str:
    """How a file is named in messages and exemptions."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """The file, parsed."""
    return ast.parse(path.read_text(), str(path))


@pytest.fixture(scope="module", autouse=True)
def trees() -> Iterator[None]:
    """The parsed files are millions of objects: the garbage collector does not walk through them while they
    are made, and they are not there for the tests that this process runs next."""
    gc.disable()
    yield
    tree_of.cache_clear()
    code_of_all.cache_clear()
    gc.enable()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(where, lines) of each function of a file, also methods and inner ones; decorators are not counted."""

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    assert child.end_lineno is not None
                    yield f"{name_of(path)}:{name}", child.end_lineno - child.lineno + 1
                yield from inside(child, f"{name}.")
            else:
                yield from inside(child, prefix)

    yield from inside(tree_of(path), "")


def exemptions(kind: str) -> dict[str, int]:
    """What tidy_exemptions.toml allows: name -> lines."""
    table = tomllib.loads((ROOT / "tests" / "tidy_exemptions.toml").read_text())
    assert set(table) <= {"function", "module"}
    entries = table.get(kind, [])
    assert all(set(entry) == {"where", "lines", "since", "why"} for entry in entries)
    return {entry["where"]: entry["lines"] for entry in entries}


def over(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """Those above the limit."""
    return {where: lines for where, lines in sizes.items() if lines > limit}


def test_no_module_is_longer_than_its_limit() -> None:
    sizes = {
        name_of(path): len(path.read_text().splitlines()) for path in python_files("src", "tests", "bench")
    }
    assert over(sizes, MODULE_LINES) == exemptions("module")


def test_functions_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = dict(size for path in python_files("src", "tests", "bench") for size in functions(path))
    own = sorted(lines for where, lines in sizes.items() if where.startswith("src/"))
    median, p95 = statistics.median(own), own[len(own) * 95 // 100]
    with capsys.disabled():
        print(f"\nsizes: {len(own)} functions, lines: median {median:g}, p95 {p95}, max {own[-1]}")
    assert over(sizes, FUNCTION_LINES) == exemptions("function")
    assert p95 <= FUNCTION_LINES_P95


def test_every_module_says_what_it_is() -> None:
    silent = [
        name_of(path)
        for path in python_files("src", "tests", "bench", "examples")
        if path.read_text().strip() and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.stem)
def test_a_handlers_card_file_name_and_versions_agree(path: Path) -> None:
    card = cards.read(path)
    handler = importlib.import_module(f"mainstem.doors.kafka.handlers.{path.stem}").HANDLER
    assert handler.key == card.key
    assert handler.versions == (card.low, card.high)
    assert (card.low if handler.advertised_from is None else handler.advertised_from) == card.advertised
    assert api_key_map[handler.key].replace("_", "") == card.name.lower()
    assert path.stem == f"k{handler.key:02}_{api_key_map[handler.key]}"


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.stem)
def test_a_handler_offers_versions_that_the_schema_has(path: Path) -> None:
    handler = importlib.import_module(f"mainstem.doors.kafka.handlers.{path.stem}").HANDLER
    known = schema_name_map[api_key_map[handler.key]]
    low, high = handler.versions
    missing = [v for v in range(low, high + 1) if EntityType.request not in known.get(v, {})]
    assert missing == []
    assert low <= min(known), (
        "a version that clients may still use is not offered" if low > min(known) else ""
    )


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


SANS_IO = (
    "amqp",
    "authentication",
    "doors",
    "kafka_protocol",
    "coordinator",
    "log/commit",
    "log/partition",
    "log/recovery",
    "log/storage",
    "queues",
    "search/blocks",
    "search/cluster/client_protocol.py",
    "search/index/layout.py",
    "search/ipc.py",
    "search/match",
    "search/query",
    "search/text",
)
"""Folders and files below src/mainstem that get bytes, time and randomness as arguments."""
IO_MODULES = {"asyncio", "socket", "time", "select", "selectors", "ssl", "threading", "subprocess", "uvloop"}
IO_ALLOWED = {
    "doors/amqp091/server.py": "connects accepted sockets with the state machine of connection.py",
    "amqp/moved_copies.py": "has a lock of its note",
    "doors/amqp091/stream_consumer.py": "cancels the task that reads for it",
    "amqp/publisher.py": "answers with a future",
    "amqp/topic_publisher.py": "waits for several requests of the engine",
    "amqp/stream_publisher.py": "waits for several requests of the engine",
    "amqp/vhost.py": "answers with a future",
    "amqp/vhost_exchanges.py": "waits for several requests of the engine",
    "amqp/vhost_queues.py": "waits for several requests of the engine",
    "amqp/vhost_state.py": "has locks of names",
    "amqp/vhosts.py": "has the tasks of virtual hosts",
    "doors/http/audit.py": "names asyncio.CancelledError, to write the line of a cancelled action",
    "doors/http/bodies.py": "gives the stream of a request body a deadline",
    "doors/http/connection.py": "is the protocol class of a connection, which asyncio calls with a transport",
    "doors/http/endpoint.py": "holds the door's semaphore of searches and its closing event",
    "doors/http/routes/export.py": "compresses Parquet in a thread",
    "doors/http/sampler.py": "waits for the door's closing event",
    "doors/http/server.py": "connects accepted sockets with uvicorn",
    "doors/kafka/server.py": "connects accepted sockets with the state machine of connection.py",
    "doors/pubsub/exchange.py": "runs functions of methods as tasks, and has the futures that they wait for",
    "doors/pubsub/rest.py": "ends calls whose client is gone, and gives bodies a deadline",
    "doors/pubsub/schema_catalog.py": "has a lock of the changes of schemas",
    "doors/pubsub/http1.py": "passes sockets of HTTP/1.1 to uvicorn",
    "doors/pubsub/server.py": "connects accepted sockets with the state machine of grpc_connection.py",
    "doors/pubsub/streaming_pull.py": "has the two tasks of a stream",
    "doors/pubsub/topic_catalog.py": "has a lock of the changes of topics",
    "doors/rabbitmq_stream/server.py": "connects accepted sockets with the state machine of connection.py",
    "doors/rabbitmq_management/accounting.py": "names asyncio.CancelledError, of a change that is cancelled",
    "doors/rabbitmq_management/bodies.py": "gives a request body a deadline",
    "doors/rabbitmq_management/server.py": "connects accepted sockets with uvicorn",
    "doors/rabbitmq_management/user_admin.py": "hashes passwords in a thread",
    "doors/net/accepted.py": "passes an accepted socket to asyncio",
    "doors/net/acceptor.py": "accepts sockets",
    "doors/net/address.py": "reads the address of a socket",
    "doors/net/client_socket.py": "has the transport of a connection and its tasks",
    "doors/net/client_sockets.py": "passes accepted sockets to asyncio and waits for their end",
    "doors/net/http_connection.py": "is uvicorn's protocol class, which asyncio calls with a transport",
    "doors/net/http_server.py": "runs uvicorn",
    "doors/net/tls.py": "makes the contexts of OpenSSL",
    "doors/net/tls_transport.py": "is between a transport of asyncio and a protocol",
}


def sans_io_files() -> list[Path]:
    """The files of `SANS_IO`."""
    named = [SOURCE / name for name in SANS_IO]
    assert [path for path in named if not path.exists()] == []
    return [path for start in named for path in ([start] if start.is_file() else sorted(start.rglob("*.py")))]


def test_state_machines_and_codecs_do_no_io() -> None:
    names = {path.relative_to(SOURCE).as_posix(): imported(path) & IO_MODULES for path in sans_io_files()}
    offenders = {where: modules for where, modules in names.items() if modules}
    assert {where: modules for where, modules in offenders.items() if where not in IO_ALLOWED} == {}
    assert set(IO_ALLOWED) - set(offenders) == set(), "an exemption that is not needed any more"


def test_the_log_and_the_coordinator_open_files_only_through_a_disk() -> None:
    direct = re.compile(
        r"(?<![\w.])(?<!def )open\(|\bos\.(?!path\.(?:basename|dirname)\b)\w+|\bshutil\.|\bPath\("
    )
    files = [*python_files("src/mainstem/log"), *python_files("src/mainstem/coordinator")]
    at_the_disk = (SOURCE / "log" / "disk", SOURCE / "log" / "offline")
    offenders = {
        name_of(path): direct.findall(code_of_all(path)) for path in files if path.parent not in at_the_disk
    }
    assert {where: calls for where, calls in offenders.items() if calls} == {}


CLOCK_AND_CHANCE = re.compile(
    r"\b(?:time\.(?:(?:time|monotonic|perf_counter)(?:_ns)?|sleep)|random\.(?!Random\b)\w+|os\.urandom"
    r"|secrets\.\w+|uuid[14]|datetime\.(?:now|utcnow|today)|date\.today|asyncio\.sleep)\b"
    r"|(?<=loop\.)call_later\b|(?<=loop\(\)\.)call_later\b"
)
A_CLOCK_OR_CHANCE = re.compile(r"\btime\.|random|secrets|uuid|datetime|today|sleep|call_later")
COMMAND_TIME = "a command: the time at which a person calls it"
COMMAND_RATE = "a command: measures its own rate for the line that it prints"
MAY_ASK_THE_MACHINE = {
    "api/leases.py": "waits between extensions, and between attempts to reach a server",
    "api/queue_work.py": "lets other tasks of the program run between two calls of a handler",
    "api/requests.py": "draws the ids by which replies find their requests",
    "api/runner.py": "waits before it starts a service again",
    "api/scheduler/cluster_lists.py": "waits before a list is tried again",
    "api/scheduler/cluster_work.py": "waits between reads and commits, and lets other tasks run",
    "api/scheduler/letter_box.py": "waits between attempts to publish to a cluster",
    "doors/amqp091/server.py": "schedules the end of the work of lost connections on the loop",
    "certificates.py": "dates the certificates that it makes",
    "cli/commands/backup.py": COMMAND_RATE,
    "cli/commands/doctor.py": f"{COMMAND_RATE}, and seeds the random numbers of a repair",
    "cli/commands/groups.py": COMMAND_TIME,
    "cli/commands/produce.py": COMMAND_RATE,
    "cli/commands/replay.py": COMMAND_RATE,
    "cli/commands/restore.py": COMMAND_RATE,
    "cli/commands/tail.py": COMMAND_TIME,
    "cli/local_replay.py": "passes asyncio.sleep to the replay, which gets its pauses as an argument",
    "cli/passwords.py": "a command: draws the salts of verifiers",
    "cli/run_workers.py": "a command: waits between looks at files, reports and starts of processes",
    "cli/search_options.py": COMMAND_TIME,
    "cli/worker.py": "a command: waits between its attempts to reach the server and between extensions",
    "client_security.py": "limits how long librdkafka uses a token",
    "clock.py": "is the clock",
    "doors/kafka/server.py": "schedules the sweep of its connections on the loop that owns the sockets",
    "doors/pubsub/topic_catalog.py": "lets other calls run while it reads the settings of all topics",
    "doors/net/acceptor.py": "schedules the next attempt to accept on the loop that owns the socket",
    "doors/net/tls_transport.py": "schedules the deadline of a handshake on the loop that owns the socket",
    "engines/embedded/member.py": "sends heartbeats at real intervals, as a member at a socket does",
    "engines/kafka/admin_calls.py": "waits on the loop for a leader; its deadline is of the clock it gets",
    "faststream.py": "waits between the attempts of a handler, in FastStream's loop",
    "log/disk/sync_client.py": "is half of the real disk: retries a full socket on the loop that owns it",
    "outbox/relay.py": "waits for what the relay before may still have under way",
    "pytest_plugin/broker.py": "looks at a broker in real intervals, for the test that waits",
    "pytest_plugin/matching.py": "looks for a topic in real intervals, for the test that waits",
    "serve/in_memory.py": "is where a node in memory is made, as serve/server.py is for a folder",
    "serve/authentication.py": "is where nonces and salts become unguessable",
    "search/cluster/broker_client.py": "draws the nonce of a login",
    "serve/listeners.py": "schedules work on the loop that owns the listening sockets",
    "serve/search.py": "schedules the first search of the server on the loop",
    "serve/secure.py": "draws the first password and the salts of its verifiers",
    "serve/server.py": "puts clock, disk and randomness together",
}
"""The files below src/mainstem that read the clock, sleep or draw random numbers themselves, and why."""


def code_of(path: Path, hint: re.Pattern[str]) -> str:
    """A file's code without its comments and docstrings; empty, and quicker, if the file does not have the
    hint anywhere."""
    return code_of_all(path) if hint.search(path.read_text()) else ""


@cache
def code_of_all(path: Path) -> str:
    """A file's code without its comments and docstrings."""
    return ast.unparse(_WithoutDocstrings().visit(ast.parse(path.read_text())))


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.copy_location(ast.Pass(), node)
        return node


def test_time_and_chance_come_in_as_arguments() -> None:
    calls = {
        path.relative_to(SOURCE).as_posix(): CLOCK_AND_CHANCE.findall(code_of(path, A_CLOCK_OR_CHANCE))
        for path in python_files("src")
    }
    offenders = {where: uses for where, uses in calls.items() if uses}
    assert {where: uses for where, uses in offenders.items() if where not in MAY_ASK_THE_MACHINE} == {}
    assert set(MAY_ASK_THE_MACHINE) - set(offenders) == set(), "an exemption that is not needed any more"


def test_every_door_is_in_the_contracts_between_doors() -> None:
    contracts = configparser.ConfigParser()
    assert contracts.read(ROOT / ".importlinter")
    packages = {door.load.__module__ for door in DOORS}
    listed = contracts["importlinter:contract:doors"]["modules"].split()
    forbidden = contracts["importlinter:contract:doors-net"]["forbidden_modules"].split()
    assert sorted(listed) == sorted(forbidden) == sorted(packages)


BANNED_WORDS = {
    "an intention instead of work": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    "a name without meaning": re.compile(r"""["'](?:foo|bar|baz|foobar|quux|asdf)\b"""),
    "a path of one machine": re.compile(r"(?<![\w.:-])/(?:work|home|root|Users)/\w"),
    "silenced without a reason": re.compile(r"#\s*(?:noqa|type:\s*ignore)\s*$", re.MULTILINE),
    "a test left for later": re.compile(r"@pytest\.mark\.(?:skip|xfail)\s*$", re.MULTILINE),
}


def prose_and_code() -> list[Path]:
    """All text that people read: code, docs, settings of the tools."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *SOURCE.rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]
    code = [path for path in python_files("src", "tests", "bench", "examples") if path != Path(__file__)]
    return sorted([*code, *pages, ROOT / "Makefile", ROOT / "pyproject.toml"])


@pytest.mark.parametrize("why", BANNED_WORDS)
def test_words_that_do_not_belong(why: str) -> None:
    offenders = [
        f"{name_of(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for path in prose_and_code()
        for text in [path.read_text()]
        for match in BANNED_WORDS[why].finditer(text)
    ]
    assert offenders == []


def test_a_timeout_never_swallows_a_cancellation() -> None:
    """`asyncio.wait_for` of Python 3.11 returns the result of what is done in the turn of a cancellation, as
    if there had been none: a task that is stopped then goes on for ever. `asyncio.timeout` does not."""
    offenders = [
        f"{name_of(path)}:{node.lineno}"
        for path in python_files("src", "examples")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
    ]
    assert offenders == []


def test_no_file_of_the_repository_is_large() -> None:
    """Everybody who clones the repository has each file for ever, also one that was added by mistake."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=60)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(paths) > 1_000
    large = {path.name: path.stat().st_size for path in paths if path.is_file()}
    assert over(large, FILE_BYTES_MAX) == {}


def test_a_page_that_is_named_exists() -> None:
    here = {path.name for path in ROOT.rglob("*.md") if not {".venv", "node_modules"} & set(path.parts)}
    here.add("REPORT.md")  # the benchmark writes it when it is asked to
    dangling = [
        f"{name_of(path)}: {page}"
        for path in prose_and_code()
        for page in re.findall(r"\b[A-Z][A-Z_]+\.md\b", path.read_text())
        if page not in here
    ]
    assert dangling == []


def asserts_something(path: Path) -> bool:
    """Whether a test file can fail by its own word: an assert, a pytest.raises, or a checking helper."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node).endswith("raises"))
        or (
            isinstance(node, ast.Call)
            and re.match(r"(?:\w+\.)*(?:check|judge|assert|expect|against)", ast.unparse(node.func))
        )
        for node in ast.walk(tree_of(path))
    )


def test_every_test_file_asserts_something() -> None:
    empty = [
        name_of(path)
        for path in python_files("tests")
        if path.name.startswith("test_") and not asserts_something(path)
    ]
    assert empty == []


def test_no_test_asserts_a_duration() -> None:
    clocks = re.compile(
        r"assert [^\n]*(?:\b(?:elapsed|duration|took)\w*\b|(?:perf_counter|monotonic)\(\) - \w+)\s*<"
    )
    hint = re.compile(r"assert.*(?:elapsed|duration|took|perf_counter|monotonic)", re.DOTALL)
    files = [path for path in python_files("tests") if path != Path(__file__)]
    timed = [name_of(path) for path in files if clocks.search(code_of(path, hint))]
    assert timed == []
