"""How clients log in: files of properties, the options of commands, and the client's side of SASL."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from mainstem.access_contract import ScramMechanism
from mainstem.authentication import oauthbearer, plain
from mainstem.authentication.identity import AuthenticationFailed
from mainstem.authentication.scram import ScramExchange, make_verifier
from mainstem.cli import run
from mainstem.cli.credentials import OPTIONS
from mainstem.cli.exit_codes import ExitCode
from mainstem.client_credentials.contexts import contexts_path, read_context
from mainstem.client_credentials.given import NAMES, place_of_variables, security_of
from mainstem.client_properties import read_properties
from mainstem.client_security import PLAINTEXT, ClientSecurity, ClientSecurityError
from mainstem.sasl_client import SaslError, exchange
from mainstem.settings import OTHER_VARIABLES
from tests.cli.test_help import ALL
from tests.support.certificates import client_files, server_files

NONCE = "client"


def client(**given: str) -> Generator[bytes, bytes, None]:
    """An exchange of the client."""
    return exchange(ClientSecurity(protocol="SASL_SSL", **given), NONCE)  # type: ignore[arg-type]


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_scram_proves_the_password_to_the_server_and_the_server_to_the_client(mechanism: str) -> None:
    number = ScramMechanism.SHA_256 if mechanism.endswith("256") else ScramMechanism.SHA_512
    verifier = make_verifier(number, "päss=,word", b"0123456789abcdef", 4096)
    for password, is_right in (("päss=,word", True), ("other", False)):
        messages = client(mechanism=mechanism, user="a,b=c", password=password)
        server = ScramExchange(number, {"a,b=c": verifier}.__getitem__, lambda: "server")
        final = messages.send(server.first(next(messages)))
        if not is_right:
            with pytest.raises(AuthenticationFailed):
                server.final(final)
            continue
        last, _ = server.final(final)
        with pytest.raises(StopIteration):
            messages.send(last)


@pytest.mark.parametrize(
    ("first", "final", "message"),
    [
        (b"r=other,s=AAAA,i=4096", b"", "nonce does not continue"),
        (b"r=client,s=AAAA,i=4096", b"", "nonce does not continue"),
        (b"r=client1,s=AAAA,i=1", b"", "asks for '1' iterations"),
        (b"r=client1,s=AAAA,i=2000000000", b"", "asks for '2000000000' iterations"),
        (b"r=client1,s=AAAA,i=-4096", b"", "iterations"),
        (b"r=client1,s=?,i=4096", b"", "salt is not base64"),
        (b"\xff", b"", "not UTF-8"),
        (b"r=client1,s=AAAA,i=4096", b"v=AAAA", "does not know the password"),
        (b"r=client1,s=AAAA,i=4096", b"", "does not know the password"),
    ],
)
def test_a_server_that_does_not_keep_to_scram_is_refused(first: bytes, final: bytes, message: str) -> None:
    messages = client(mechanism="SCRAM-SHA-256", user="a", password="b")
    next(messages)
    with pytest.raises(SaslError, match=message):
        messages.send(first)
        messages.send(final)


def test_other_mechanisms_send_what_the_server_reads() -> None:
    assert plain.parse(next(client(mechanism="PLAIN", user="a", password="b"))) == ("a", "b")
    messages = client(mechanism="OAUTHBEARER", token="abc")
    assert oauthbearer.parse(next(messages)).token == "abc"
    assert messages.send(b'{"status":"invalid_token"}') == b"\x01"
    with pytest.raises(SaslError):
        next(client(mechanism="GSSAPI"))


JAVA = """\
# a client of Java
bootstrap.servers = kafka.example:9093
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\
    username="ali\\"ce" password="s e;cret=";
