"""`mainstem users`, `acls`, `quotas` and `masking-rules`, on a server and on a folder without one."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from mainstem.access_contract import ScramMechanism
from mainstem.authentication.scram import proves
from mainstem.cli import run
from mainstem.cli.user_lines import read_users
from tests.support.server import Server

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mainstem(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """`mainstem(arguments)` in this process: exit code, standard output, standard error."""

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    access = {"access_control": "true", "super_users": "User:ANONYMOUS"}
    with Server(tmp_path_factory.mktemp("cli") / "data", http="127.0.0.1:0", **access) as running:
        yield running


FOLDER = pytest.param("folder", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def places(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """The options for a server, for its HTTP door, and for a folder without one."""
    folder = tmp_path_factory.mktemp("access") / "data"
    folder.mkdir()
    return {
        "server": ("--at", server.address),
        "door": ("--at", f"http://{server.http}"),
        "folder": ("--data", str(folder)),
    }


@pytest.mark.parametrize("place", ["server", FOLDER])
def test_users_from_the_first_to_the_last(
    mainstem: Call, places: dict[str, tuple[str, ...]], place: str, tmp_path: Path
) -> None:
    options = places[place]
    file = tmp_path / "password"
    file.write_text("s3cret\nnot this line\n")
    file.chmod(0o600)
    added = mainstem("users", "add", "alice", *options, "--new-password-file", str(file))
    assert added == (0, "added alice\n", "")
    again = mainstem("users", "add", "alice", *options, "--new-password-file", "-", stdin="x")
    assert again == (1, "", "mainstem: there is a user 'alice' already\n")
    hashing = ("--mechanism", "SCRAM-SHA-512", "--iterations", "8192", "--new-password-file", "-")
    changed = mainstem("users", "passwd", "alice", *options, *hashing, stdin="other\n")
    assert changed == (0, "changed the password of alice\n", "")
    assert mainstem("users", "list", *options)[1] == "alice\tSCRAM-SHA-512:8192\tno\n"
    row = json.loads(mainstem("users", "list", "--json", *options)[1])
    assert row["mechanisms"] == [{"mechanism": "SCRAM-SHA-512", "iterations": 8192}]
    assert mainstem("users", "passwd", "bob", *options, *hashing, stdin="x")[0] == 1
    assert mainstem("users", "delete", "alice", *options)[0] == 2, "there is no terminal to ask on"
    assert mainstem("users", "delete", "alice", "bob", "--yes", *options)[0] == 1
    assert mainstem("users", "delete", "alice", "--dry-run", *options)[1] == "would delete alice\n"
    assert mainstem("users", "delete", "alice", "--yes", *options) == (0, "deleted alice\n", "")
    assert mainstem("users", "list", *options) == (0, "", "")


@pytest.mark.parametrize("place", ["server", FOLDER])
def test_entries_from_the_first_to_the_last(
    mainstem: Call, places: dict[str, tuple[str, ...]], place: str
) -> None:
    options = places[place]
    words = ("--operation", "read,Describe", "--topic", "or", "--prefixed")
    code, out, err = mainstem("acls", "add", "--allow", "alice", *words, *options)
    assert (code, err) == (0, "2 entries added\n")
    read = "TOPIC\tor\tPREFIXED\tUser:alice\t*\tREAD\tALLOW\n"
    describe = read.replace("READ", "DESCRIBE")
    assert out == read + describe
    assert mainstem("acls", "add", "--allow", "alice", *words, *options)[1:] == ("", "0 entries added\n")
    denial = ("--deny", "Role:x", "--operation", "all", "--cluster", "--host", "::1")
    assert mainstem("acls", "add", *denial, "--dry-run", *options)[2] == "1 entry would be added\n"
    assert mainstem("acls", "add", *denial, *options)[0] == 0
    cluster = "CLUSTER\tkafka-cluster\tLITERAL\tRole:x\t::1\tALL\tDENY\n"
    assert mainstem("acls", "list", *options)[1] == read + describe + cluster
    assert mainstem("acls", "list", "--topic", "orders", *options)[1] == ""
    assert mainstem("acls", "list", "--topic", "orders", "--matching", *options)[1] == read + describe
    assert mainstem("acls", "list", "--principal", "alice", "--operation", "read", *options)[1] == read
    assert mainstem("acls", "list", "--deny", "--host", "::1", *options)[1] == cluster
    assert json.loads(mainstem("acls", "list", "--cluster", "--json", *options)[1])["operation"] == "ALL"
    assert mainstem("acls", "delete", *options)[0] == 2, "it does not say which"
    assert mainstem("acls", "delete", "--all", "--deny", "--yes", *options)[0] == 2
    assert mainstem("acls", "delete", "--deny", *options)[0] == 2, "there is no terminal to ask on"
    assert mainstem("acls", "delete", "--deny", "--dry-run", *options)[1:] == (
        cluster,
        "1 entry would be deleted\n",
    )
    assert mainstem("acls", "delete", "--deny", "--yes", *options)[1] == cluster
    assert mainstem("acls", "delete", "--all", "--yes", *options)[1:] == (
        read + describe,
        "2 entries deleted\n",
    )


@pytest.mark.parametrize("place", ["server", FOLDER])
def test_may_alice_read_orders(mainstem: Call, places: dict[str, tuple[str, ...]], place: str) -> None:
    options = places[place]
    words = ("--operation", "read", "--topic", "or", "--prefixed")
    mainstem("acls", "add", "--allow", "alice", "--allow", "Role:ops", *words, *options)
    question = ("acls", "test", "alice", "describe", "--topic", "orders", *options)
    assert mainstem(*question)[:2] == (0, "yes\tALLOW User:alice READ on TOPIC or… from *\n")
    assert json.loads(mainstem(*question, "--json")[1])["acl"]["name"] == "or"
    no = mainstem("acls", "test", "alice", "write", "--topic", "orders", *options)
    assert no == (1, "no\tno entry allows it\n", "")
    nothing = mainstem("acls", "test", "bob", "read", "--group", "g", *options)
    assert nothing[:2] == (1, "no\tthere is no entry about this resource\n")
    role = mainstem("acls", "test", "bob", "read", "--topic", "orders", "--role", "ops", *options)
    assert role[1] == "yes\tALLOW Role:ops READ on TOPIC or… from *\n"
    assert mainstem("acls", "test", "bob", "read", *options)[0] == 2
    assert mainstem("acls", "test", "bob", "fly", "--topic", "orders", *options)[0] == 2
    assert mainstem("acls", "delete", "--all", "--yes", *options)[0] == 0


@pytest.mark.parametrize("place", ["server", FOLDER])
def test_quotas_from_the_first_to_the_last(
    mainstem: Call, places: dict[str, tuple[str, ...]], place: str
) -> None:
    options = places[place]
    of_every = ("--for-every-user", "--for-client", "app", *options)
    rates = ("--producer-byte-rate", "1048576", "--request-percentage", "12.5")
    row = "<default>\tapp\t\t1048576\t\t12.5\t\n"
    assert mainstem("quotas", "set", *of_every, *rates, "--dry-run") == (0, row, "2 quotas would be set\n")
    assert mainstem("quotas", "list", *options)[1] == ""
    assert mainstem("quotas", "set", *of_every, *rates) == (0, row, "2 quotas set\n")
    of_user = ("--for-user", "al\tice", "--for-client", "app", *options)
    named = "al\\tice\tapp\t\t\t7\t\t\n"
    assert mainstem("quotas", "set", *of_user, "--consumer-byte-rate", "7") == (0, named, "1 quota set\n")
    assert mainstem("quotas", "list", "--for-user", "al\tice", *options)[1] == named
    assert mainstem("quotas", "delete", *of_user, "--yes") == (0, named, "1 quota deleted\n")
    of_address = ("--for-ip", "2001:DB8:0::1", "--connection-creation-rate", "5", *options)
    address = "\t\t2001:db8::1\t\t\t\t5\n"
    assert mainstem("quotas", "set", *of_address) == (0, address, "1 quota set\n")
    assert mainstem("quotas", "list", *options) == (0, row + address, "")
    assert mainstem("quotas", "list", "--for-client", "app", *options)[1] == row
    assert mainstem("quotas", "list", "--for-every-ip", *options)[1] == ""
    assert mainstem("quotas", "list", "--for-ip", "here", *options)[0] == 1
    listed = json.loads(mainstem("quotas", "list", "--for-every-user", "--json", *options)[1])
    assert (listed["user"], listed["ip"], listed["consumer_byte_rate"]) == ("", None, None)
    code, _, error = mainstem("quotas", "set", "--for-ip", "::1", "--request-percentage", "5", *options)
    assert (code, "Invalid configuration key request_percentage" in error) == (1, True)
    assert mainstem("quotas", "delete", *of_every)[0] == 2, "there is no terminal to ask on"
    some = ("quotas", "delete", *of_every, "--quota", "request_percentage")
    percentage = "<default>\tapp\t\t\t\t12.5\t\n"
    assert mainstem(*some, "--dry-run") == (0, percentage, "1 quota would be deleted\n")
    assert mainstem(*some, "--yes") == (0, percentage, "1 quota deleted\n")
    assert mainstem(*some) == (0, "", "0 quotas deleted\n")
    assert mainstem("quotas", "delete", *of_every, "--yes")[2] == "1 quota deleted\n"
    assert mainstem("quotas", "delete", "--for-ip", "2001:db8::1", "--yes", *options)[1] == address
    assert mainstem("quotas", "list", *options) == (0, "", "")


@pytest.mark.parametrize("place", ["server", FOLDER])
def test_masking_rules_from_the_first_to_the_last(
    mainstem: Call, places: dict[str, tuple[str, ...]], place: str
) -> None:
    options = places[place]
    add = ("masking-rules", "add", "cards", "--topic", "or", "--prefixed", "--path", "customer.card")
    whom = ("--kind", "last4", "--for", "Role:support", "--for", "bob", "--exempt", "alice", *options)
    row = "cards\tor\tPREFIXED\tcustomer.card\tlast4\tRole:support,User:bob\tUser:alice\n"
    assert mainstem(*add, *whom, "--dry-run") == (0, row, "1 rule would be added\n")
    assert mainstem("masking-rules", "list", *options)[1] == ""
    assert mainstem(*add, *whom) == (0, row, "1 rule added\n")
    again = mainstem(*add, *options)
    assert again == (1, "", "mainstem: there is a masking rule 'cards' already; add --replace\n")
    everybody = row.replace("last4\tRole:support,User:bob\tUser:alice", "hidden\tUser:*\t")
    assert mainstem(*add, "--replace", *options)[1] == everybody
    assert mainstem("masking-rules", "list", *options) == (0, everybody, "")
    listed = json.loads(mainstem("masking-rules", "list", "--json", *options)[1])
    assert (listed["prefixed"], listed["principals"]) == (True, ["User:*"])
    delete = ("masking-rules", "delete", "cards", *options)
    assert mainstem(*delete)[0] == 2, "there is no terminal to ask on"
    assert mainstem(*delete, "--dry-run") == (0, "would delete cards\n", "")
    assert mainstem(*delete, "--yes") == (0, "deleted cards\n", "")
    assert mainstem(*delete, "--yes")[0] == 1
    assert mainstem("masking-rules", "list", *options) == (0, "", "")


def test_a_masking_rule_is_previewed(mainstem: Call, server: Server) -> None:
    api, options = f"http://{server.http}/api/v1/topics", ("--at", server.address)
    with httpx.Client(trust_env=False) as client:
        client.post(api, json={"topic": "paid", "partitions": 1}).raise_for_status()
        rows = [{"value": {"card": "4111111111111234", "n": 1.50}}, {"value": "a\tb", "key": "k"}, {}]
        client.post(f"{api}/paid/events", json=rows).raise_for_status()
    preview = ("masking-rules", "preview", "paid", "--path", "card", *options)
    code, out, note = mainstem(*preview, "--kind", "last4")
    assert (code, note) == (0, "2 of 3 events would be masked\n")
    assert out.splitlines() == [
        "0\t2\tno\t\t\t",
        '0\t1\tyes\t"k"\t\t"[hidden]"',
        '0\t0\tyes\t\t\t{"card":"…1234","n":1.5}',
    ]
    (row,) = map(json.loads, mainstem(*preview, "--json", "--events", "1")[1].splitlines())
    assert (row["is_masked"], row["plain"]["offset"]) == (False, 2)
    assert mainstem("masking-rules", "preview", "none", "--path", "card", *options)[0] == 1
    assert mainstem("topics", "delete", "paid", "--yes", *options)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("users", "add", "a\0"),
        ("users", "add", "a", "--iterations", "100"),
        ("users", "add", "a", "--new-password-file", "-"),
        ("users", "add", "a", "--new-password-file", "/no/such/file"),
        ("users", "add", "a"),
        ("users", "add", "a", "--password", "p"),
        ("acls", "add", "--allow", "alice", "--operation", "read"),
        ("acls", "add", "--operation", "read", "--topic", "t"),
        ("acls", "add", "--allow", "User:", "--operation", "read", "--topic", "t"),
        ("acls", "add", "--allow", "alice", "--operation", "any", "--topic", "t"),
        ("acls", "add", "--allow", "alice", "--operation", "read", "--topic", "t", "--host", "myhost"),
        ("acls", "list", "--allow", "--deny"),
        ("quotas", "set", "--producer-byte-rate", "1"),
        ("quotas", "set", "--for-user", "a"),
        ("quotas", "set", "--for-user", "", "--producer-byte-rate", "1"),
        ("quotas", "set", "--for-user", "a", "--for-every-user", "--producer-byte-rate", "1"),
        ("quotas", "set", "--for-user", "a", "--producer-byte-rate", "0"),
        ("quotas", "set", "--for-user", "a", "--producer-byte-rate", "inf"),
        ("quotas", "set", "--for-user", "a", "--producer-byte-rate", "1M"),
        ("quotas", "delete"),
        ("quotas", "delete", "--for-user", "a", "--quota", "everything"),
        ("masking-rules", "add", "r", "--topic", "t"),
        ("masking-rules", "add", "r", "--topic", "t", "--path", "a..b"),
        ("masking-rules", "add", "a/b", "--topic", "t", "--path", "card"),
        ("masking-rules", "add", "r", "--topic", "t", "--path", "card", "--kind", "secret"),
        ("masking-rules", "add", "r", "--topic", "t", "--path", "card", "--for", "User:"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_changes_nothing(
    mainstem: Call, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert mainstem(*arguments, "--data", str(tmp_path / "data"))[0] == 2
    assert not (tmp_path / "data").exists()


def test_a_folder_that_a_server_uses_is_refused(mainstem: Call, server: Server, tmp_path: Path) -> None:
    code, _, error = mainstem("users", "list", "--data", str(server.data))
    assert code == 8
    assert "without --data the command asks the server at --at" in error
    assert mainstem("users", "list", "--data", str(tmp_path / "none"))[0] == 7
    assert not (tmp_path / "none").exists()


def test_the_first_user_is_made_before_the_first_start(mainstem: Call, tmp_path: Path) -> None:
    options = ("--data", str(tmp_path / "data"))
    assert (
        mainstem("users", "add", "admin", "--new-password-file", "-", *options, stdin="p")[1]
        == "added admin\n"
    )
    assert mainstem("users", "list", *options)[1] == "admin\tSCRAM-SHA-256:4096,SCRAM-SHA-512:4096\tno\n"


# --- import -----------------------------------------------------------------------------------------------

SHA_256 = "carol:x:SCRAM-SHA-256:c2FsdA==:" + ("a" * 43 + "=:") * 2 + "4096"


def test_lines_of_verifiers_and_of_kafka_are_read() -> None:
    salted = "c2FsdA=="
    lines = [
        "# users",
        "",
        SHA_256,
        'SCRAM-SHA-512=[name="bob",password="s,e=c",iterations=8192]',
        f"SCRAM-SHA-256=[name=bob,salt={salted},saltedpassword={'a' * 43}=]",
    ]
    users, problems = read_users(lines)
    assert problems == []
    assert list(users) == ["carol:x", "bob"]
    assert users["carol:x"][0].salt == b"salt"
    with_password, with_salted = users["bob"]
    assert (with_password.mechanism, with_password.iterations) == (ScramMechanism.SHA_512, 8192)
    assert proves(with_password, "s,e=c")
    assert with_salted.salt == b"salt"


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:secret",
        SHA_256.replace("4096", "1"),
        SHA_256.replace("a" * 43, "a" * 42),
        SHA_256.replace("c2FsdA==", "?"),
        SHA_256.replace("carol:x", ""),
        "SCRAM-SHA-256=[password=secret]",
        "SCRAM-SHA-256=[name=a]",
        "SCRAM-SHA-256=[name=a,name=b,password=secret]",
        "SCRAM-SHA-256=[name=a,password=secret,salt=c2FsdA==]",
        "SCRAM-SHA-256=[name=a,password=secret,more=1]",
        "SCRAM-SHA-1=[name=a,password=secret]",
    ],
)
def test_a_bad_line_is_reported_without_what_it_says(line: str) -> None:
    users, problems = read_users([line])
    assert (len(problems), sum(map(len, users.values()))) == (1, 0)
    assert "secret" not in problems[0]
    assert problems[0].startswith("line 1: ")


def test_users_are_imported_all_or_none(
    mainstem: Call, places: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    options = places["server"]
    bad = mainstem("users", "import", "-", *options, stdin=f"{SHA_256}\nalice:secret\n")
    assert (bad[0], bad[1]) == (4, "")
    assert bad[2].endswith("mainstem: -: nothing was imported\n")
    assert "secret" not in bad[2]
    file = tmp_path / "users"
    file.write_text(f"{SHA_256}\nSCRAM-SHA-256=[name=dave,password=p]\n")
    assert mainstem("users", "import", str(file), *options) == (0, "imported 2 users\n", "")
    code, _, error = mainstem("users", "import", str(file), *options)
    assert code == 1
    assert "carol:x, dave; add --replace" in error
    assert mainstem("users", "import", str(file), "--replace", *options)[1] == "imported 2 users\n"
    assert mainstem("users", "delete", "carol:x", "dave", "--yes", *options)[0] == 0


@pytest.mark.parametrize("place", ["door", pytest.param("server", marks=pytest.mark.slow), FOLDER])
def test_tokens_from_the_first_to_the_last(
    mainstem: Call, places: dict[str, tuple[str, ...]], place: str, tmp_path: Path
) -> None:
    options = places[place]
    file = tmp_path / "password"
    file.write_text("secret")
    assert mainstem("users", "add", "alice", *options, "--new-password-file", str(file))[0] == 0
    code, token, note = mainstem(
        "tokens", "add", "alice", "--name", "ci", "--scope", "read-only", "--expires", "1h", *options
    )
    assert (code, token[:4], token.count("\n")) == (0, "mst_", 1)
    assert " of alice, until " in note
    row = json.loads(mainstem("tokens", "list", "--json", *options)[1])
    assert (row["user"], row["name"], row["scopes"], row["expired"]) == ("alice", "ci", ["read-only"], False)
    assert mainstem("tokens", "list", *options)[1].startswith(f"{row['id']}\talice\tci\tread-only\t")
    assert mainstem("tokens", "delete", row["id"], *options)[0] == 2, "there is no terminal to ask on"
    assert mainstem("tokens", "delete", row["id"], "--yes", *options) == (0, f"deleted {row['id']}\n", "")
    assert mainstem("tokens", "delete", row["id"], "--yes", *options)[0] == 1
    assert mainstem("tokens", "list", *options) == (0, "", "")
    assert mainstem("tokens", "add", "bob", "--name", "x", *options)[0] == 1, "there is no such user"
    for wrong in (("--scope", "all"), ("--expires", "soon")):
        assert mainstem("tokens", "add", "alice", "--name", "x", *wrong, *options)[0] == 2
    assert mainstem("users", "delete", "alice", "--yes", *options)[0] == 0


def test_an_http_door_is_no_kafka_server_and_gets_no_login_that_others_could_read(
    mainstem: Call, server: Server, tmp_path: Path
) -> None:
    code, _, error = mainstem("topics", "list", "--at", f"http://{server.http}")
    assert (code, "is no address of a Kafka server: this needs HOST:PORT of one" in error) == (1, True)
    file = tmp_path / "password"
    file.write_text("secret")
    file.chmod(0o600)
    login = ("--user", "alice", "--password-file", str(file))
    code, _, error = mainstem("users", "list", "--at", "http://198.51.100.1:80", *login)
    assert code == 1
    assert (
        error
        == "mainstem: http://198.51.100.1:80: others could read the login; use https://198.51.100.1:80\n"
    )
