"""Whatever a client sends: each line of the log is one well-formed line, and their number is limited."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.doors.net.warning_log import WarningLog
from mainstem.printable import EXCERPT_CHARACTERS, escape_controls, excerpt
from mainstem.serve import logs
from mainstem.serve.log_limit import INTERVAL_S, LINES, TEXT_CHARACTERS_MAX
from tests.support.clock import SimClock
from tests.support.hostile import (
    FORGED,
    HOSTILE,
    LINE_CHARACTERS_MAX,
    MARK,
    attack_http,
    attack_kafka,
    check_text_line,
)
from tests.support.server import Server

GROUPS = logging.getLogger("mainstem.coordinator.groups")
OWN = logging.getLogger("mainstem.log.partition")


class CapturedLog:
    """The log of this process, in a string, with a clock that the test moves."""

    def __init__(self, as_json: bool) -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        logs.set_up("info", as_json=as_json, stream=self.stream, monotonic=lambda: self.now)

    def lines(self) -> list[str]:
        return self.stream.getvalue().split("\n")[:-1]

    def messages(self) -> list[str]:
        return [line.partition(": ")[2] for line in self.lines()]


@pytest.fixture
def restored() -> Iterator[None]:
    """Pytest's own handlers are there again after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def check_json_line(line: str) -> None:
    assert line.isprintable(), repr(line)
    assert len(line) <= 2 * LINE_CHARACTERS_MAX
    fields = json.loads(line)
    assert {"time", "level", "logger", "message"} <= fields.keys()
    assert fields["message"].isprintable()
    assert fields.get("traceback", "").replace("\n", "").isprintable()


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_every_door_attacked_with_hostile_names_leaves_a_log_of_well_formed_lines(
    as_json: bool, tmp_path: Path
) -> None:
    settings = {"http": "127.0.0.1:0", "log_json": str(as_json).lower()}
    with Server(tmp_path / "data", **settings) as server:
        attack_kafka(server.address)
        attack_http(server.http)
        assert server.stop() == 0
    text = server.log_path.read_bytes().decode()  # every byte is UTF-8
    lines = text.removesuffix("\n").split("\n")
    for line in lines:
        (check_json_line if as_json else check_text_line)(line)
    attacked = [line for line in lines if MARK in line]
    for logger in ("coordinator.groups", "audit"):
        assert [line for line in attacked if logger in line], (
            f"nothing of the attack is in a line of {logger}"
        )


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.usefixtures("restored")
def test_nothing_that_a_client_can_name_ends_a_line_or_controls_a_terminal(as_json: bool) -> None:
    log = CapturedLog(as_json)
    for code in (*range(0x100), *range(0x2000, 0x2070), 0xFEFF, *range(0xD800, 0xE000, 0x1FF), 0xE0001):
        text = f"a{chr(code)}b"
        log.now += INTERVAL_S
        GROUPS.info("group %s: %s", text, ValueError(text))
        GROUPS.info(text)
        logging.getLogger("mainstem.audit").info("delete", extra={"fields": {"topic": text}})
        OWN.error("of %s", text)
    lines = log.lines()
    assert len(lines) == 4 * (0x100 + 0x70 + 1 + 5 + 1)
    for line in lines:
        (check_json_line if as_json else check_text_line)(line)


@pytest.mark.usefixtures("restored")
def test_values_of_clients_are_cut_and_the_servers_own_texts_are_whole() -> None:
    log = CapturedLog(False)
    GROUPS.info("group %s has %d members: %s", "g" * 9000, 7, ValueError("e" * 9000))
    GROUPS.info("x" * 9000)
    OWN.warning("%s is damaged", "p" * 9000)
    group, whole, own = log.messages()
    cut = EXCERPT_CHARACTERS - 1
    assert group == f"group {'g' * cut}… has 7 members: {'e' * cut}…"
    assert whole == "x" * (TEXT_CHARACTERS_MAX - 1) + "…"
    assert own == "p" * 9000 + " is damaged"


@pytest.mark.usefixtures("restored")
def test_a_traceback_cannot_forge_a_line() -> None:
    for as_json in (False, True):
        log = CapturedLog(as_json)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            GROUPS.exception("request of %s failed", HOSTILE)
        lines = log.lines()
        if as_json:
            (line,) = lines
            check_json_line(line)
        else:
            check_text_line(lines[0])
            assert all(line.startswith("  ") and line.isprintable() for line in lines[1:])
            assert any(FORGED in line for line in lines[1:])


@pytest.mark.usefixtures("restored")
def test_lines_that_clients_cause_are_limited_by_kind_and_counted() -> None:
    log = CapturedLog(False)
    for n in range(1000):
        GROUPS.info("member %s left", n)
        if n < LINES + 2:
            GROUPS.warning("member %s is late", n)
        OWN.info("partition %d", n)
    logs.report_left_out()
    messages = log.messages()
    assert sum("left" in message for message in messages) == LINES
    assert sum("late" in message for message in messages) == LINES
    assert sum("partition" in message for message in messages) == 1000
    log.now += INTERVAL_S
    logs.report_left_out()
    assert log.messages()[len(messages) :] == [
        f"member {LINES} left ({1000 - LINES - 1} more like it)",
        f"member {LINES} is late (1 more like it)",
    ]
    GROUPS.info("member %s left", "again")
    assert log.messages()[-1] == "member again left"
    logs.report_left_out(at_end=True)
    assert log.messages()[-1] == "member again left"


@pytest.mark.usefixtures("restored")
def test_many_kinds_of_warnings_of_a_door_hide_none() -> None:
    log = CapturedLog(False)
    warnings = WarningLog(SimClock(), logging.getLogger("mainstem.http"))
    for n in range(2 * LINES):
        warnings.warn(f"kind {n}", f"limit {n} is reached")
    assert log.messages() == [f"limit {n} is reached" for n in range(2 * LINES)]


@pytest.mark.usefixtures("restored")
def test_a_stop_reports_the_lines_that_were_left_out() -> None:
    log = CapturedLog(False)
    for n in range(LINES + 3):
        GROUPS.info("member %s left", n)
    logs.report_left_out(at_end=True)
    assert log.messages()[-1] == f"member {LINES} left (2 more like it)"


def test_escaping_twice_changes_nothing_and_an_excerpt_has_its_length() -> None:
    escaped = escape_controls(HOSTILE)
    assert escape_controls(escaped) == escaped
    assert (
        escape_controls("caf\xe9 \u65e5\u672c \U0001f600 'a\\b'") == "caf\xe9 \u65e5\u672c \U0001f600 'a\\b'"
    )
    for length in range(1, 60):
        assert len(excerpt(HOSTILE, length)) == length
    assert excerpt("ab", 2) == "ab"
