"""The certificates that mainstem makes, and what it reads in those of others."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type as StringType
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.certificates import CertificatesError, make_client, make_server
from mainstem.doors.net.certificate import CertificateError, read_certificate
from mainstem.doors.net.principal_rules import PrincipalRules, RuleError
from tests.support.certificates import server_files

KEY = ec.generate_private_key(ec.SECP256R1())
Attribute = tuple[x509.ObjectIdentifier, str] | tuple[x509.ObjectIdentifier, str, StringType]


def der(parts: Sequence[Sequence[Attribute]], *, year: int = 2027, hosts: Sequence[str] = ()) -> bytes:
    """A certificate with this subject."""
    subject = x509.Name(
        x509.RelativeDistinguishedName(
            x509.NameAttribute(
                attribute[0],
                attribute[1],
                _type=attribute[2] if len(attribute) == 3 else None,
                _validate=False,
            )
            for attribute in part
        )
        for part in parts
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2026, 1, 1))
        .not_valid_after(datetime.datetime(year, 1, 2, 3, 4, 5))
    )
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.DER)


SAMPLE = der([[(NameOID.COMMON_NAME, "a")]], hosts=["a.example"])


@pytest.mark.parametrize(
    ("parts", "java"),
    [
        (
            [
                [(NameOID.COUNTRY_NAME, "DE")],
                [(NameOID.STATE_OR_PROVINCE_NAME, "Bayern")],
                [(NameOID.LOCALITY_NAME, "Hof")],
                [(NameOID.ORGANIZATION_NAME, "Example")],
                [(NameOID.ORGANIZATIONAL_UNIT_NAME, "ops")],
                [(NameOID.COMMON_NAME, "alice")],
            ],
            "CN=alice,OU=ops,O=Example,L=Hof,ST=Bayern,C=DE",
        ),
        (
            [[(NameOID.COMMON_NAME, ',=+<>#;"\\ x/y:*')], [(NameOID.ORGANIZATION_NAME, "#lead")]],
            'O=\\#lead,CN=\\,\\=\\+\\<\\>\\#\\;\\"\\\\ x/y:*',
        ),
        (
            [
                [(NameOID.COMMON_NAME, "  two ends  ")],
                [(NameOID.ORGANIZATION_NAME, "   ")],
                [(NameOID.ORGANIZATIONAL_UNIT_NAME, "\r x \r")],
            ],
            "OU=\\\r\\ x\\ \\\r,O=\\ \\ \\ ,CN=\\ \\ two ends\\ \\ ",
        ),
        (
            [[(NameOID.COMMON_NAME, "a\0b\n\tc\x1b[31m")], [(NameOID.ORGANIZATION_NAME, "\u202eevil")]],
            "O=\u202eevil,CN=a\\00b\n\tc\x1b[31m",
        ),
        (
            [
                [(NameOID.ORGANIZATION_NAME, "X")],
                [
                    (NameOID.COMMON_NAME, "bob"),
                    (NameOID.USER_ID, "u1"),
                    (NameOID.ORGANIZATIONAL_UNIT_NAME, "dev"),
                ],
            ],
            "CN=bob+OU=dev+UID=u1,O=X",
        ),
        (
            [
                [(NameOID.DOMAIN_COMPONENT, "example", StringType.IA5String)],
                [(NameOID.EMAIL_ADDRESS, "a@b.c", StringType.IA5String)],
                [(NameOID.SERIAL_NUMBER, "12")],
                [(x509.ObjectIdentifier("2.999.3"), "z")],
                [(NameOID.LOCALITY_NAME, "123", StringType.NumericString)],
                [(NameOID.ORGANIZATION_NAME, "\xfc", StringType.T61String)],
                [(NameOID.ORGANIZATIONAL_UNIT_NAME, "B", StringType.BMPString)],
            ],
            "OU=\\00B,O=\xfc,L=#1203313233,2.999.3=#0c017a,2.5.4.5=#13023132,"
            "1.2.840.113549.1.9.1=#16056140622e63,DC=example",
        ),
        (
            [[(NameOID.COMMON_NAME, "evil,CN=admin")], [(NameOID.COMMON_NAME, "x+OU=y")]],
            "CN=x\\+OU\\=y,CN=evil\\,CN\\=admin",
        ),
    ],
)
def test_a_name_is_written_as_java_writes_it(parts: list[list[Attribute]], java: str) -> None:
    """The expected texts are the output of Java 17's X500Principal.getName() for these certificates."""
    assert read_certificate(der(parts)).subject == java


