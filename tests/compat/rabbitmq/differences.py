"""Where mainstem answers a probe otherwise than RabbitMQ 3.10, and why.

Owns: the list, which test_differences.py holds to be exact, and what counts as the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LAST_DEATH = re.compile(r", x-last-death-(?:exchange|queue|reason): S '[^']*'")
CANCELLED = re.compile(r" +basic\.cancel .*nowait=True")

REASON_GIVEN = (
    "RabbitMQ closes the socket without a word, or with another text; the code is the same where it has one"
)
NEWER = "as RabbitMQ 4"
STREAM_ARGUMENT = "RabbitMQ fails with 541 at a bad argument of a stream; here it is 406"
DIFFERENCES: Mapping[str, str] = {
    "connection_start": "no property `copyright`",
    "connection_login_refused": "without access control any password is right",
    "connection_tune_above_the_limits": REASON_GIVEN,
    "connection_bad_frame_end": REASON_GIVEN,
    "connection_frame_above_frame_max": REASON_GIVEN,
    "connection_unknown_frame_type": REASON_GIVEN,
    "connection_unknown_method": REASON_GIVEN,
    "connection_method_cut_short": REASON_GIVEN,
    "connection_method_on_another_channel": REASON_GIVEN,
    "connection_heartbeat_with_a_payload": "the payload of a heartbeat is ignored",
    "consume_quorum_counts_deliveries": f"{NEWER}: no count at the first delivery, and back at its place",
    "dead_letter_delivery_limit": f"{NEWER}: no count at the first delivery",
    "dead_letter_client_headers": "headers of the first death are completed, if the client sent some",
    "error_stream_arguments": STREAM_ARGUMENT,
    "error_unknown_exchange_type": f"{NEWER}: 406, and only the channel ends",
    "error_direct_reply_to": f"{NEWER}: 403 when the pseudo-queue is bound",
    "publish_other_delivery_mode": f"{NEWER}: any delivery mode is accepted",
    "queue_stream_refuses": STREAM_ARGUMENT,
}


def comparable(lines: Iterable[str]) -> list[str]:
    """The lines without what may differ in any probe: the headers of the last death, which RabbitMQ has since
    3.13, and cancellations of a channel's own consumers, which RabbitMQ sends after the deletion's answer.
    """
    return [LAST_DEATH.sub("", line) for line in lines if not CANCELLED.fullmatch(line)]
