"""The properties of an AMQP 0-9-1 message: the content header of class basic (1.8.1).

Owns: the one type that doors, model and stored events agree on.
"""

from __future__ import annotations

import msgspec

from mainstem.amqp.field_values import FieldTable


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """A message's properties; None: absent, which an empty table or text is not. Objects are shared between
    messages: neither they nor their tables are ever changed."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: FieldTable | None = None
    delivery_mode: int | None = None
    """1: not persistent, 2: persistent; other octets are passed on."""
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    """Milliseconds, in digits."""
    message_id: str | None = None
    timestamp: int | None = None
    """Seconds since 1970, any unsigned number of 64 bits."""
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None
