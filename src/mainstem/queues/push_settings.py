"""The push settings of a subscription: the HTTP endpoint to which its events are sent.

Owns: their names, defaults and ranges, the form of an endpoint, of a header and of a secret, and what of them
may be shown. Refuses: addresses and connections, which `mainstem.push` has.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

ENDPOINT_CHARACTERS_MAX = 2_000
HEADERS_MAX = 20
HEADER_VALUE_CHARACTERS_MAX = 4_000
AUDIENCE_CHARACTERS_MAX = 1_000
SECRETS_MAX = 3
SECRET_PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
"""Least and most bytes of a secret: those of Standard Webhooks."""
DEADLINE_MS = (100, 600_000)
CONCURRENCY = (1, 1_000)
RESERVED_HEADERS = frozenset(
    {
        *("connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection", "transfer-encoding", "upgrade"),
    }
)
"""Headers that frame a request, or that the payload decides."""
TOKEN_CHARACTERS_MIN = 16
"""From this length on, a part of a path may be a token that gives access."""
RESERVED_PREFIXES = ("mainstem-", "webhook-")

_VISIBLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9.])?")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
"""A token (RFC 9110, 5.6.2)."""
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


PushPayload: TypeAlias = Literal["wrapped", "unwrapped", "pubsub-wrapped", "pubsub-unwrapped"]
PAYLOADS: tuple[PushPayload, ...] = ("wrapped", "unwrapped", "pubsub-wrapped", "pubsub-unwrapped")


class EndpointUrl(NamedTuple):
    """The parts of the URL of an endpoint."""

    is_tls: bool
    host: str
    """A name, or an IP address without brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> EndpointUrl:
        """The parts of a URL. ValueError, whose message is for people."""
        if len(text) > ENDPOINT_CHARACTERS_MAX:
            raise ValueError(f"it has more than {ENDPOINT_CHARACTERS_MAX:,} characters")
        if not _VISIBLE.fullmatch(text) or "\\" in text or "#" in text:
            raise ValueError("it has blanks, a fragment, or characters that a URL has only percent-encoded")
        scheme, colon, rest = text.partition("://")
        if not colon or scheme.lower() not in ("http", "https"):
            raise ValueError("it does not begin with http:// or https://")
        split = urlsplit(f"{scheme.lower()}://{rest}")  # ValueError for brackets that do not fit
        if "@" in split.netloc:
            raise ValueError("it has a user name; give a header `authorization` instead")
        host = split.hostname or ""
        if "[" in split.netloc:
            if "%" in host:
                raise ValueError("its address has a zone")
            ipaddress.IPv6Address(host)
        elif not _HOST.fullmatch(host):
            raise ValueError("it has no host, or one with characters that no host name has")
        port = split.port  # ValueError if it is out of range
        is_tls = split.scheme == "https"
        if port is None:
            port = 443 if is_tls else 80
        if not port:
            raise ValueError("port 0 is none")
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        return cls(is_tls, host, port, target)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PushSettings:
    """Where and how the events of a subscription are pushed."""

    endpoint: str
    """The URL to which each event is sent by POST."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of each request. Their values may be secret."""
    secret: str = ""
    """What requests are signed with: up to 3 secrets, separated by blanks, of which a receiver may know any;
    empty: they are not signed."""
    token_audience: str = ""
    """Whom the tokens are for that the server signs and sends with each request; empty: it sends none."""
    deadline_ms: int = 10_000
    """How long the endpoint may take to answer, from the look-up of its name on."""
    concurrency: int = 32
    """Most requests at once."""
    payload: PushPayload = "wrapped"
    """Wrapped: the event as JSON. Unwrapped: the value of the event, with the rest in headers.
    With `pubsub-` before it: as Google Cloud Pub/Sub sends both."""

    def __repr__(self) -> str:
        """Without anything secret."""
        return f"PushSettings({self.shown_endpoint})"

    @property
    def shown_endpoint(self) -> str:
        """See `shown_endpoint`."""
        return shown_endpoint(self.endpoint)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The keys of the signatures. ValueError."""
        return tuple(_secret(text) for text in self.secret.split())


def shown_endpoint(endpoint: str) -> str:
    """The URL of an endpoint without what may be secret: a user name with its password, the query, and each
    part of the path that looks like a token: of 16 characters or more, with a digit or with letters of both
    cases. The hooks of Slack, Discord and Telegram have theirs in the path."""
    before, mark, _ = endpoint.partition("?")
    scheme, colon, rest = before.partition("://")
    if not colon:
        scheme, rest = "", before
    authority, *parts = rest.split("/")
    _, _, host = authority.rpartition("@")
    path = "".join("/…" if _may_be_token(part) else f"/{part}" for part in parts)
    return f"{scheme}{colon}{host}{path}" + ("?…" if mark else "")


def _may_be_token(part: str) -> bool:
    if len(part) < TOKEN_CHARACTERS_MIN:
        return False
    return any(char.isdigit() for char in part) or (part != part.lower() and part != part.upper())


def push_problem(push: PushSettings) -> str | None:
    """What is wrong with push settings, for people; None if nothing is. Names no secret."""
    try:
        EndpointUrl.parse(push.endpoint)
    except ValueError as error:
        return f"the push endpoint is no URL that can be used: {error}"
    for name, value, limits in (
        ("deadline_ms", push.deadline_ms, DEADLINE_MS),
        ("concurrency", push.concurrency, CONCURRENCY),
    ):
        if not limits[0] <= value <= limits[1]:
            return f"the push {name} is {value:,}; it is from {limits[0]:,} to {limits[1]:,}"
    if push.payload not in PAYLOADS:
        return f"the push payload is none of {', '.join(PAYLOADS)}"
    return _headers_problem(push) or _secret_problem(push) or _token_problem(push)


def is_this_machine(host: str) -> bool:
    """Whether a host of a URL is this machine, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token_problem(push: PushSettings) -> str | None:
    audience = push.token_audience
    if not audience:
        return None
    if len(audience) > AUDIENCE_CHARACTERS_MAX or not _VALUE.fullmatch(audience):
        return (
            f"the push token_audience is printable ASCII, of at most {AUDIENCE_CHARACTERS_MAX:,} characters"
        )
    if any(name.lower() == "authorization" for name, _ in push.headers):
        return "the push header authorization is made by the server where there is a token_audience"
    endpoint = EndpointUrl.parse(push.endpoint)
    if not endpoint.is_tls and not is_this_machine(endpoint.host):
        return "a push endpoint that gets tokens begins with https://, or is on this machine"
    return None


