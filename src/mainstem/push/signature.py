"""The signature of a push request, as Standard Webhooks 1.0 has it.

Owns: the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. A receiver computes the
HMAC-SHA256 of id, time and body, joined by full stops, and refuses what is old or signed otherwise. Refuses:
to know the time. Source: github.com/standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from mainstem.contract import Event

ID_CHARACTERS = 27


def webhook_id(subscription: str, event: Event) -> str:
    """An id of the event for its receiver: the same at each attempt, and of no other event. It has no full
    stop, which the signed text is divided by."""
    place = (subscription, event.topic, event.partition, event.offset, event.timestamp_ms)
    digest = hashlib.sha256("\0".join(map(str, place)).encode()).digest()
    return "msg_" + base64.urlsafe_b64encode(digest).decode("ascii")[:ID_CHARACTERS]


def signature_headers(
    message_id: str, time_ms: int, body: bytes, secrets: Sequence[bytes]
) -> list[tuple[str, str]]:
    """The headers of a request that is sent at `time_ms`. With several secrets there are several signatures,
    so that a receiver may change its own while the other one is in use."""
    time_s = str(time_ms // 1000)
    headers = [("webhook-id", message_id), ("webhook-timestamp", time_s)]
    if secrets:
        signed = b".".join((message_id.encode(), time_s.encode(), body))
        signatures = (hmac.digest(secret, signed, "sha256") for secret in secrets)
        texts = ("v1," + base64.b64encode(signature).decode("ascii") for signature in signatures)
        headers.append(("webhook-signature", " ".join(texts)))
    return headers
