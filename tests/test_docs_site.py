"""The docs site: snippets run as they are written, drawings are those of the code, links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import mainstem
from mainstem.api.host import HostedNode
from mainstem.cli import mainstem as command_line
from tests import docs_drawings, docs_site
from tests.docs_site import DOCS, ROOT
from tests.pytest_plugin.project import IS_INSTALLED, PLUGIN

RUN = [DOCS / "START.md", *sorted((DOCS / "howto").glob("*.md"))]
"""Pages whose snippets run, in their order."""
PRINTED = {
    "START.md": ["bill order 2 of ann", "['hello']", "orders.billing"],
    "REPLAY.md": ["95.0", "points for ann", "orders-again"],
    "RETRY.md": ["no card", "1 found, 1 delivered again"],
    "OUTBOX.md": ["bill order 4711"],
    "TESTING.md": ["3 passed"],
    "OPERATIONS.md": ["clicks", "retention.bytes"],
}
"""What the snippets of a page print, among other things."""
RUN_ELSEWHERE = {
    "README.md": "test_docs.py",
    "PYTHON.md": "api/test_names.py",
    "OUTBOX.md": "outbox/test_sqlalchemy.py",
    "PUBSUB.md": "compat/pubsub/test_same_event.py",
    "RABBITMQ.md": "doors/amqp091/test_channel_with_pika.py",
}
"""Which test runs the Python of another page."""
BUSY_S = 3
"""How long a snippet waits for its subscribers, in place of a second: other tests run beside it."""
JOIN_S = 30
PLUGIN_OPTIONS = () if IS_INSTALLED else ("-p", PLUGIN)


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    language: str
    title: str
    code: str


def snippets(path: Path) -> list[Snippet]:
    """The fenced blocks of a page."""
    blocks = re.findall(
        r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', path.read_text(), re.DOTALL | re.MULTILINE
    )
    return [Snippet(*block) for block in blocks]


def test_every_snippet_is_code_or_a_command_that_exists() -> None:
    for path in [*RUN, DOCS / "CONCEPTS.md", DOCS / "COMING_FROM.md"]:
        for snippet in snippets(path):
            if snippet.language == "python":
                compile(snippet.code, path.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            else:
                assert snippet.language in ("sh", "text"), path.name


def test_python_on_every_page_is_run_by_a_test() -> None:
    run = set(RUN) | {ROOT / "README.md"} | {DOCS / name for name in RUN_ELSEWHERE}
    pages = [*docs_site.pages(), ROOT / "README.md"]
    assert [path for path in pages if path not in run and "\n```python" in path.read_text()] == []
    for name, test in RUN_ELSEWHERE.items():
        assert name in (ROOT / "tests" / test).read_text()


def commands_shown() -> Iterator[tuple[str, list[str]]]:
    """Each line with a command that the docs show: its page, and its words after `mainstem`."""
    for path in [*docs_site.pages(), ROOT / "README.md"]:
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(
            r"^(?:    )?(?:\$ )?mainstem (?!ready)([a-z]+ .*)$", indented_or_fenced(text), re.MULTILINE
        ):
            first = re.split(r" [|>#…] ?| && ", line)[0]
            yield path.name, shlex.split(first)


def indented_or_fenced(text: str) -> str:
    """The lines of a page that are code."""
    fenced = "".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    return fenced + "\n".join(line for line in text.splitlines() if line.startswith("    "))


def test_every_command_that_is_shown_has_the_options_that_it_is_shown_with() -> None:
    wrong = []
    shown = list(commands_shown())
    for page, words in shown:
        command: click.Command | None = command_line
        context = click.Context(command_line, **command_line.context_settings)
        rest = words
        while isinstance(command, click.Group) and rest:
            command, rest = command.get_command(context, rest[0]), rest[1:]
            context = click.Context(command, parent=context) if command else context
        try:
            assert command is not None
            command.make_parser(context).parse_args(list(rest))
        except (AssertionError, click.UsageError) as error:
            wrong.append(f"{page}: mainstem {shlex.join(words)}: {error}")
    assert wrong == []
    assert len(shown) > 60


def test_the_site_has_every_page_once_and_no_link_is_dead() -> None:
    every = docs_site.pages()
    places = [docs_site.place(path) for path in every]
    assert len(set(places)) == len(places)
    for path in every:
        assert docs_site.SitePage(path, set(every)).text()
    nav = set(re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert nav == {str(where) for where in places} | {"reference.md"}


def test_a_link_to_a_page_that_is_not_there_ends_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs_site, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[a](there.md)\n")
    with pytest.raises(ValueError, match=r"page\.md: there\.md is not there"):
        docs_site.SitePage(page, {page}).text()


def test_the_drawings_are_those_of_the_code() -> None:
    shown = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    for name, content in docs_drawings.files().items():
        assert (docs_drawings.FOLDER / name).read_text() == content, "run: make docs"
        assert f"drawings/{name}" in shown


def test_the_site_draws_with_the_rules_of_the_drawings() -> None:
    css = re.sub(r"\s+", "", (DOCS / "site.css").read_text()).replace(";}", "}")
    rules = [re.sub(r"\s+", "", line) for line in docs_drawings.STYLE.splitlines() if "{--" not in line]
    assert [rule for rule in rules if rule.startswith("svg.draw") and rule not in css] == []
    for name in re.findall(r"var\((--d-[\w-]+)\)", docs_drawings.STYLE):
        assert css.count(f"{name}:") == 2  # light, and dark


def test_every_public_name_has_its_entry_in_the_reference() -> None:
    text = docs_site.reference()
    entries = re.findall(r"^::: mainstem(?:\.\w+)*\.(\w+)$", text.partition("## Tests")[0], re.MULTILINE)
    assert sorted(entries) == sorted({*mainstem.__all__, "open"} - {"__version__"})


class PageFollower:
    """Does what a page says, in a folder, beside a stream in memory or on disk."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
        paths = os.pathsep.join([str(ROOT / "src"), str(folder)])
        self._environ = {**variables, "MAINSTEM_AT": address, "PYTHONUNBUFFERED": "1", "PYTHONPATH": paths}
        self._started: subprocess.Popen[bytes] | None = None
        self._output = folder / "started.txt"
        self.printed = ""

    def command(self, line: str) -> None:
        """Run a line of a shell. A service is left running, until `end`."""
        first, *words = shlex.split(line)
        start = {
            "mainstem": ["-m", "mainstem"],
            "python": [],
            "pytest": ["-m", "pytest", "-c", os.devnull, *PLUGIN_OPTIONS, "-p", "no:randomly"],
        }
        call = [sys.executable, *start[first], *words]
        if words[0] == "run":
            with self._output.open("wb") as output:
                self._started = subprocess.Popen(
                    call, cwd=self._folder, env=self._environ, stdout=output, stderr=output
                )
            return
        done = subprocess.run(
            call, cwd=self._folder, env=self._environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.printed += done.stdout

    def end(self, expected: str) -> None:
        """Wait until what was started has printed this, then stop it."""
        if self._started is None:
            return
        until = time.monotonic() + JOIN_S
        while expected not in self._output.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        self._started.send_signal(signal.SIGTERM)
        assert self._started.wait(JOIN_S) == 0, self._output.read_text()
        self.printed += self._output.read_text()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[HostedNode]:
    node = HostedNode.open(tmp_path / "mainstem-data", serve=True)
    yield node
    asyncio.run(node.close())


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run_as_they_are_written(
    page: Path,
    node: HostedNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = node.addresses["kafka"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAINSTEM_AT", address)
    follower = PageFollower(tmp_path, address)
    names: dict[str, object] = {"__name__": "page"}
    expected = PRINTED.get(page.name, [""])
    for snippet in snippets(page):
        if snippet.title:
            (tmp_path / snippet.title).write_text(snippet.code)
        elif snippet.language == "python":
            code = snippet.code.replace("asyncio.sleep(1)", f"asyncio.sleep({BUSY_S})")
            exec(compile(code, page.name, "exec"), names)
        elif snippet.language == "sh":
            for line in snippet.code.splitlines():
                follower.command(line)
    follower.end(expected[0])
    printed = follower.printed + capsys.readouterr().out
    assert [words for words in expected if words not in printed] == []
