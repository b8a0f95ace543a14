"""The table of commands in docs/RABBITMQ.md is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

from mainstem.doors.rabbitmq_stream.commands import RESPONSE, VERSIONS_MAX, Key
from mainstem.doors.rabbitmq_stream.session import HANDLERS

PAGE = Path(__file__).parents[3] / "docs" / "RABBITMQ.md"
ELSEWHERE = {
    Key.PUBLISH, Key.PUBLISH_CONFIRM, Key.PUBLISH_ERROR, Key.DELIVER, Key.CREDIT, Key.STORE_OFFSET,
    Key.METADATA_UPDATE, Key.PEER_PROPERTIES, Key.SASL_HANDSHAKE, Key.SASL_AUTHENTICATE, Key.TUNE, Key.OPEN,
    Key.CLOSE, Key.HEARTBEAT, Key.CONSUMER_UPDATE,
}  # fmt: skip
"""Commands without an entry in HANDLERS: of the server, of the handshake, without an answer."""


def test_the_page_lists_every_command_with_its_versions() -> None:
    section = PAGE.read_text().partition("## Stream protocol\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\S+) \| (full|partial|none)\b", section, re.MULTILINE)
    words = {key: "".join(part.title() for part in key.name.split("_")) for key in Key}
    expected = [
        (str(int(key)), words[key], f"1–{VERSIONS_MAX[key]}" if key in VERSIONS_MAX else "1") for key in Key
    ]
    assert [row[:3] for row in rows] == expected
    unsupported = {Key(int(row[0])) for row in rows if row[3] == "none"}
    assert set(Key) - unsupported == {Key(key & ~RESPONSE) for key in HANDLERS} | ELSEWHERE
