"""The command `mainstem certs`."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mainstem.cli import run
from mainstem.cli.exit_codes import ExitCode


def test_one_command_makes_what_a_server_and_its_clients_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["certs", "--host", "stream.example"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    folder = Path("mainstem-certs")
    assert out == f"ca={folder}/ca.pem  cert={folder}/server.pem  key={folder}/server-key.pem\n"
    assert f"--tls-cert {folder}/server.pem --tls-key {folder}/server-key.pem" in err
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert run(["certs", "client", "alice"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert "cert=mainstem-certs/client-alice.pem" in out
    assert "User:CN=alice" in err


def test_what_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["certs", "--dir", str(tmp_path), "--host", "a b"], "'a b' is neither the name nor the IP address"),
        (["certs", "client", "../x", "--dir", str(tmp_path)], "'../x' is not the name of a client"),
    ):
        assert run(arguments) == ExitCode.FAILED
        assert capsys.readouterr().err.startswith(f"mainstem: {message}")
