"""docs/FAULTS.md holds every fault of the list, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [str(number) for number in range(1, 26)]
ALSO = (
    "SIGTERM",
    "Two servers",
    "above 1 MiB",
    "HTTP bodies that are never finished",
    "HTTP/2 is attacked",
    "a proxy in front",
    "An event of the time 0",
    "million committed offsets",
    "Joins without end",
    "Share groups without end",
    "60,000 topics",
    "newer or older version",
    "A live tail comes back",
    "while consumers of a subscription",
    "clients of AMQP 0-9-1 publish with confirms",
    "clients of Pub/Sub",
    "dead-letter topic",
    "endpoint to which events are pushed",
    "inside of a network",
    "a server that pushes",
    "`mainstem work` runs commands",
    "a Python subscriber with 32 handlers",
    "while Python subscribers run",
    "the relay of an outbox",
    "events whose time to live is over",
    "A thousand clients wait",
    "consumer that never answers",
    "Filters of very many subscriptions",
    "Events of one key that come back",
    "times of waiting events is lost",
    "Very many events of a subscription at once",
    "cannot be written",
    "10,000 topics",
    "Empty and 1-byte records, tombstones",
    "largest size",
    "30,000 segments",
    "1970",
    "newest checkpoint",
    "sends its events again",
    "Space is nearly used up",
    "Retention is due",
    "older backup",
    "Batches are missing",
    "live journal file",
    "older version, 0.1.0",
    "same in binary floating point",
    "of one user beside everybody's searches",
    "hides from a search",
    "symbolic link",
    "no client can read",
    "leads nowhere",
    "header name that is not UTF-8",
    "100,000 deep",
    "not plain lines",
    "offset beyond the end",
    "Verifiers of passwords in output",
    "while entries are loaded again",
    "forge lines of the log",
    "nanoseconds",
    "Retention deletes",
    "while consumers acknowledge",
    "published to routed queues",
    "foreign index of routed queues",
    "acknowledged by a subscription are lost",
    "acknowledge garbage",
    "state log of queues",
    "right is taken away while a Kafka client waits",
    "reader with masked fields",
    "masked while Kafka clients wait",
    "queue of a namespace",
    "keys of push tokens",
    "while consumers have events of subscriptions",
    "pull without end and never answer",
    "full disk while consumers acknowledge",
    "clock is set back or forth while tokens",
    "Kafka client without rights",
)
STATES = ("shown", "part: ", "open", "not here: ")


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table."""
    text = (ROOT / "docs" / "FAULTS.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@cache
def defined_in(path: Path) -> set[str]:
    """Names of the tests of a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named(cell: str) -> list[tuple[str, str]]:
    """(file, test) of each test in a cell."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", cell)


def test_every_fault_has_its_row() -> None:
    assert [row[0] for row in rows("The table")] == ROWS
    assert len(rows("Also")) == len(ALSO)
    assert all(word in row[0] for word, row in zip(ALSO, rows("Also"), strict=True))


def missing_of(text: str) -> list[str]:
    """The tests that a text names and that do not exist."""
    return [
        f"{file}::{test}"
        for file, test in named(text)
        if not (ROOT / file).exists() or test not in defined_in(ROOT / file)
    ]


def test_every_test_that_is_named_exists() -> None:
    cells = [row[-2] for row in (*rows("The table"), *rows("Also"))]
    assert [name for cell in cells for name in missing_of(cell)] == []
    unread = [cell for cell in cells if re.sub(r"`[\w/]+\.py::\w+`", "", cell).strip()]
    assert unread == [], "a cell of tests holds tests alone"


def test_every_attack_on_the_page_of_security_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "SECURITY.md").read_text()
    tables = page.split("\n| attack | what happens | test |\n")[1:]
    attacks = [line for table in tables for line in table.split("\n\n")[0].splitlines()[1:]]
    assert len(attacks) >= 50
    assert [line for line in attacks if not named(line)] == []
    assert missing_of(page) == []


def test_what_is_shown_names_a_test_and_what_is_not_says_what_is_missing() -> None:
    for row in (*rows("The table"), *rows("Also")):
        what, tests, state = row[-3:]
        assert state.startswith(STATES), row
        if state.startswith(("shown", "part: ")):
            assert named(tests), row
            assert what, row


def test_every_real_fault_is_on_the_page() -> None:
    page = (ROOT / "docs" / "FAULTS.md").read_text()
    aside = {"test_faults_page.py", "test_ack_checker.py", "test_queue_history.py"}
    absent = [
        f"tests/faults/{path.name}::{test}"
        for path in sorted((ROOT / "tests" / "faults").glob("test_*.py"))
        if path.name not in aside
        for test in sorted(defined_in(path))
        if f"`tests/faults/{path.name}::{test}`" not in page
    ]
    assert absent == []