def _headers_problem(push: PushSettings) -> str | None:
    if len(push.headers) > HEADERS_MAX:
        return f"a push request has at most {HEADERS_MAX} headers of your own"
    names = [name.lower() for name, _ in push.headers]
    if len(set(names)) < len(names):
        return "a push request has each header once"
    for name, value in push.headers:
        if not _NAME.fullmatch(name):
            return f"{name[:100]!r} is no name of a header"
        if name.lower() in RESERVED_HEADERS or name.lower().startswith(RESERVED_PREFIXES):
            return f"the header {name} of a push request is made by the server"
        if len(value) > HEADER_VALUE_CHARACTERS_MAX or not _VALUE.fullmatch(value):
            return (
                f"the value of the push header {name} has more than {HEADER_VALUE_CHARACTERS_MAX:,}"
                " characters, or one that is not printable ASCII, or a blank before or after it"
            )
    return None


def _secret_problem(push: PushSettings) -> str | None:
    try:
        secrets = push.secrets
    except ValueError as error:
        return str(error)
    if len(secrets) > SECRETS_MAX:
        return f"there are at most {SECRETS_MAX} push secrets"
    return None


def _secret(text: str) -> bytes:
    least, most = SECRET_BYTES
    problem = f"a push secret is {SECRET_PREFIX} and the base64 of {least} to {most} bytes"
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(problem)
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(problem) from None
    if not least <= len(secret) <= most:
        raise ValueError(problem)
    return secret
