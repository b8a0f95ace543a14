"""Makes the request of a delivery: its body and its headers.

Owns: the two forms of the payload, and which headers of an event become headers of the request. Refuses: to
let an event choose a header that frames the request or is the server's: all of its own have a prefix.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec

from mainstem.contract import Event
from mainstem.http_api.event_encoding import event_to_json_in_slices
from mainstem.http_api.push import PushedEventJson
from mainstem.push.client import PushRequest
from mainstem.push.signature import signature_headers, webhook_id
from mainstem.queue_contract import Delivery
from mainstem.queues.push_settings import EndpointUrl, PushSettings

EVENT_HEADER_BYTES_MAX = 8 << 10
"""Headers of an event of which the names and values have more bytes are left out of an unwrapped request."""
KEY_BYTES_MAX = 2 << 10
"""A longer key is left out of an unwrapped request."""
HEADER_PREFIX = "mainstem-header-"
_CONTENT_TYPE = "content-type"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(rb"[!-~](?:[ -~]*[!-~])?")


async def make_request(
    subscription: str,
    push: PushSettings,
    delivery: Delivery,
    time_ms: int,
    yield_to_loop: Callable[[], Awaitable[None]],
    token: str = "",
) -> PushRequest:
    """The request for a delivery that is sent at `time_ms`. `yield_to_loop` lets others run while a large
    event is encoded. `token`: what proves that this server sends it; empty: there is none."""
    event = delivery.event
    headers = [
        ("user-agent", "mainstem"),
        ("mainstem-subscription", quote(subscription, safe="")),  # a share group may have any name
        ("mainstem-attempt", str(delivery.attempt)),
    ]
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    if push.payload == "wrapped":
        pushed = PushedEventJson(
            subscription, delivery.attempt, await event_to_json_in_slices(event, yield_to_loop)
        )
        body = msgspec.json.encode(pushed)
        headers.append((_CONTENT_TYPE, "application/json"))
    else:
        body = event.value or b""
        headers += _unwrapped_headers(event)
    headers += signature_headers(webhook_id(subscription, event), time_ms, body, push.secrets)
    return PushRequest(EndpointUrl.parse(push.endpoint), [*headers, *push.headers], body)


def _unwrapped_headers(event: Event) -> list[tuple[str, str]]:
    headers = [
        ("mainstem-topic", event.topic),
        ("mainstem-partition", str(event.partition)),
        ("mainstem-offset", str(event.offset)),
    ]
    if event.timestamp_ms >= 0:
        headers.append(("mainstem-timestamp-ms", str(event.timestamp_ms)))
    if event.key is not None and len(event.key) <= KEY_BYTES_MAX:
        headers.append(("mainstem-key", quote(event.key, safe="")))
    if event.value is None:
        headers.append(("mainstem-value", "null"))
    content_type = "application/octet-stream"
    room = EVENT_HEADER_BYTES_MAX
    for name, content in event.headers:
        value = _header_value(content)
        room -= len(name) + len(value)
        if not _NAME.fullmatch(name) or room < 0:
            continue
        if name.lower() == _CONTENT_TYPE and content is not None and _VALUE.fullmatch(content):
            content_type = value
        else:
            headers.append((HEADER_PREFIX + name, value))
    return [(_CONTENT_TYPE, content_type), *headers]


def _header_value(content: bytes | None) -> str:
    """Printable ASCII as it is; other bytes as base64, in the form of RFC 9651, 3.3.5."""
    if content is None:
        return ""
    if _VALUE.fullmatch(content):
        return content.decode("ascii")
    return f":{base64.b64encode(content).decode('ascii')}:"
