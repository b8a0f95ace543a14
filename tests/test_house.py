"""The house rules for the whole project: no circle of imports, one meaning a class name, plain words.

The glossary, docs/GLOSSARY.md, defines the words; this file keeps the banned ones out, and each class name to
one definition.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.test_tidy import ROOT, name_of, prose_and_code, python_files, tree_of
from tests.test_tidy import trees as trees  # a fixture

PACKAGES = ROOT / "src"
GLOSSARY = ROOT / "docs" / "GLOSSARY.md"

# ----------------------------------------------------------------------------------------------------------
# imports


def module_files() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    dotted = {
        path.relative_to(PACKAGES).with_suffix("").as_posix().replace("/", "."): path
        for path in python_files("src")
    }
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


def imports_of(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """The project's modules that a file imports, also under TYPE_CHECKING and inside functions."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules else node.module for name in dotted}
    return {name for name in names if name in modules and modules[name] != path}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The sets of modules that reach each other by imports (strongly connected components of two or more)."""
    reachable: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        queue = list(graph[module])
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue += graph[name]
        reachable[module] = seen
    in_circle = {module for module, targets in reachable.items() if module in targets}
    groups = {
        frozenset(other for other in in_circle & reachable[m] if m in reachable[other]) for m in in_circle
    }
    return sorted(sorted(group) for group in groups)


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = module_files()
    assert circles({name: imports_of(path, modules) for name, path in modules.items()}) == []


def test_a_circle_of_imports_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]


# ----------------------------------------------------------------------------------------------------------
# names

DELIBERATE_DOUBLES: dict[str, str] = {
    "Inbox": "the same thing for two database libraries",
    "Meta": "Django has this name for the options of a model",
    "Outbox": "the same thing for two database libraries",
    "Event": "what a program of the Python API sees is the contract's event with its value decoded",
}
"""Class names with two definitions, each with its reason."""


def class_definitions() -> dict[str, list[str]]:
    """Class name -> every place that defines it, in the source, the tests and the benchmark."""
    places: dict[str, list[str]] = {}
    for path in python_files("src", "tests", "bench", "examples"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(f"{name_of(path)}:{node.lineno}")
    return places


def test_a_class_name_has_one_meaning() -> None:
    doubles = {name: places for name, places in class_definitions().items() if len(places) > 1}
    assert {name: places for name, places in doubles.items() if name not in DELIBERATE_DOUBLES} == {}
    assert set(DELIBERATE_DOUBLES) <= set(doubles), "a reason for a double that is not there any more"
    assert len(DELIBERATE_DOUBLES) <= 12


BANNED_NAMES = frozenset(
    {"one", "each", "found", "held", "told", "tells", "got", "gone", "kept", "came", "took", "goes", "at"}
    | {"stands", "standing"}
)
"""Identifiers that say nothing of the thing: use its noun (`topic`, `match`, `segment`, `deadline_ms`)."""


def bound_names(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of each variable, parameter, function and attribute that a file binds."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name


def test_no_name_is_a_word_without_a_thing() -> None:
    offenders = [
        f"{name_of(path)}:{line}: {name}"
        for path in python_files("src", "tests", "bench", "examples")
        for line, name in bound_names(path)
        if name.strip("_") in BANNED_NAMES
    ]
    assert offenders == []


BANNED_PHRASES = re.compile(
    r"\b(?:tell(?!\()|tells|told|nobody|so long|so many|so much|there is to be|stands|stand still|whoever)\b",
    re.IGNORECASE,
)
"""Words of a private dialect. Say return, report, log, notify or answer; is; at most; for N ms; anyone who.
`tell()` is Python's file protocol."""


def prose_pages() -> list[Path]:
    """What `prose_and_code` lists, and the console's files, without the two tests that list the words."""
    static = ROOT / "src" / "mainstem" / "console"
    console = [path for ending in ("*.js", "*.css", "*.html") for path in static.rglob(ending)]
    lists = {Path(__file__), ROOT / "tests" / "test_tidy_console.py"}
    return [path for path in [*prose_and_code(), *console] if path not in lists]


def test_no_phrase_of_a_private_dialect() -> None:
    offenders = [
        f"{name_of(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for path in prose_pages()
        for text in [path.read_text()]
        for match in BANNED_PHRASES.finditer(text)
    ]
    assert offenders == []


# ----------------------------------------------------------------------------------------------------------
# the glossary


def glossary() -> dict[str, str]:
    """Word -> meaning, from the tables of docs/GLOSSARY.md."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|", GLOSSARY.read_text(), re.MULTILINE)
    assert len({word for word, _ in rows}) == len(rows), "a word is there twice"
    return dict(rows)


def test_the_glossary_has_every_word_of_the_house_in_one_line() -> None:
    words = glossary()
    assert len(words) >= 40
    assert [word for word, meaning in words.items() if not meaning.strip().endswith(".")] == []


def test_the_glossary_lists_words_that_are_used() -> None:
    pages = (path for path in prose_and_code() if path != GLOSSARY)
    text = "\n".join(path.read_text().lower().replace("_", " ") for path in pages)
    unused = [word for word in glossary() if word.split(",")[0].lower() not in text]
    assert unused == []


def test_the_glossary_is_in_alphabetical_order() -> None:
    for table in re.split(r"^## ", GLOSSARY.read_text(), flags=re.MULTILINE)[1:]:
        words = [word.lower() for word in re.findall(r"^\| \*\*(.+?)\*\* \|", table, re.MULTILINE)]
        assert words == sorted(words)