ssl.truststore.type=PEM
ssl.truststore.location=/ca.pem
ssl.endpoint.identification.algorithm=
acks=all
"""
LIBRDKAFKA = """\
security.protocol=sasl_plaintext
sasl.mechanisms=PLAIN
sasl.username=alice
sasl.password=a=b#c
"""


def test_files_of_java_and_of_librdkafka_are_read(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text(JAVA)
    read = read_properties(str(path))
    assert read.addresses == "kafka.example:9093"
    assert read.security == ClientSecurity(
        protocol="SASL_SSL",
        ca="/ca.pem",
        checks_host=False,
        mechanism="SCRAM-SHA-512",
        user='ali"ce',
        password="s e;cret=",
    )
    assert "s e;cret=" not in repr(read)
    path.write_text(LIBRDKAFKA)
    assert read_properties(str(path)).security == ClientSecurity(
        protocol="SASL_PLAINTEXT", mechanism="PLAIN", user="alice", password="a=b#c"
    )
    path.write_text("security.protocol=SSL\nssl.certificate.location=c\nssl.key.location=k\n")
    assert read_properties(str(path)).security == ClientSecurity(protocol="SSL", cert="c", key="k")
    path.write_text("")
    assert read_properties(str(path)).security == PLAINTEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("security.protocol=TLS", "TLS is none of the protocols PLAINTEXT, SSL"),
        ("security.protocol=SASL_SSL", "sasl.mechanism=GSSAPI is none of SCRAM-SHA-512"),
        ("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN", "PLAIN needs sasl.username and sasl.password"),
        ("ssl.keystore.type=JKS", "ssl.keystore.type=JKS: only PEM can be read"),
        ("ssl.truststore.password=x", "is for Java's key stores: give PEM files"),
        ("ssl.key.password=x", "is for an encrypted key"),
    ],
)
def test_what_a_client_of_another_kind_has_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "client.properties"
    path.write_text(text)
    with pytest.raises(ClientSecurityError, match=message):
        read_properties(str(path))


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    """A file of a secret."""
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_the_options_of_a_command_mean(tmp_path: Path) -> None:
    password = secret(tmp_path / "password", "pa ss\nsecond line\n")
    token = secret(tmp_path / "token", "abc")
    config = secret(tmp_path / "client.properties", JAVA)
    login = {"user": "bob", "password_file": password}
    assert security_of({}) == PLAINTEXT
    assert security_of({"ca": "c"}) == ClientSecurity(protocol="SSL", ca="c")
    assert security_of({"protocol": "SSL"}) == ClientSecurity(protocol="SSL")
    bob = ClientSecurity(protocol="SASL_PLAINTEXT", user="bob", password="pa ss")
    assert security_of(login) == bob
    assert security_of({**login, "ca": "c"}).protocol == "SASL_SSL"
    assert (
        security_of({**login, "protocol": "SASL_PLAINTEXT", "sasl_mechanism": "plain"}).mechanism == "PLAIN"
    )
    bearer = security_of({"token_file": token, "ca": "c"})
    assert (bearer.protocol, bearer.mechanism, bearer.authorization()) == (
        "SASL_SSL",
        "OAUTHBEARER",
        "Bearer abc",
    )
    assert security_of({"client_config": config}).user == 'ali"ce'
    assert security_of({"client_config": config, **login}).password == "pa ss"
    assert bob.authorization() == "Basic Ym9iOnBhIHNz"
    assert ClientSecurity.of_environment(bob.environment()) == bob
    assert ClientSecurity.of_environment({}) == PLAINTEXT
    for given, message in (
        ({"user": "bob"}, "--user bob needs --password-file"),
        ({"token_file": token}, "OAUTHBEARER sends the secret itself: add --ca FILE"),
        ({**login, "sasl_mechanism": "PLAIN"}, "PLAIN sends the secret itself"),
        ({**login, "sasl_mechanism": "MD5"}, "--sasl-mechanism: MD5 is none of"),
        ({"protocol": "SASL_SSL"}, "SASL_SSL needs --user and --password-file"),
        ({"client_config": secret(tmp_path / "open", JAVA, 0o644)}, "can be read by others: chmod 600"),
        ({"token_file": secret(tmp_path / "open2", "x", 0o640)}, "can be read by others: chmod 600"),
        ({"token_file": secret(tmp_path / "empty", "\n")}, "is empty"),
        ({"token_file": str(tmp_path / "missing")}, "cannot be read: No such file"),
    ):
        with pytest.raises(ClientSecurityError, match=message):
            security_of(given)


def test_a_program_connects_as_its_variables_say(tmp_path: Path) -> None:
    password = secret(tmp_path / "password", "pa ss\n")
    contexts = secret(
        tmp_path / "contexts.toml", f'[shop]\nat = "shop:1"\nuser = "bob"\npassword_file = "{password}"\n'
    )
    bob = ClientSecurity(protocol="SASL_PLAINTEXT", user="bob", password="pa ss")
    assert place_of_variables({}, "") == ("", PLAINTEXT)
    assert place_of_variables({"MAINSTEM_AT": "a:1", "MAINSTEM_CA": "c"}, "b:1") == (
        "b:1",
        ClientSecurity(protocol="SSL", ca="c"),
    )
    login = {"MAINSTEM_USER": "bob", "MAINSTEM_PASSWORD_FILE": password}
    assert place_of_variables({**login, "MAINSTEM_AT": "sasl_plaintext://a:1"}, "") == ("a:1", bob)
    named = {"MAINSTEM_CONTEXTS": contexts, "MAINSTEM_CONTEXT": "shop"}
    assert place_of_variables(named, "") == ("shop:1", bob)
    assert place_of_variables({**named, "MAINSTEM_AT": "a:1", "MAINSTEM_USER": "ann"}, "")[1].user == "ann"
    java = {"MAINSTEM_CLIENT_CONFIG": secret(tmp_path / "client.properties", JAVA)}
    assert place_of_variables(java, "") == (
        read_properties(java["MAINSTEM_CLIENT_CONFIG"]).addresses,
        security_of({"client_config": java["MAINSTEM_CLIENT_CONFIG"]}),
    )
    with pytest.raises(ClientSecurityError, match="MAINSTEM_USER bob needs MAINSTEM_PASSWORD_FILE FILE"):
        place_of_variables({"MAINSTEM_USER": "bob"}, "")


def test_files_that_cannot_be_used_are_named_by_clients(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    alice = client_files("alice")
    for security, message in (
        (ClientSecurity(protocol="SSL", ca=str(nonsense)), "nonsense.pem has no certificates in PEM"),
        (
            ClientSecurity(protocol="SSL", ca="/missing.pem"),
            "/missing.pem has no certificates in PEM: no such file",
        ),
        (ClientSecurity(protocol="SSL", cert=str(alice.cert), key=str(server_files().key)), "cannot be used"),
    ):
        with pytest.raises(ClientSecurityError, match=message):
            security.librdkafka()
    settings = ClientSecurity(protocol="SSL", cert=str(alice.cert), key=str(alice.key)).librdkafka()
    assert settings["ssl.key.location"] == str(alice.key)


def test_a_command_says_what_is_wrong_with_its_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MAINSTEM_")]:
        monkeypatch.delenv(name)
    for arguments, message in (
        (["--user", "bob"], "--user bob needs --password-file FILE"),
        (["--at", "TLS://127.0.0.1:1"], "'TLS' is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        (["--client-config", "/missing"], "/missing cannot be read: No such file or directory"),
    ):
        assert run(["topics", "list", *arguments]) == ExitCode.USAGE
        assert message in capsys.readouterr().err
    monkeypatch.setenv("MAINSTEM_USER", "eve")
    assert run(["topics", "list"]) == ExitCode.USAGE
    assert "--user eve needs" in capsys.readouterr().err


def test_every_option_is_documented_and_is_no_option_of_another_kind() -> None:
    page = (Path(__file__).parents[1] / "docs" / "CLI.md").read_text()
    assert tuple(OPTIONS) == NAMES
    for name in OPTIONS:
        assert f"`--{name.replace('_', '-')}" in page
        assert f"MAINSTEM_{name.upper()}" in OTHER_VARIABLES
    for path, subcommand in ALL.items():
        options = [option for param in subcommand.params for option in param.opts if option.startswith("--")]
        assert len(options) == len(set(options)), path


def test_a_context_is_a_server_with_a_name(tmp_path: Path) -> None:
    path = tmp_path / "contexts.toml"
    secret(
        path,
        '[shop]\nat = "SSL://shop.example:1"\nca = "ca.pem"\nuser = "alice"\n'
        '[bad]\npassword = "x"\n[n]\nat = 1\n',
    )
    context = read_context("shop", path, OPTIONS)
    assert context == {"at": "SSL://shop.example:1", "ca": str(tmp_path / "ca.pem"), "user": "alice"}
    for name, message in (
        ("other", "has no context other; there are: bad, n, shop"),
        ("bad", "bad.password is none of at, ca"),
        ("n", "n.at is not text"),
    ):
        with pytest.raises(ClientSecurityError, match=message):
            read_context(name, path, OPTIONS)
    path.chmod(0o644)
    with pytest.raises(ClientSecurityError, match="can be read by others"):
        read_context("shop", path, OPTIONS)
    assert contexts_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/mainstem/contexts.toml")


def test_a_command_connects_as_its_context_or_its_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MAINSTEM_")]:
        monkeypatch.delenv(name)
    contexts = secret(tmp_path / "contexts.toml", '[shop]\nat = "127.0.0.1:1"\nuser = "alice"\n')
    monkeypatch.setenv("MAINSTEM_CONTEXTS", contexts)
    assert run(["--context", "shop", "topics", "list"]) == ExitCode.USAGE
    assert "--user alice needs --password-file" in capsys.readouterr().err
    password = secret(tmp_path / "password", "x")
    shop = ["--context", "shop", "topics", "list", "--password-file", password]
    config = secret(tmp_path / "client.properties", "bootstrap.servers=127.0.0.1:3")
    for arguments, address in (
        (shop, "127.0.0.1:1"),
        ([*shop, "--at", "127.0.0.1:2"], "127.0.0.1:2"),
        (["topics", "list", "--client-config", config], "127.0.0.1:3"),
    ):
        assert run(arguments) == ExitCode.NOT_REACHABLE
        assert f"no server at {address}" in capsys.readouterr().err
    assert run(["--context", "other", "topics", "list"]) == ExitCode.USAGE
    assert "has no context other" in capsys.readouterr().err
