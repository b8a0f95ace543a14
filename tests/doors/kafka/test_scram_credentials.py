"""DescribeUserScramCredentials and AlterUserScramCredentials: users by Kafka's tools."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from mainstem.access_contract import ScramMechanism
from mainstem.authentication.scram import proves
from mainstem.doors.contract import Access
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from mainstem.settings import Settings
from tests.authentication.kit import SHA_256, SHA_512, authentication
from tests.doors.kafka.kit import DoorClient, MemoryNode
from tests.support.access import AccessRig

OK, TWICE = 0, ErrorCode.DUPLICATE_RESOURCE
MISSING, UNACCEPTABLE = ErrorCode.RESOURCE_NOT_FOUND, ErrorCode.UNACCEPTABLE_CREDENTIAL


class UsersClient(DoorClient):
    """An administrator of a server whose users are stored as in a real one."""

    def __init__(self) -> None:
        self.rig = AccessRig(Settings(access_control=True, super_users="User:ANONYMOUS"))
        runtime: Any = self.rig.runtime
        access = Access(
            authorizer=self.rig.authorizer,
            admin=self.rig.access,
            masks=self.rig.masks,
            authentication=authentication(self.rig.access),
        )
        super().__init__(MemoryNode(clock=self.rig.clock, runtime=runtime), access=access)

    def alter(self, *upsertions: Message, delete: tuple[tuple[str, int], ...] = ()) -> dict[str, int]:
        """The error code of each user."""
        deletions = [Message(name=name, mechanism=mechanism) for name, mechanism in delete]
        reply = self.call(51, 0, Message(deletions=deletions, upsertions=list(upsertions)))
        return {result.user: result.error_code for result in reply.results}

    def described(self, *names: str) -> list[tuple[str, int, list[tuple[int, int]]]]:
        """(user, error code, (mechanism, iterations) ...) of each."""
        users = [Message(name=name) for name in names] if names else None
        return [
            (
                result.user,
                result.error_code,
                [(info.mechanism, info.iterations) for info in result.credential_infos],
            )
            for result in self.call(50, 0, Message(users=users)).results
        ]


def upsertion(
    name: str, mechanism: int = 1, iterations: int = 4_096, salt: bytes = b"salt", salted: bytes | None = None
) -> Message:
    """A verifier of the password `pw`, as Kafka's tools send it."""
    if salted is None:
        algorithm = "sha512" if mechanism == 2 else "sha256"
        salted = hashlib.pbkdf2_hmac(algorithm, b"pw", salt, 4_096)
    return Message(name=name, mechanism=mechanism, iterations=iterations, salt=salt, salted_password=salted)


def test_a_user_is_added_described_and_deleted() -> None:
    client = UsersClient()
    assert client.described() == []
    assert client.alter(upsertion("alice", 1), upsertion("alice", 2), upsertion("bob")) == {
        "alice": OK,
        "bob": OK,
    }
    assert client.described() == [("alice", OK, [(1, 4_096), (2, 4_096)]), ("bob", OK, [(1, 4_096)])]
    for mechanism in ScramMechanism:
        verifier = client.rig.access.verifier("alice", mechanism)
        assert verifier is not None
        assert proves(verifier, "pw")
    deleted: list[str] = []
    client.rig.access.on_user_deleted.append(deleted.append)
    assert client.alter(delete=(("bob", 1), ("alice", 1))) == {"alice": OK, "bob": OK}
    assert deleted == ["bob"]
    assert client.described() == [("alice", OK, [(2, 4_096)])]


def test_the_only_verifier_of_a_user_is_replaced_without_deleting_the_user() -> None:
    client = UsersClient()
    client.alter(upsertion("alice", 1))
    deleted: list[str] = []
    client.rig.access.on_user_deleted.append(deleted.append)
    assert client.alter(upsertion("alice", 2), delete=(("alice", 1),)) == {"alice": OK}
    assert client.described("alice") == [("alice", OK, [(2, 4_096)])]
    assert deleted == []


def test_users_that_do_not_exist_and_those_asked_for_twice() -> None:
    client = UsersClient()
    client.alter(upsertion("alice"))
    assert client.described("mallory", "alice", "alice") == [("mallory", MISSING, []), ("alice", TWICE, [])]


@pytest.mark.parametrize(
    ("changes", "delete", "code"),
    [
        ([upsertion("alice", iterations=4_095)], (), UNACCEPTABLE),
        ([upsertion("alice", iterations=16_385)], (), UNACCEPTABLE),
        ([upsertion("alice", iterations=-1)], (), UNACCEPTABLE),
        ([upsertion("alice", salted=b"short")], (), UNACCEPTABLE),
        ([upsertion("alice", salt=b"", salted=b"x" * 32)], (), UNACCEPTABLE),
        ([upsertion("alice", 3)], (), ErrorCode.UNSUPPORTED_SASL_MECHANISM),
        ([upsertion("alice", 0)], (), ErrorCode.UNSUPPORTED_SASL_MECHANISM),
        ([upsertion("alice"), upsertion("alice")], (), TWICE),
        ([upsertion("alice")], (("alice", 1),), TWICE),
        ([], (("alice", 1), ("alice", 1)), TWICE),
        ([], (("alice", 2),), MISSING),
        ([upsertion("alice", 2)], (("alice", 1), ("alice", 9)), ErrorCode.UNSUPPORTED_SASL_MECHANISM),
    ],
)
def test_changes_that_are_refused_change_nothing_and_affect_no_other_user(
    changes: list[Message], delete: tuple[tuple[str, int], ...], code: int
) -> None:
    client = UsersClient()
    client.alter(upsertion("alice", 1, 5_000))
    assert client.alter(*changes, upsertion("bob"), delete=delete) == {"alice": code, "bob": OK}
    assert client.described("alice") == [("alice", OK, [(1, 5_000)])]


@pytest.mark.parametrize("name", ["", "a\0", " alice", "x" * 300, "\u00aa", "a\u00adb"])
def test_names_that_no_user_can_have_are_refused(name: str) -> None:
    client = UsersClient()
    assert client.alter(upsertion(name)) == {name: UNACCEPTABLE}
    assert client.described() == []


def test_a_user_by_kafkas_tools_can_log_in_by_each_way_of_passwords() -> None:
    client = UsersClient()
    client.alter(upsertion("alice", 1))
    service = client.dispatcher.context.access.authentication
    assert service.check_password("alice", "pw", "h", door="kafka").result().principal.name == "alice"
    assert client.rig.access.verifier("alice", SHA_256) is not None
    assert client.rig.access.verifier("alice", SHA_512) is None


def test_who_may_not_alter_the_cluster_changes_and_learns_nothing() -> None:
    client = UsersClient()
    client.alter(upsertion("alice"))
    client.connection.identify(client.connection.principal._replace(name="stranger"))
    assert client.alter(upsertion("alice"), delete=(("bob", 1),)) == {"alice": 31, "bob": 31}
    assert client.call(50, 0, Message(users=None)).error_code == 31
