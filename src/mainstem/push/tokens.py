"""Gives the tokens of push requests, with keys that are in a file of the data folder.

The keys are made when the first token is needed. Owns: the file, which only its owner may read and which is
whole and durable before a key of it signs; the tokens, each of which serves for half of its life. Refuses: to
sign with a key that could not be stored, or that other users of the machine can read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from mainstem.clock import Clock
from mainstem.private_file import sync_folder, write_private
from mainstem.push.errors import PushFailed
from mainstem.push.token_keys import (
    LIFETIME_S,
    KeysDamaged,
    TokenKey,
    decode_keys,
    encode_keys,
    kept_keys,
    needs_new_key,
    signing_key,
)
from mainstem.queues.push_settings import is_this_machine

TOKENS_MAX = 10_000
"""Tokens that are remembered; then all are made anew."""
CHECK_MS = 60_000
"""How often the age of the keys is looked at."""

log = logging.getLogger(__name__)


class _Token(NamedTuple):
    text: str
    begin_ms: int
    end_ms: int
    """When another one is made."""


def parse_issuer(text: str) -> str:
    """The issuer of tokens: a URL without a slash at its end. ValueError, whose message is for people."""
    issuer = text.rstrip("/")
    parts = urlsplit(issuer)  # ValueError for brackets that do not fit
    host = parts.hostname or ""
    if not host or parts.query or parts.fragment or "@" in parts.netloc or not issuer.isascii():
        raise ValueError("it is the URL of the HTTP door for receivers: https://HOST:PORT")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise ValueError("it begins with https://, because receivers trust the keys that they read there")
    return issuer


class PushTokens:
    """Implements `PublishesTokenKeys`. `file`: None: the keys are in memory alone. `issuer`: see
    `parse_issuer`; None: no tokens are given."""

    def __init__(self, file: Path | None, issuer: str | None, clock: Clock) -> None:
        self._file = file
        self.issuer = issuer
        self._clock = clock
        self._keys: Sequence[TokenKey] = ()
        self._checked_ms: int | None = None
        self._tokens: dict[tuple[str, str, str], _Token] = {}
        self._changing = asyncio.Lock()

    async def token(self, subscription: str, audience: str, email: str = "") -> str:
        """A token for an event of this subscription. `email`: the service account that it names, as tokens of
        Google do; empty: none. PushFailed: there is no issuer, or no key."""
        if self.issuer is None:
            raise PushFailed("the server gives no tokens: set push_issuer", was_sent=False)
        now_ms = self._clock.wall_ms()
        known = self._tokens.get((subscription, audience, email))
        if known is not None and known.begin_ms <= now_ms < known.end_ms:
            return known.text
        await self._look_at_keys(now_ms, may_make=True)
        now_s = now_ms // 1000
        claims: dict[str, str | int | bool] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": subscription,
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
        }
        if email:
            claims |= {"email": email, "email_verified": True}
        text = signing_key(self._keys, now_ms).sign(claims)
        if len(self._tokens) >= TOKENS_MAX:
            self._tokens.clear()
        self._tokens[subscription, audience, email] = _Token(text, now_ms, now_ms + LIFETIME_S * 500)
        return text

    async def public_keys(self) -> list[Mapping[str, str]]:
        """See `PublishesTokenKeys`."""
        try:
            await self._look_at_keys(self._clock.wall_ms(), may_make=False)
        except PushFailed:
            return []
        return [key.jwk for key in self._keys]

    async def _look_at_keys(self, now_ms: int, *, may_make: bool) -> None:
        """Read the keys, and make and remove some if it is time. PushFailed: that failed."""
        async with self._changing:
            if self._keys and self._checked_ms is not None and 0 <= now_ms - self._checked_ms < CHECK_MS:
                return
            try:
                self._keys = await asyncio.to_thread(self._updated_keys, self._keys, now_ms, may_make)
            except OSError as error:
                why = error.strerror or "the file cannot be read"
                raise PushFailed(f"the keys of tokens: {why}", was_sent=False) from None
            self._checked_ms = now_ms

    def _updated_keys(self, keys: Sequence[TokenKey], now_ms: int, may_make: bool) -> Sequence[TokenKey]:
        """In a thread: the library is imported, and the file read and written."""
        keys = keys or self._read()
        if not keys and not may_make:
            return ()
        current = kept_keys(keys, now_ms)
        if needs_new_key(current, now_ms):
            current.append(TokenKey.make(now_ms))
        if list(current) != list(keys):
            self._write(encode_keys(current))
        return current

    def _read(self) -> Sequence[TokenKey]:
        """The keys of the file; none: it is not there, or damaged, which is logged. OSError."""
        if self._file is None:
            return ()
        try:
            with open(self._file, "rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise PermissionError(
                        0, "other users of this machine can read it: remove it for a new one, or chmod 600 it"
                    )
                return decode_keys(file.read(1 << 20))
        except FileNotFoundError:
            return ()
        except KeysDamaged as error:
            log.warning("%s: %s; a new key is made when the next token is needed", self._file, error)
            return ()

    def _write(self, content: bytes) -> None:
        """Write the file, whole and durable or not at all. OSError."""
        if self._file is None:
            return
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(self._file, content)
        sync_folder(self._file.parent.parent)
