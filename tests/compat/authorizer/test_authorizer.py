"""500 random situations of access control: Apache Kafka's StandardAuthorizer gives the same answers."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mainstem.access_contract import (
    ANY_HOST,
    CLUSTER_NAME,
    USER,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    Requester,
    Resource,
    ResourceType,
)
from mainstem.settings import Settings
from tests.compat import apache_kafka
from tests.coordinator.state_rig import done
from tests.support.access import EVERYBODY, AccessRig

SITUATIONS, QUESTIONS_OF_EACH = 500, 20
PROGRAM = Path(__file__).parent / "Decisions.java"
TIMEOUT_S = 120

NAMES = ("a", "ab", "abc", "abd", "b", "ba", "*", "Ä", "a.b")
PREFIXES = ("a", "ab", "abc", "b", "*", "Ä")
HOSTS = ("10.0.0.1", "10.0.0.2", "0:0:0:0:0:0:0:1")
PRINCIPALS = (Principal(USER, "alice"), Principal(USER, "bob"), Principal("Team", "alice"))
ADMIN = Principal(USER, "admin")
TYPES = (
    ResourceType.TOPIC,
    ResourceType.GROUP,
    ResourceType.CLUSTER,
    ResourceType.TRANSACTIONAL_ID,
    ResourceType.USER,
)
OPERATIONS = tuple(operation for operation in Operation if operation not in (Operation.ANY, Operation.ALL))
WITHOUT_IMPLIED = tuple(
    operation for operation in OPERATIONS if operation not in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)
)


class Question(NamedTuple):
    """A question; of any resource of the type if there is no name."""

    principal: Principal
    host: str
    operation: Operation
    type: ResourceType
    name: str | None

    @property
    def line(self) -> str:
        fields = (self.principal.text, self.host, self.operation.name, self.type.name)
        return "\t".join(("any", *fields) if self.name is None else ("ask", *fields, self.name))


class Situation(NamedTuple):
    """Settings, entries, and questions."""

    everyone: bool
    acls: list[Acl]
    questions: list[Question]

    def lines(self) -> Iterator[str]:
        yield f"new\t{ADMIN.text}\t{str(self.everyone).lower()}"
        for acl in self.acls:
            yield "\t".join(
                (
                    "acl",
                    acl.resource_type.name,
                    acl.name,
                    acl.pattern.name,
                    acl.principal.text,
                    acl.host,
                    acl.operation.name,
                    acl.permission.name,
                )
            )
        yield from (question.line for question in self.questions)


def random_acl(rng: random.Random) -> Acl:
    """An entry; of few names, so that several are about one resource."""
    resource_type = rng.choice(TYPES[: rng.choice((1, 2, 5))])
    pattern = rng.choice((PatternType.LITERAL, PatternType.PREFIXED))
    name = rng.choice(NAMES if pattern is PatternType.LITERAL else PREFIXES)
    return Acl(
        resource_type,
        CLUSTER_NAME if resource_type is ResourceType.CLUSTER else name,
        pattern,
        rng.choice((*PRINCIPALS, EVERYBODY)),
        rng.choice((ANY_HOST, ANY_HOST, *HOSTS)),
        rng.choice((Operation.ALL, Operation.READ, Operation.DESCRIBE, *OPERATIONS)),
        rng.choice((Permission.ALLOW, Permission.ALLOW, Permission.DENY)),
    )


def random_question(rng: random.Random) -> Question:
    """A question for a decision, or for any resource of a type."""
    resource_type = rng.choice(TYPES[: rng.choice((1, 2, 5))])
    name = CLUSTER_NAME if resource_type is ResourceType.CLUSTER else rng.choice(NAMES)
    any_name = rng.random() < 0.3
    return Question(
        rng.choice((*PRINCIPALS, ADMIN) if rng.random() < 0.2 else PRINCIPALS),
        rng.choice(HOSTS),
        rng.choice(WITHOUT_IMPLIED if any_name else (Operation.READ, Operation.DESCRIBE, *OPERATIONS)),
        resource_type,
        None if any_name else name,
    )


def random_situation(rng: random.Random) -> Situation:
    """Up to 15 entries, and questions."""
    return Situation(
        rng.random() < 0.3,
        list({random_acl(rng): None for _ in range(rng.choice((0, 1, 3, 8, 15)))}),
        [random_question(rng) for _ in range(QUESTIONS_OF_EACH)],
    )


def answers_of_kafka(situations: list[Situation]) -> list[bool]:
    """What Kafka's authorizer answers to all questions, in order."""
    lines = "".join(f"{line}\n" for situation in situations for line in situation.lines())
    done_ = subprocess.run(
        apache_kafka.java("256m", str(PROGRAM)),
        input=lines,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done_.returncode == 0, done_.stderr[-2000:]
    return [{"ALLOWED": True, "DENIED": False}[word] for word in done_.stdout.split()]


def answers(situation: Situation) -> Iterator[bool]:
    """What mainstem's authorizer answers."""
    rig = AccessRig(
        Settings(
            access_control=True,
            super_users=ADMIN.text,
            allow_everyone_if_no_acl_found=situation.everyone,
        )
    )
    done(rig.access.create_acls(situation.acls))
    for principal, host, operation, resource_type, name in situation.questions:
        asker = Requester(principal=principal, host=host)
        if name is None:
            yield rig.authorizer.allows_any(asker, operation, resource_type)
        else:
            yield rig.authorizer.allows(asker, operation, Resource(resource_type, name))


def skip_without_kafka() -> None:
    if shutil.which("javac") is None or not list(apache_kafka.JARS.glob("kafka-metadata-*.jar")):
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no Java, or no Apache Kafka: run `make deps-all`")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_500_random_situations() -> None:
    skip_without_kafka()
    rng = random.Random(13)
    situations = [random_situation(rng) for _ in range(SITUATIONS)]
    theirs = iter(answers_of_kafka(situations))
    allowed = 0
    different: list[str] = []
    for situation in situations:
        for question, ours in zip(situation.questions, answers(situation), strict=True):
            expected = next(theirs)
            allowed += expected
            if ours != expected:
                different.append(f"Kafka: {expected}\n" + "\n".join(situation.lines()) + question.line)
    assert next(theirs, None) is None
    assert not different, different[0]
    assert SITUATIONS * QUESTIONS_OF_EACH * 0.2 < allowed < SITUATIONS * QUESTIONS_OF_EACH * 0.8


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_where_kafka_decides_otherwise() -> None:
    """Kafka does not apply entries of every name to names that begin with a star, so that a denial of
    everything is none for them; and to find out whether it allows what no entry is about it asks for a
    resource named `hardcode`."""
    skip_without_kafka()
    alice = PRINCIPALS[0]
    allowed = Acl(
        ResourceType.GROUP, "*a", PatternType.LITERAL, alice, ANY_HOST, Operation.READ, Permission.ALLOW
    )
    denied = allowed._replace(name="*", permission=Permission.DENY)
    star = Situation(
        False, [allowed, denied], [Question(alice, HOSTS[0], Operation.READ, ResourceType.GROUP, "*a")]
    )
    hardcoded = allowed._replace(name="hardcode", permission=Permission.DENY)
    every = Situation(
        True, [hardcoded], [Question(alice, HOSTS[0], Operation.READ, ResourceType.GROUP, None)]
    )
    assert answers_of_kafka([star, every]) == [True, False]
    assert [*answers(star), *answers(every)] == [False, True]
