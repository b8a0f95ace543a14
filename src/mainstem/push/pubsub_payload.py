"""Makes the requests of push subscriptions of Google Cloud Pub/Sub, wrapped and not.

Owns: the JSON of a wrapped message, and the headers of one that is not. Refuses: to let an attribute be a
header that frames the request, proves something, or says where the message comes from. Source:
https://cloud.google.com/pubsub/docs/push, https://cloud.google.com/pubsub/docs/payload-unwrapping.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import msgspec

from mainstem.contract import Event
from mainstem.pubsub.events import attributes_of, message_id, ordering_key_of
from mainstem.pubsub.stored_subscription import StoredSubscription
from mainstem.push.client import PushRequest
from mainstem.queue_contract import Delivery
from mainstem.queues.push_settings import RESERVED_HEADERS, EndpointUrl, PushSettings
from mainstem.timespec import format_iso

METADATA = "x-goog-pubsub-"
"""What the names of the headers begin with that say where an unwrapped message comes from."""
REFUSED_ATTRIBUTES = RESERVED_HEADERS | {"authorization", "cookie", "user-agent"}
HEADER_BYTES_MAX = 8 << 10
"""Attributes of which names and values have more bytes are left out of an unwrapped request."""
_CONTENT_TYPE = "content-type"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def service_account_of(stored: StoredSubscription | None) -> str:
    """The e-mail address of the service account in the tokens of a subscription; empty: none."""
    config = stored.push if stored is not None else None
    token = (config or {}).get("oidc_token") or {}
    return str(token.get("service_account_email", ""))


def make_pubsub_request(
    name: str, stored: StoredSubscription | None, push: PushSettings, delivery: Delivery, token: str
) -> PushRequest:
    """The request for a delivery. `name`: of the subscription in the log; `stored`: its record, if it is of
    the Pub/Sub door; `token`: what proves that this server sends it, or empty."""
    headers = [("user-agent", "mainstem")]
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    full_name = stored.name if stored is not None else name
    if push.payload == "pubsub-wrapped":
        pushed: dict[str, Any] = {"message": _message(delivery.event), "subscription": full_name}
        if stored is not None and stored.dead_letters is not None:
            pushed["deliveryAttempt"] = delivery.failures + 1
        body = msgspec.json.encode(pushed)
        headers.append((_CONTENT_TYPE, "application/json"))
    else:
        body = delivery.event.value or b""
        has_metadata = stored is not None and _writes_metadata(stored)
        headers += _unwrapped_headers(full_name, delivery.event, has_metadata=has_metadata)
    return PushRequest(EndpointUrl.parse(push.endpoint), [*headers, *push.headers], body)


def _message(event: Event) -> dict[str, Any]:
    """The message as Google sends it: some fields under two names."""
    id_, time = message_id(event.partition, event.offset), format_iso(max(0, event.timestamp_ms))
    message: dict[str, Any] = {
        "messageId": id_,
        "message_id": id_,
        "publishTime": time,
        "publish_time": time,
    }
    if event.value:
        message["data"] = b64encode(event.value).decode()
    if attributes := attributes_of(event):
        message["attributes"] = attributes
    if key := ordering_key_of(event):
        message["orderingKey"] = key
    return message


def _writes_metadata(stored: StoredSubscription) -> bool:
    config = stored.push or {}
    return bool((config.get("no_wrapper") or {}).get("write_metadata"))


def _unwrapped_headers(name: str, event: Event, *, has_metadata: bool) -> list[tuple[str, str]]:
    if not has_metadata:
        return [(_CONTENT_TYPE, "application/octet-stream")]
    headers = [
        (f"{METADATA}subscription-name", name),
        (f"{METADATA}message-id", message_id(event.partition, event.offset)),
        (f"{METADATA}publish-time", format_iso(max(0, event.timestamp_ms))),
    ]
    if (key := ordering_key_of(event)) and _VALUE.fullmatch(key):
        headers.append((f"{METADATA}ordering-key", key))
    content_type, room = "application/octet-stream", HEADER_BYTES_MAX
    names = set(REFUSED_ATTRIBUTES)
    for attribute, value in attributes_of(event).items():
        room -= len(attribute) + len(value)
        lower = attribute.lower()
        if room < 0 or not _NAME.fullmatch(attribute) or not _VALUE.fullmatch(value):
            continue
        if lower == _CONTENT_TYPE:
            content_type = value
        elif lower not in names and not lower.startswith("x-goog-"):
            names.add(lower)
            headers.append((attribute, value))
    return [(_CONTENT_TYPE, content_type), *headers]
