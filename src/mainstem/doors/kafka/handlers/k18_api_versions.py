"""18 ApiVersions.

Versions: 0-4.
Behaviour: lists the versions of every handler. The header of the reply is always v0, because the client does
not know yet which versions the server speaks. An unknown version is answered in version 0 with
UNSUPPORTED_VERSION and key 18 alone, so that the client can ask again.
Notes: v3 is flexible and adds the client's software name and the features (KIP-511, KIP-584); v4 only allows
features whose lowest version is 0. A software name or version that Kafka would refuse is answered with
INVALID_REQUEST.
Left out: of the features, `group.version` and `transaction.version`: clients switch protocols on them, so
they are left out until those protocols are served. `share.version` is 2: share groups with dead
letters.
"""

from __future__ import annotations

import re

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import NoRights
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.kafka_protocol.writer import write_reply

SHARE_VERSION = 2
FEATURES_EPOCH = 0
"""The features never change while the server runs."""
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def _key(handler: Handler) -> Message:
    lowest = handler.versions[0] if handler.advertised_from is None else handler.advertised_from
    return Message(api_key=handler.key, min_version=lowest, max_version=handler.versions[1])


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    if request.version >= 3 and not (
        _SOFTWARE.fullmatch(body.client_software_name) and _SOFTWARE.fullmatch(body.client_software_version)
    ):
        return Message(error_code=ErrorCode.INVALID_REQUEST)
    return Message(
        api_keys=[_key(handler) for _, handler in sorted(context.handlers.items())],
        supported_features=[Message(name="share.version", min_version=1, max_version=SHARE_VERSION)],
        finalized_features_epoch=FEATURES_EPOCH,
        finalized_features=[
            Message(name="share.version", max_version_level=SHARE_VERSION, min_version_level=SHARE_VERSION)
        ],
    )


def on_unsupported_version(context: HandlerContext, request: Request, rest: memoryview) -> HandlerResult:
    """The reply to an unknown version: in version 0, with key 18 alone. The body of the request cannot be
    decoded, because its version is unknown."""
    reply = Message(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[_key(context.handlers[18])])
    body: list[Buffer] = [write_reply(18, 0, reply)]
    return body


HANDLER = Handler(
    key=18,
    versions=(0, 4),
    handle=handle,
    rights=NoRights("clients ask it before they authenticate"),
    on_unsupported_version=on_unsupported_version,
)
