"""Lines that say which users there are, for `mainstem users import`.

Owns: the two forms of a line, `NAME:MECHANISM:SALT:STORED_KEY:SERVER_KEY:ITERATIONS` with base64, and Kafka's
`SCRAM-SHA-256=[name=alice,password=secret]` (as kafka-storage takes it). Refuses: to show any part of a line
in an error.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence

from mainstem.access_contract import ITERATIONS_MAX, ITERATIONS_MIN, ScramMechanism, ScramVerifier
from mainstem.authentication.names import user_name
from mainstem.authentication.scram import digest_bytes, verifier_of
from mainstem.cli.passwords import MECHANISMS, verifiers_of

_KAFKA = re.compile(r"(SCRAM-SHA-(?:256|512))=\[(.*)\]")
_KAFKA_FIELD = re.compile(r'\s*(\w+)=("[^"]*"|[^,"]*)\s*(?:,|$)')
KAFKA_FIELDS = frozenset(("name", "password", "salt", "iterations", "saltedpassword"))


class BadLine(Exception):
    """The error for a line that says nothing that can be imported."""


def read_users(lines: Iterable[str]) -> tuple[Mapping[str, Sequence[ScramVerifier]], Sequence[str]]:
    """The verifiers of each user, and what is wrong with each line that cannot be used. Empty lines, and
    those that begin with #, are left out."""
    users: dict[str, dict[ScramMechanism, ScramVerifier]] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            name, verifier = _read(text)
            if verifier.mechanism in users.setdefault(name, {}):
                raise BadLine("a second verifier of the same user and mechanism")
            users[name][verifier.mechanism] = verifier
        except (BadLine, ValueError) as error:
            problems.append(f"line {number}: {error}")
    return {name: tuple(verifiers.values()) for name, verifiers in users.items()}, problems


def _read(text: str) -> tuple[str, ScramVerifier]:
    if match := _KAFKA.fullmatch(text):
        return _read_kafka(match[1], match[2])
    parts = text.rsplit(":", 5)
    if len(parts) != 6 or parts[1] not in MECHANISMS:
        raise BadLine("it is neither NAME:MECHANISM:SALT:STORED_KEY:SERVER_KEY:ITERATIONS nor Kafka's form")
    name, mechanism_word, salt, stored_key, server_key, iterations = parts
    mechanism = MECHANISMS[mechanism_word]
    verifier = ScramVerifier(
        mechanism, _bytes(salt), _iterations(iterations), _bytes(stored_key), _bytes(server_key)
    )
    if {len(verifier.stored_key), len(verifier.server_key)} != {digest_bytes(mechanism)}:
        raise BadLine(f"a key of {mechanism_word} has {digest_bytes(mechanism)} bytes")
    return user_name(name), verifier


def _read_kafka(mechanism_word: str, text: str) -> tuple[str, ScramVerifier]:
    fields: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _KAFKA_FIELD.match(text, position)
        if match is None or match[1] not in KAFKA_FIELDS or match[1] in fields:
            raise BadLine(f"between the brackets are {', '.join(sorted(KAFKA_FIELDS))}, each once")
        fields[match[1]] = match[2].strip('"')
        position = match.end()
    if not fields.get("name"):
        raise BadLine("there is no name between the brackets")
    name = user_name(fields["name"])
    iterations = _iterations(fields.get("iterations", str(ITERATIONS_MIN)))
    if fields.get("password") and not {"salt", "saltedpassword"} & fields.keys():
        return name, verifiers_of(fields["password"], (mechanism_word,), iterations)[0]
    if fields.get("salt") and fields.get("saltedpassword") and "password" not in fields:
        salted = _bytes(fields["saltedpassword"])
        return name, verifier_of(MECHANISMS[mechanism_word], salted, _bytes(fields["salt"]), iterations)
    raise BadLine("it needs a password, or a saltedpassword with its salt")


def _bytes(text: str) -> bytes:
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadLine("salt and keys are base64") from None
    if not data or len(data) > 256:
        raise BadLine("salt and keys have 1 to 256 bytes")
    return data


def _iterations(text: str) -> int:
    if not (text.isascii() and text.isdigit() and ITERATIONS_MIN <= int(text[:9]) <= ITERATIONS_MAX):
        raise BadLine(f"the iterations are a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    return int(text)
