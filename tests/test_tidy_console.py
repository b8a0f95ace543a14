"""Style of the console's JavaScript and CSS is a test: sizes, format, lint rules, imports, names.

The formatter and linter is Biome (`biome.json`), a wheel with a binary: no Node is needed. `make format`
fixes what can be fixed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSOLE = ROOT / "src" / "mainstem" / "console"
STATIC = CONSOLE / "static"
SCRIPTS = sorted(STATIC.rglob("*.js"))
SHEETS = sorted(STATIC.rglob("*.css"))
BIOME = Path(sys.executable).with_name("biome")

LINE_LENGTH = 110
MODULE_LINES = 400
FUNCTION_LINES = 70

ROOMS = {"lib": ("lib",), "widgets": ("lib", "widgets"), "pages": ("lib", "widgets", "pages")}
"""Which rooms a module of a room may import from. `app.js`, the entry, may import all of them."""

DIALECT = re.compile(
    r"\b(?:const|let|var) (?:one|each|found|held|told|at|got|kept|here|it|mine|said|so)\b"
    r"|[(,] *(?:one|each|found|held|told|got|kept) *(?:,[^()]*)?\) *=>|\b(?:one|each|found|held|told) =>"
)
"""Variables named by a filler word where the thing has a name of its own."""

FUNCTION_START = re.compile(r"(?:\)|=>) \{$")
CONTROL_FLOW = re.compile(r" *(?:\} )?(?:else|if|for|while|switch|do|try|catch|finally)\b")


def name_of(path: Path) -> str:
    """How a file is named in messages."""
    return path.relative_to(CONSOLE).as_posix()


def biome(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the linter, without colours."""
    command = [str(BIOME), *arguments]
    environment = os.environ | {"NO_COLOR": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_console_is_formatted_and_passes_the_linter() -> None:
    result = biome("check", "--error-on-warnings", "--max-diagnostics=50", ".")
    assert result.returncode == 0, result.stdout + result.stderr
    checked = re.search(r"Checked (\d+) files", result.stdout + result.stderr)
    assert checked is not None
    assert int(checked[1]) >= len(SCRIPTS) + len(SHEETS)


def function_sizes(lines: list[str]) -> dict[int, int]:
    """Line number -> lines of each function, from formatted code: a block ends at its own indentation."""
    sizes = {}
    for start, line in enumerate(lines):
        if not FUNCTION_START.search(line) or CONTROL_FLOW.match(line):
            continue
        indentation = line[: len(line) - len(line.lstrip())]
        end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith(f"{indentation}}}"))
        sizes[start + 1] = end - start + 1
    return sizes


def test_functions_are_measured_from_their_first_line_to_their_last() -> None:
    code = """\
class A {
  #run = (step) => {
    if (step) {
      step();
    }
  };

  async run(a, b) {
    const text = `} ${b}`;
    for (const c of a) {
      c(() => {
        b();
      });
    }
  }
}
function* f({ a, b } = {}) {
  yield a;
}
""".splitlines()
    assert function_sizes(code) == {2: 5, 8: 8, 11: 3, 17: 3}


def test_functions_of_the_console_are_short() -> None:
    sizes = {
        f"{name_of(path)}:{line}": size
        for path in SCRIPTS
        for line, size in function_sizes(path.read_text().splitlines()).items()
    }
    assert len(sizes) > 400
    assert {where: size for where, size in sizes.items() if size > FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", [*SCRIPTS, *SHEETS], ids=name_of)
def test_files_and_lines_are_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= MODULE_LINES
    assert [number for number, line in enumerate(lines, 1) if len(line) > LINE_LENGTH] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_module_imports_only_from_its_room_and_those_below(path: Path) -> None:
    room = path.relative_to(STATIC).parts[0]
    if room == "app.js":
        return
    for where in re.findall(r'from "([^"]+)"', path.read_text()):
        target = (path.parent / where).resolve().relative_to(STATIC)
        assert target.parts[0] in ROOMS[room], f"{name_of(path)} imports {target}"


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    imports = {
        path: [(path.parent / where).resolve() for where in re.findall(r'from "([^"]+)"', path.read_text())]
        for path in SCRIPTS
    }
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(name_of(step) for step in (*trail, path))
        if path in done:
            return
        for target in imports[path]:
            visit(target, (*trail, path))
        done.add(path)

    for path in SCRIPTS:
        visit(path, ())


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_variables_have_names_of_the_field(path: Path) -> None:
    assert DIALECT.findall(path.read_text()) == []


def test_each_exported_name_means_one_thing() -> None:
    exported: dict[str, list[str]] = {}
    for path in SCRIPTS:
        names = r"^(?:export )?(?:async )?(?:class|export function\*?|export const) (\w+)"
        for name in re.findall(names, path.read_text(), re.MULTILINE):
            exported.setdefault(name, []).append(name_of(path))
    assert {name: paths for name, paths in exported.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", SHEETS, ids=name_of)
def test_colours_are_declared_in_the_theme_only(path: Path) -> None:
    if path.name == "theme.css":
        return
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    assert re.findall(r":[^;{}]*#[0-9a-fA-F]{3,8}\b", text) == []
    assert "prefers-color-scheme" not in text
