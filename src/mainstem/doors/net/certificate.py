"""What a server reads in an X.509 certificate: whom it names, which machines, and until when.

Owns: reading the DER of a certificate that OpenSSL has accepted, and the text of a distinguished name as
Java's `X500Principal.getName()` writes it (RFC 2253), because Kafka's principals and their mapping rules are
made of it. Refuses: to judge a certificate, which OpenSSL does; and whatever is not DER.

A name is hostile text: it may have any characters. Only those that RFC 2253 gives a meaning are escaped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

OBJECT_ID, VERSION, EXTENSIONS = 0x06, 0xA0, 0xA3
ALTERNATIVE_NAMES = "2.5.29.17"
DNS_NAME, IP_ADDRESS = 0x82, 0x87
UTC_TIME = 0x17
KEYWORDS = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""The attributes that have a name in RFC 2253; others are written as numbers, with the value in hexadecimal
digits."""
STRING_TAGS = frozenset({0x0C, 0x13, 0x14, 0x16, 0x1B, 0x1E})
"""UTF8String, PrintableString, T61String, IA5String, GeneralString, BMPString. Java reads all of them as
UTF-8; the value of any other type is written in hexadecimal digits."""
SPECIAL = frozenset(',=+<>#;"\\')


class CertificateError(ValueError):
    """The error for bytes that are not a certificate."""


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What is known of a certificate."""

    subject: str
    """The distinguished name, such as `CN=alice,O=Example`."""
    expires_at_s: float
    """The end of its validity, in seconds since 1970."""
    hosts: tuple[str, ...] = ()
    """The names and IP addresses of machines that it is for (subjectAltName). A name may begin with `*.`."""

    def is_for(self, host: str) -> bool:
        """Whether clients that know the machine by this name or address accept the certificate."""
        host = host.lower()
        parent = host.partition(".")[2]
        return host in self.hosts or (bool(parent) and f"*.{parent}" in self.hosts)


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of DER: its tag, its content, and all its bytes."""

    tag: int
    content: bytes
    encoded: bytes


def read_certificate(der: bytes) -> CertificateInfo:
    """The certificate's subject and end. CertificateError if it cannot be read."""
    try:
        (certificate,) = _values(der)
        signed = list(_values(_first(certificate.content)))
        if signed[0].tag == VERSION:
            del signed[0]
        _, end = _values(signed[3].content)
        return CertificateInfo(_name(signed[4].content), _time(end), tuple(_hosts(signed[6:])))
    except (ValueError, IndexError):
        raise CertificateError("not an X.509 certificate in DER") from None


def _values(data: bytes) -> Iterator[_Value]:
    """The values that follow each other in `data`."""
    position = 0
    while position < len(data):
        start, tag, size = position, data[position], data[position + 1]
        position += 2
        if size >= 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("a length that DER does not have")
            size = int.from_bytes(data[position : position + count])
            position += count
        if position + size > len(data):
            raise ValueError("a value beyond the end")
        yield _Value(tag, data[position : position + size], data[start : position + size])
        position += size


def _first(data: bytes) -> bytes:
    """The content of the first value."""
    for value in _values(data):
        return value.content
    raise ValueError("no value")


def _time(value: _Value) -> float:
    text = value.content.decode("ascii")
    if value.tag == UTC_TIME:  # two digits of the year: 50 and later are of the last century
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _hosts(optional: Sequence[_Value]) -> Iterator[str]:
    """The names of machines in the extension subjectAltName."""
    for value in optional:
        if value.tag != EXTENSIONS:
            continue
        for extension in _values(_first(value.content)):
            kind, *_, names = _values(extension.content)
            if _object_id(kind.content) == ALTERNATIVE_NAMES:
                for name in _values(_first(names.content)):
                    if name.tag == DNS_NAME:
                        yield name.content.decode("ascii").lower()
                    elif name.tag == IP_ADDRESS:
                        yield str(ipaddress.ip_address(name.content))


def _name(content: bytes) -> str:
    """A distinguished name: the last of its parts first, as RFC 2253 has it."""
    parts = [
        "+".join(_attribute(pair.content) for pair in _values(part.content)) for part in _values(content)
    ]
    return ",".join(reversed(parts))


def _attribute(pair: bytes) -> str:
    kind, value = _values(pair)
    if kind.tag != OBJECT_ID:
        raise ValueError("no object identifier")
    number = _object_id(kind.content)
    if number not in KEYWORDS or value.tag not in STRING_TAGS:
        return f"{KEYWORDS.get(number, number)}=#{value.encoded.hex()}"
    text = value.content.decode("utf-8", "replace")
    return f"{KEYWORDS[number]}={_escaped(text)}"


def _object_id(content: bytes) -> str:
    """The object identifier with dots."""
    numbers: list[int] = []
    number = 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _escaped(text: str) -> str:
    """The value with the escapes of RFC 2253, as Java writes them."""
    shown = "".join(f"\\{char}" if char in SPECIAL else "\\00" if char == "\0" else char for char in text)
    inner = shown.strip(" \r")
    if not inner:
        return "".join(f"\\{char}" for char in shown)
    lead = len(shown) - len(shown.lstrip(" \r"))
    trail = len(shown.rstrip(" \r"))
    return (
        "".join(f"\\{char}" for char in shown[:lead]) + inner + "".join(f"\\{char}" for char in shown[trail:])
    )