def test_the_end_and_the_hosts_are_read() -> None:
    name: list[list[Attribute]] = [[(NameOID.COMMON_NAME, "a")]]
    info = read_certificate(der(name, hosts=["a.example", "*.b.example"]))
    assert info.hosts == ("a.example", "*.b.example")
    assert [info.is_for(host) for host in ("A.example", "x.b.example", "x.y.b.example", "b.example")] == [
        True,
        True,
        False,
        False,
    ]
    for year in (2027, 2049, 2050, 2190):  # UTCTime, and from 2050 on GeneralizedTime
        expected = datetime.datetime(year, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        assert read_certificate(der(name, year=year)).expires_at_s == expected.timestamp()


@settings(max_examples=20)
@given(st.data())
def test_whatever_is_no_certificate_is_refused(data: st.DataObject) -> None:
    good = SAMPLE
    position = data.draw(st.integers(0, 200))  # its signature, which follows, is another one each time
    bad = bytearray(good)
    bad[position] = data.draw(st.integers(0, 255))
    for damaged in (bytes(bad), good[:position], data.draw(st.binary(max_size=64))):
        try:
            read_certificate(damaged)
        except CertificateError:
            continue
        assert damaged == bytes(bad)  # a change inside a value


@pytest.mark.parametrize(
    ("rules", "name", "expected"),
    [
        ("", "CN=a,O=b", "CN=a,O=b"),
        ("DEFAULT", "CN=a,O=b", "CN=a,O=b"),
        ("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/", "CN=serviceuser,OU=ServiceUsers,O=X", "serviceuser"),
        (
            "RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L , DEFAULT",
            "CN=Admin,OU=Ops,O=X,L=Y,ST=Z,C=DE",
            "admin@ops",
        ),
        ("RULE:^CN=(.*?)$/$1/U", "CN=alice", "ALICE"),
        ("RULE:^CN=(.*?)$/$1/U,DEFAULT", "O=alice", "O=alice"),
        ("RULE:CN=([^,]*).*/$1@$2/", "CN=a,O=b", "a@$2"),
        ("RULE:CN=([^,]*).*/a\\$1\\/b/", "CN=a,O=b", "a$1/b"),
        ("RULE:CN=(\\w+)\\/.*/$1/", "CN=a/b", "a"),
        ("RULE:^CN=(.*?)$/$1/", "O=alice", None),
        ("RULE:.*//", "CN=a", None),
        ("RULE:^CN=(a+)+$/$1/", "CN=" + "a" * 4096 + "!", None),
    ],
)
def test_kafkas_rules_give_the_name_of_the_user(rules: str, name: str, expected: str | None) -> None:
    principal = PrincipalRules.parse(rules).principal(name)
    assert (principal and principal.text) == (expected and f"User:{expected}")


@pytest.mark.parametrize(
    "rules", ["RULE:", "RULE:a/b", "RULE:a/b/X", "default", "DEFAULT RULE:a/b/", "RULE:(/b/"]
)
def test_rules_that_cannot_be_read_are_refused(rules: str) -> None:
    with pytest.raises(RuleError):
        PrincipalRules.parse(rules)


def test_a_second_call_keeps_the_authority_and_what_is_still_good(tmp_path: Path) -> None:
    files = make_server(tmp_path / "new" / "folder", ["Stream.example.org", "192.0.2.7"])
    before = {path: path.read_bytes() for path in files.ca.parent.iterdir()}
    assert {path.stat().st_mode & 0o777 for path in before} == {0o600}
    assert {path.name for path in before} == {"ca.pem", "ca-key.pem", "server.pem", "server-key.pem"}
    assert make_server(files.ca.parent, ["stream.example.org"]) == files
    assert {path: path.read_bytes() for path in before} == before
    make_server(files.ca.parent, ["other.example.org"])
    assert files.ca.read_bytes() == before[files.ca]
    assert files.cert.read_bytes() != before[files.cert]
    cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
    info = read_certificate(cert.public_bytes(Encoding.DER))
    assert {"other.example.org", "localhost", "127.0.0.1", "::1"} <= set(info.hosts)


def test_a_client_has_its_name_as_subject(tmp_path: Path) -> None:
    files = make_client(tmp_path, "alice")
    assert files.cert == tmp_path / "client-alice.pem"
    ssl.create_default_context(cafile=str(files.ca)).load_cert_chain(files.cert, files.key)
    for name in ("", "../x", "a/b", ".hidden", "a\nb", "x" * 65):
        with pytest.raises(CertificatesError, match="is not the name of a client"):
            make_client(tmp_path, name)


def test_what_cannot_be_used_is_refused_and_stays(tmp_path: Path) -> None:
    for host in ("", "a b", "a/b", "-.-", "x" * 300):
        with pytest.raises(CertificatesError, match="neither the name nor the IP address"):
            make_server(tmp_path, [host])
    make_server(tmp_path)
    (tmp_path / "ca-key.pem").write_bytes(server_files().ca.with_name("ca-key.pem").read_bytes())
    with pytest.raises(CertificatesError, match=r"ca-key\.pem is not the key of ca\.pem"):
        make_server(tmp_path, ["a.example"])
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(CertificatesError, match="not PEM"):
        make_server(tmp_path, ["a.example"])
    assert (tmp_path / "ca.pem").read_text() == "nonsense"
    (tmp_path / "file").write_text("")
    with pytest.raises(CertificatesError, match="file"):
        make_server(tmp_path / "file")
