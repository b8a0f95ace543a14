"""Docs cannot lie: what they list is compared with the code, both ways; what they show is run."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import httpx
import pytest
from confluent_kafka.admin import AdminClient

import mainstem
from mainstem.serve import options as server_options
from tests import docs_blocks
from tests.support.server import READY, Server

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "mainstem"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
DEFAULT_AT = "127.0.0.1:9092"


def page(name: str) -> str:
    """A page of docs/, or of the root."""
    path = ROOT / "docs" / name
    return (path if path.exists() else ROOT / name).read_text()


def fences(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(command: list[str], address: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run something as a reader of the docs would, against our server."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    environ |= {"MAINSTEM_AT": address, **more}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("docs") / "data", log_level="warning", http="127.0.0.1:0") as server:
        yield server


# ----------------------------------------------------------------------------------------------------------
# what is shown works


def test_the_readmes_first_minute_runs_as_it_is_written(server: Server) -> None:
    commands = [
        shlex.split(line) for block in fences(page("README.md"), "sh") for line in block.splitlines() if line
    ]
    assert len(commands) >= 8
    outputs: dict[str, str] = {}
    for command in commands:
        assert command[0] == "mainstem", f"the first minute needs nothing else: {command}"
        done = run([sys.executable, "-m", *command], server.address)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        outputs[" ".join(command)] = done.stdout
    counts = {
        line: len(output.splitlines()) for line, output in outputs.items() if line.startswith("mainstem tail")
    }
    assert {line: int(line.split(" -n ")[1].split()[0]) for line in counts} == counts


def test_the_readmes_python_runs_as_it_is_written(server: Server) -> None:
    AdminClient({"bootstrap.servers": server.address}).list_topics(timeout=10)
    programs = fences(page("README.md"), "python")
    assert len(programs) == 2
    for program in programs:
        assert DEFAULT_AT in program
        done = run([sys.executable, "-c", program.replace(DEFAULT_AT, server.address)], server.address)
        assert done.returncode == 0, done.stderr
        assert "paid" in done.stdout


def curl(command: str, address: str) -> httpx.Response:
    """The request of a `curl` command of the docs, sent to our server."""
    url, headers, body = "", {}, None
    words = iter(shlex.split(command)[1:])
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(words)
        elif word != "-s":
            url = word.replace("localhost:8080", f"http://{address}")
    return httpx.request("GET" if body is None else "POST", url, headers=headers, content=body)


def test_the_http_pages_commands_run_as_they_are_written(tmp_path: Path) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        run_http_commands(server.http)


def run_http_commands(address: str) -> None:
    """Send the requests that docs/HTTP.md shows, and check what they return."""
    read, publish, search, replay, create, pull, push = fences(page("HTTP.md"), "sh")
    events = json.dumps([{"value": {"total": number}} for number in range(18)])
    to_dead = publish.partition(" -d ")[0].replace("orders", "orders-dead")
    assert curl(f"{to_dead} -d '{events}'", address).status_code == 200
    assert curl(publish, address).json()["events"] == [{"partition": 0, "offset": 0}]
    assert [event["key"] for event in curl(read, address).json()["events"]] == ["4711"]
    lines = [json.loads(line) for line in curl(search, address).text.splitlines()]
    assert [line["hit"]["offset"] for line in lines if "hit" in line] == [0]
    last = json.loads(curl(replay, address).text.splitlines()[-1])
    assert (last["published"], last["done"], last["problem"]) == (1, True, None)
    assert curl(create, address).status_code == 201
    assert [row["event"]["offset"] for row in curl(pull, address).json()["deliveries"]] == [0, 1]
    assert curl(push, address).json()["settings"]["push"]["signed"] is True


def test_the_readme_shows_a_ready_line_as_the_server_prints_it() -> None:
    (shown,) = re.findall(r"mainstem ready in .*", page("README.md"))
    assert READY.match(shown)


def test_every_client_snippet_needs_only_the_address() -> None:
    for language in ("python", "java", "go", "js"):
        programs = fences(page("README.md"), language)
        assert programs
        assert all(DEFAULT_AT in program for program in programs)


def test_links_within_the_project_lead_somewhere() -> None:
    dead = [
        f"{file.relative_to(ROOT)}: {link}"
        for file in PAGES
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", file.read_text())
        if not (file.parent / link).exists()
    ]
    assert dead == []


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for file in PAGES
        for target in re.findall(r"(?:^    |`)make ([a-z-]+)", file.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= targets


# ----------------------------------------------------------------------------------------------------------
# what is listed is there, and what is there is listed


@pytest.mark.parametrize("name", docs_blocks.BLOCKS)
def test_tables_made_from_the_code_are_up_to_date(name: str) -> None:
    assert page(name) == docs_blocks.filled(name), "run: make docs"


@cache
def all_commands() -> dict[str, click.Command]:
    """Every command by its words."""
    return dict(docs_blocks.commands())


def options(command: click.Command) -> set[str]:
    """The long options of a command."""
    return {
        word
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in (*parameter.opts, *parameter.secondary_opts)
        if word.startswith("--")
    }


def test_every_command_and_option_is_in_the_docs() -> None:
    text = page("CLI.md")
    missing = [words for words in all_commands() if words not in text]
    missing += [
        f"{words} {option}"
        for words, command in all_commands().items()
        for option in options(command)
        if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)
    ]
    assert missing == []


def test_every_command_and_option_in_the_docs_exists() -> None:
    known = {option for command in all_commands().values() for option in options(command)} | {
        "--help",
        "--version",
        "--context",
    }
    first_words = {" ".join(words.split()[:2]) for words in all_commands()}
    foreign = [
        f"{file.name}: {word}"
        for file in PAGES
        if file.name in ("CLI.md", "README.md", "SETTINGS.md", "DURABILITY.md", "KAFKA.md")
        for line in file.read_text().splitlines()
        for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", line)
        if word not in known and not re.search(r"\b(?:pip|python|make|pytest)\b", line)
    ]
    foreign += [
        f"{file.name}: {words}"
        for file in PAGES
        for words in re.findall(r"(?:^    |`)(mainstem [a-z]+)(?![\w-])", file.read_text(), re.MULTILINE)
        if words not in first_words | {"mainstem ready"}
    ]
    assert foreign == []


def test_every_setting_is_in_the_docs_and_no_other() -> None:
    listed = re.findall(r"^\| `(\w+)` *\|", page("SETTINGS.md"), re.MULTILINE)
    assert sorted(listed) == sorted(definition.name for definition in server_options.definitions())


def test_every_action_of_the_audit_is_in_the_docs() -> None:
    routes = Path(mainstem.__file__).parent / "doors/http/routes"
    source = "".join(path.read_text() for path in routes.glob("*.py"))
    actions = set(re.findall(r'audit\.action\(\s*call,\s*"([a-z-]+)"', source))
    section = page("HTTP.md").partition("## Audit")[2].partition("\n## ")[0]
    assert actions - set(re.findall("`([a-z-]+)`", section)) == set()


def test_the_changelog_knows_the_version_or_has_something_unreleased() -> None:
    assert re.search(r"^## \[(?:Unreleased|\d+\.\d+\.\d+)\]", page("CHANGELOG.md"), re.MULTILINE)


# ----------------------------------------------------------------------------------------------------------
# how it is built


def names_in(path: Path) -> set[str]:
    """What a module defines: functions, classes, methods as Class.method."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_every_place_in_the_code_that_the_architecture_names_exists() -> None:
    anchors = re.findall(r"`([\w/]+\.py):([\w.]+)`", page("ARCHITECTURE.md"))
    assert len(anchors) >= 15
    wrong = [
        f"{file}:{thing}"
        for file, thing in anchors
        if not (SOURCE / file).exists() or thing not in names_in(SOURCE / file)
    ]
    assert wrong == []


def indented_code(docstring: str) -> str:
    """The indented lines of a docstring, dedented."""
    return textwrap.dedent("\n".join(line for line in docstring.splitlines() if line.startswith("    ")))


def test_the_packages_own_example_is_code() -> None:
    code = indented_code(mainstem.__doc__ or "")
    assert "connect(" in code
    compile(code, "mainstem.__doc__", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_dependency_has_its_reason() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    declared = project.partition("dependencies = [")[2].partition("]")[0]
    needed = set(re.findall(r'^  "([a-z0-9-]+)', declared, re.MULTILINE))
    assert needed
    table = page("ARCHITECTURE.md").partition("## Dependencies")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)`", table, re.MULTILINE)) == needed


def test_the_formats_worked_example_is_decoded_by_a_test() -> None:
    (formats,) = SOURCE.rglob("FORMAT.md")
    assert "xample" in formats.read_text()
    assert [path for path in (ROOT / "tests" / "log").rglob("*.py") if "FORMAT.md" in path.read_text()]
