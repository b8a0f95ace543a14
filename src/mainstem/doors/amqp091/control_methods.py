"""The methods of the classes connection, channel and access, which control a connection and its channels."""

from __future__ import annotations

import msgspec

from mainstem.amqp.field_values import FieldTable
from mainstem.doors.amqp091.method import Long, LongBinary, LongStr, Method, Octet, Short, ShortStr

# --- connection


class ConnectionStart(Method):
    """connection.start: the server's greeting: who it is, and the mechanisms of login."""

    NAME, CLASS_ID, METHOD_ID = "connection.start", 10, 10
    version_major: Octet = 0
    version_minor: Octet = 0
    server_properties: FieldTable = msgspec.field(default_factory=dict)
    mechanisms: LongStr = ""
    locales: LongStr = ""


class ConnectionStartOk(Method):
    """connection.start-ok: the client's choice of a mechanism, with its first response."""

    NAME, CLASS_ID, METHOD_ID = "connection.start-ok", 10, 11
    client_properties: FieldTable = msgspec.field(default_factory=dict)
    mechanism: ShortStr = ""
    response: LongBinary = b""
    locale: ShortStr = ""


class ConnectionSecure(Method):
    """connection.secure: a challenge of the login."""

    NAME, CLASS_ID, METHOD_ID = "connection.secure", 10, 20
    challenge: LongBinary = b""


class ConnectionSecureOk(Method):
    """connection.secure-ok: the response to it."""

    NAME, CLASS_ID, METHOD_ID = "connection.secure-ok", 10, 21
    response: LongBinary = b""


class ConnectionTune(Method):
    """connection.tune: the limits that the server proposes; heartbeats in seconds, 0: none."""

    NAME, CLASS_ID, METHOD_ID = "connection.tune", 10, 30
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


class ConnectionTuneOk(Method):
    """connection.tune-ok: the limits that hold."""

    NAME, CLASS_ID, METHOD_ID = "connection.tune-ok", 10, 31
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


class ConnectionOpen(Method):
    """connection.open: open a connection to a virtual host."""

    NAME, CLASS_ID, METHOD_ID = "connection.open", 10, 40
    TRAILING = ("ShortStr", "bool")
    virtual_host: ShortStr = ""


class ConnectionOpenOk(Method):
    """connection.open-ok."""

    NAME, CLASS_ID, METHOD_ID = "connection.open-ok", 10, 41
    LEADING = ("ShortStr",)


class ConnectionClose(Method):
    """connection.close: end the connection; after an error with its code and the method that caused it."""

    NAME, CLASS_ID, METHOD_ID = "connection.close", 10, 50
    reply_code: Short = 0
    reply_text: ShortStr = ""
    class_id: Short = 0
    method_id: Short = 0


class ConnectionCloseOk(Method):
    """connection.close-ok."""

    NAME, CLASS_ID, METHOD_ID = "connection.close-ok", 10, 51


class ConnectionBlocked(Method):
    """connection.blocked: the server reads no messages for now (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "connection.blocked", 10, 60
    reason: ShortStr = ""


class ConnectionUnblocked(Method):
    """connection.unblocked: it reads them again (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "connection.unblocked", 10, 61


class ConnectionUpdateSecret(Method):
    """connection.update-secret: a new secret for the login (RabbitMQ)."""

    NAME, CLASS_ID, METHOD_ID = "connection.update-secret", 10, 70
    new_secret: LongBinary = b""
    reason: ShortStr = ""


class ConnectionUpdateSecretOk(Method):
    """connection.update-secret-ok."""

    NAME, CLASS_ID, METHOD_ID = "connection.update-secret-ok", 10, 71


# --- channel


class ChannelOpen(Method):
    """channel.open."""

    NAME, CLASS_ID, METHOD_ID = "channel.open", 20, 10
    LEADING = ("ShortStr",)


class ChannelOpenOk(Method):
    """channel.open-ok."""

    NAME, CLASS_ID, METHOD_ID = "channel.open-ok", 20, 11
    LEADING = ("LongBinary",)


class ChannelFlow(Method):
    """channel.flow: stop or start the deliveries of a channel."""

    NAME, CLASS_ID, METHOD_ID = "channel.flow", 20, 20
    active: bool = False


class ChannelFlowOk(Method):
    """channel.flow-ok."""

    NAME, CLASS_ID, METHOD_ID = "channel.flow-ok", 20, 21
    active: bool = False


class ChannelClose(Method):
    """channel.close: end the channel; after an error with its code and the method that caused it."""

    NAME, CLASS_ID, METHOD_ID = "channel.close", 20, 40
    reply_code: Short = 0
    reply_text: ShortStr = ""
    class_id: Short = 0
    method_id: Short = 0


class ChannelCloseOk(Method):
    """channel.close-ok."""

    NAME, CLASS_ID, METHOD_ID = "channel.close-ok", 20, 41


# --- access


class AccessRequest(Method):
    """access.request: ask for a ticket, as clients of AMQP 0-8 did."""

    NAME, CLASS_ID, METHOD_ID = "access.request", 30, 10
    realm: ShortStr = ""
    exclusive: bool = False
    passive: bool = False
    active: bool = False
    write: bool = False
    read: bool = False


class AccessRequestOk(Method):
    """access.request-ok."""

    NAME, CLASS_ID, METHOD_ID = "access.request-ok", 30, 11
    ticket: Short = 0
