"""The console's files, without a browser: nothing inline, nothing from elsewhere, no HTML from data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CONSOLE = Path(__file__).parents[2] / "src" / "mainstem" / "console"
STATIC = CONSOLE / "static"
MODULES = sorted(STATIC.rglob("*.js"))
SHEETS = sorted(STATIC.rglob("*.css"))

RUNS_OR_PARSES_TEXT = re.compile(
    r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML\w*"
    r"|eval|new\s+Function|Function\()\b|\bset(?:Timeout|Interval)\(\s*['\"`]|javascript:"
)


def names(files: list[Path]) -> list[str]:
    """For messages and test ids."""
    return [file.relative_to(CONSOLE).as_posix() for file in files]


def test_there_are_modules_and_sheets() -> None:
    assert len(MODULES) > 10
    assert SHEETS


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_no_module_makes_html_or_code_of_text(path: Path) -> None:
    assert RUNS_OR_PARSES_TEXT.findall(path.read_text()) == []


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_starts_with_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("/**")


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_what_a_module_imports_is_there_and_is_used(path: Path) -> None:
    text = path.read_text()
    for what, where in re.findall(r'^import (\* as \w+|\{[^}]*\}) from "([^"]+)";', text, re.MULTILINE):
        target = (path.parent / where).resolve()
        assert target.is_relative_to(STATIC), where
        exported = set(
            re.findall(
                r"^export (?:async )?(?:function\*?|const|let|class) (\w+)", target.read_text(), re.MULTILINE
            )
        )
        body = text.replace(f"import {what} from", "")
        for name in re.findall(r"\w+", what.removeprefix("* as ")):
            assert what.startswith("*") or name in exported, f"{where} exports no {name}"
            assert re.search(rf"\b{name}\b", body), f"{name} is imported and not used"


def test_every_icon_that_is_named_is_drawn() -> None:
    table = (STATIC / "lib" / "dom.js").read_text().partition("const ICONS = {")[2].partition("};")[0]
    drawn = set(re.findall(r"^  (\w+):", table, re.MULTILINE))
    used = {
        name for path in MODULES for name in re.findall(r'\b(?:icon|iconButton)\("(\w+)"', path.read_text())
    }
    assert used
    assert used <= drawn


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = (CONSOLE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?:|//\w", page)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert scripts == [""]
    for where in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert (STATIC / where).is_file()


def test_all_modules_are_fetched_at_once() -> None:
    """Not level by level, as each is found in another's imports: that is a round trip each."""
    page = (CONSOLE / "index.html").read_text()
    ahead = re.findall(r'<link rel="modulepreload" href="/static/([^"]+)">', page)
    assert ahead == [path.relative_to(STATIC).as_posix() for path in MODULES if path.name != "app.js"]


def test_nothing_is_fetched_from_elsewhere() -> None:
    foreign = {
        path.name: found
        for path in [*MODULES, *SHEETS]
        for found in [re.findall(r"""["'(]\s*(https?://[^"')\s]+)""", path.read_text())]
        if found and found != ["http://www.w3.org/2000/svg"]
    }
    assert foreign == {}


def test_only_one_module_knows_addresses_of_the_server() -> None:
    outside = [
        path.name
        for path in MODULES
        if path.name != "api.js" and re.search(r"/api/v1|\bfetch\(|EventSource", path.read_text())
    ]
    assert outside == []


def colours(theme: str) -> dict[str, tuple[float, ...]]:
    """The colours that the style sheet declares for the "light" or the "dark" theme, as linear light."""
    sheet = (STATIC / "styles" / "theme.css").read_text()
    declared = re.findall(r"--([\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);", sheet)
    return {
        name: tuple(
            _linear(int((light if theme == "light" else dark)[start : start + 2], 16) / 255)
            for start in (0, 2, 4)
        )
        for name, light, dark in declared
    }


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """As WCAG 2 defines it."""
    light, dark = sorted(
        (0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (one, other)), reverse=True
    )
    return (light + 0.05) / (dark + 0.05)


PAIRS = [
    *(
        (text, ground)
        for text in ("text", "text-2", "text-3", "accent")
        for ground in ("bg", "bg-2", "raised")
    ),
    *((text, "bg") for text in ("good", "warn", "bad", "j-key", "j-string", "j-number", "j-word")),
    ("text", "bg-3"),
    ("text-2", "bg-3"),
    ("on-accent", "accent"),
    ("on-bad", "bad"),
    ("warn", "warn-soft"),
    ("bad", "bad-soft"),
    ("accent", "accent-soft"),
    ("match-text", "match"),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(theme: str) -> None:
    table = colours(theme)
    low = {
        f"{text} on {ground}": round(contrast(table[text], table[ground]), 2)
        for text, ground in PAIRS
        if contrast(table[text], table[ground]) < 4.5
    }
    assert low == {}


def test_the_theme_that_a_reader_chooses_has_the_same_colours() -> None:
    sheet = (STATIC / "styles" / "theme.css").read_text()
    names = re.findall(r"^ *--([\w-]+):", sheet, re.MULTILINE)
    assert len(names) == len(set(names)), "a colour is declared once, for both themes"
    for theme in ("light", "dark"):
        assert re.search(rf':root\[data-theme="{theme}"\] {{\s*color-scheme: {theme};\s*}}', sheet)
