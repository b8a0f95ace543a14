"""The status of a call for each error of an engine.

Owns: the table. Refuses: texts, which are the errors'.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from mainstem.contract import (
    EventTooLarge,
    GroupInUse,
    InvalidArgument,
    NotAllowed,
    NotReachable,
    PositionOutOfRange,
    StreamError,
    TopicExists,
    UnknownGroup,
    UnknownTopic,
)
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.queue_contract import (
    NoSuchSnapshot,
    NoSuchSubscription,
    SettingsHaveChanged,
    SnapshotNameTaken,
    SubscriptionNameTaken,
)

CODES: tuple[tuple[type[Exception], Code], ...] = (
    (UnknownTopic, Code.NOT_FOUND),
    (NoSuchSubscription, Code.NOT_FOUND),
    (NoSuchSnapshot, Code.NOT_FOUND),
    (UnknownGroup, Code.NOT_FOUND),
    (TopicExists, Code.ALREADY_EXISTS),
    (SubscriptionNameTaken, Code.ALREADY_EXISTS),
    (SnapshotNameTaken, Code.ALREADY_EXISTS),
    (SettingsHaveChanged, Code.ABORTED),
    (GroupInUse, Code.FAILED_PRECONDITION),
    (PositionOutOfRange, Code.OUT_OF_RANGE),
    (EventTooLarge, Code.INVALID_ARGUMENT),
    (InvalidArgument, Code.INVALID_ARGUMENT),
    (DecodeError, Code.INVALID_ARGUMENT),
    (NotAllowed, Code.PERMISSION_DENIED),
    (NotReachable, Code.UNAVAILABLE),
    (StreamError, Code.INTERNAL),
)
"""The first that fits counts."""


def known_status(error: BaseException) -> RpcError | None:
    """What a call that failed with this error ends with; None: it is a fault of the server."""
    if isinstance(error, RpcError):
        return error
    for kind, code in CODES:
        if isinstance(error, kind):
            return RpcError(code, str(error))
    return None
