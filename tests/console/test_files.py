"""The files of the console: nothing inline, nothing from other sites, no HTML made from data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CONSOLE = Path(__file__).parents[2] / "src" / "mainstem" / "console"
STATIC = CONSOLE / "static"
MODULES = sorted(STATIC.rglob("*.js"))
SHEETS = sorted(STATIC.rglob("*.css"))

EXECUTES_OR_PARSES_TEXT = re.compile(
    r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML\w*"
    r"|eval|new\s+Function|Function\()\b|\bset(?:Timeout|Interval)\(\s*['\"`]|javascript:"
)


def names(files: list[Path]) -> list[str]:
    """For messages and test ids."""
    return [file.relative_to(CONSOLE).as_posix() for file in files]


def test_there_are_modules_and_style_sheets() -> None:
    assert len(MODULES) > 10
    assert SHEETS


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_no_module_turns_text_into_html_or_code(path: Path) -> None:
    assert EXECUTES_OR_PARSES_TEXT.findall(path.read_text()) == []


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_starts_with_a_description(path: Path) -> None:
    assert path.read_text().startswith("/**")


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_imports_exist_and_are_used(path: Path) -> None:
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


def test_every_icon_in_use_exists() -> None:
    table = (STATIC / "lib" / "dom.js").read_text().partition("const ICONS = {")[2].partition("};")[0]
    drawn = set(re.findall(r"^  (\w+):", table, re.MULTILINE))
    used = {
        name for path in MODULES for name in re.findall(r'\b(?:icon|iconButton)\("(\w+)"', path.read_text())
    }
    assert used
    assert used <= drawn


def test_the_page_has_nothing_inline_or_from_other_sites() -> None:
    page = (CONSOLE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?:|//\w", page)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert scripts == [""]
    for where in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert (STATIC / where).is_file()


def test_all_modules_are_preloaded() -> None:
    """Otherwise the browser needs a round trip for each level of imports."""
    page = (CONSOLE / "index.html").read_text()
    preloaded = re.findall(r'<link rel="modulepreload" href="/static/([^"]+)">', page)
    assert preloaded == [path.relative_to(STATIC).as_posix() for path in MODULES if path.name != "app.js"]


def test_nothing_is_loaded_from_other_sites() -> None:
    foreign_urls = {
        path.name: urls
        for path in [*MODULES, *SHEETS]
        for urls in [re.findall(r"""["'(]\s*(https?://[^"')\s]+)""", path.read_text())]
        if urls and urls != ["http://www.w3.org/2000/svg"]
    }
    assert foreign_urls == {}


def test_only_the_api_client_contains_server_addresses() -> None:
    offenders = [
        path.name
        for path in MODULES
        if path.name != "api.js" and re.search(r"/api/v1|\bfetch\(|EventSource", path.read_text())
    ]
    assert offenders == []


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


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """As WCAG 2 defines it."""
    light, dark = sorted(
        (0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (first, second)), reverse=True
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
