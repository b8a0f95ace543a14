"""Puts the pages of the docs site together: `python -m tests.docs_site`, for `make site`, writes
build/site/pages.

Owns: where each page of the repository is in the site, links between pages, drawings as part of a page (so
that they follow the site's colours), the page of all Python names. Refuses: a link that leads to no file, or
to no heading; mkdocs.yml says how the pages look, and Zensical makes HTML of them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import mainstem

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OUTSIDE = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/REPORT.md",
    "examples/README.md",
    "src/mainstem/log/FORMAT.md",
)
"""Pages that are not in docs/ and are part of the site."""

BESIDE = (
    ("Tests", "mainstem.pytest_plugin.broker.MainstemBroker", "mainstem.pytest_plugin.server.ServerProcess"),
    ("SQLAlchemy", "mainstem.sqlalchemy.outbox.Outbox", "mainstem.sqlalchemy.inbox.Inbox"),
    (
        "Django",
        "mainstem.django.outbox.Outbox",
        "mainstem.django.inbox.Inbox",
        "mainstem.django.command.MainstemCommand",
    ),
    ("FastStream", "mainstem.faststream.DeadLetters"),
)
"""Public classes that `import mainstem` does not have, by what they are for."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)
STYLE = re.compile(r"<style>.*?</style>\n?", re.DOTALL)


def pages() -> list[Path]:
    """The files of the repository that are pages of the site."""
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in OUTSIDE)]


def place(path: Path) -> Path:
    """Where a file of the repository is in the site, in lower case: what is not in docs/ is in project/."""
    inside = path.is_relative_to(DOCS)
    name = path.relative_to(DOCS) if inside else "project" / path.relative_to(ROOT)
    lower = str(name).lower()
    return Path(lower.replace("_", "-") if lower.endswith(".md") else lower)


def drawing(path: Path) -> str:
    """A drawing as a part of the page: its colours are those of site.css, not its own."""
    return f'<div class="drawing">{STYLE.sub("", path.read_text()).strip()}</div>'.replace("\n", "")


class SitePage:
    """A page on its way into the site, with the files that it needs there."""

    def __init__(self, path: Path, all_pages: set[Path]) -> None:
        self.path = path
        self.files: set[Path] = set()
        self._pages = all_pages

    def text(self) -> str:
        """The page with its links as they are in the site. ValueError names a link that leads nowhere."""
        parts = FENCE.split(self.path.read_text())
        parts[::2] = [LINK.sub(self._link, part) for part in parts[::2]]
        return "".join(parts)

    def _link(self, link: re.Match[str]) -> str:
        mark, words, target, anchor = link.group(1), link.group(2), link.group(3), link.group(4) or ""
        if not target:
            return link.group()
        path = Path(os.path.normpath(self.path.parent / target))
        if not path.exists():
            raise ValueError(f"{self.path.relative_to(ROOT)}: {target} is not there")
        if mark and path.parent.name == "drawings":
            return drawing(path)
        if path not in self._pages:
            if path.is_dir() or not mark:
                return words  # source code: the site does not have it
            self.files.add(path)
        there = os.path.relpath(place(path), place(self.path).parent)
        return f"{mark}[{LINK.sub(self._link, words)}]({there}{anchor})"


def reference() -> str:
    """The page of all public names, which mkdocstrings fills from the code."""
    names = [name for name in (*mainstem.__all__, "open") if not name.startswith("_")]
    calls = [name for name in names if name[0].islower()]
    errors = [
        name
        for name in names
        if isinstance(kind := getattr(mainstem, name), type) and issubclass(kind, Exception)
    ]
    classes = [name for name in names if name not in calls and name not in errors]
    lines = ["# Python names", ""]
    lines += ["Made from the code. [The guide](python.md) shows how they are used.", ""]
    for title, group in (("Streams", sorted(calls)), ("Classes", classes), ("Errors and signals", errors)):
        lines += [f"## {title}", ""]
        for name in group:
            path = f"mainstem.{name}" if name in calls else f"{getattr(mainstem, name).__module__}.{name}"
            lines += [f"::: {path}", ""]
    for title, *paths in BESIDE:
        lines += [f"## {title}", "", *(f"::: {path}\n" for path in paths)]
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write all pages of the site into a folder, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    every = pages()
    for path in every:
        page = SitePage(path, set(every))
        target = folder / place(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.text())
        for file in page.files:
            copy = folder / place(file)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    (folder / "reference.md").write_text(reference())
    shutil.copyfile(DOCS / "site.css", folder / "site.css")
    (folder / "drawings").mkdir(exist_ok=True)
    shutil.copyfile(DOCS / "drawings" / "mark.svg", folder / "drawings" / "mark.svg")


if __name__ == "__main__":
    try:
        write(ROOT / "build" / "site" / "pages")
    except ValueError as error:
        sys.exit(str(error))
