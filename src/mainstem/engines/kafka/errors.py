"""Translates librdkafka's errors into errors of the contract."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from mainstem import contract

_CLASSES: dict[type[contract.StreamError], tuple[int, ...]] = {
    contract.NotReachable: (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
    ),
    contract.UnknownTopic: (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._NOENT,
    ),
    contract.TopicExists: (KafkaError.TOPIC_ALREADY_EXISTS,),
    contract.UnknownGroup: (KafkaError.GROUP_ID_NOT_FOUND,),
    # A server refuses to set a position of a group with members like a commit by an unknown member.
    contract.GroupInUse: (
        KafkaError.NON_EMPTY_GROUP,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    ),
    contract.PositionOutOfRange: (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET),
    contract.EventTooLarge: (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE),
    contract.InvalidArgument: (
        KafkaError._INVALID_ARG,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_REQUEST,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_RECORD,
        KafkaError.OFFSET_METADATA_TOO_LARGE,
    ),
    contract.NotAllowed: (
        KafkaError._AUTHENTICATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    ),
}
_BY_CODE = {code: error_class for error_class, codes in _CLASSES.items() for code in codes}

_TEXTS_BY_CODE = {
    KafkaError._MSG_TIMED_OUT: (
        "not acknowledged in time; the server's log says why (disk full, disk not responding)"
    ),
    KafkaError.INVALID_TIMESTAMP: (
        "its time is too far in the future or in the past for the topic (message.timestamp.after.max.ms,"
        " message.timestamp.before.max.ms)"
    ),
    KafkaError.MSG_SIZE_TOO_LARGE: "larger than the topic accepts (max.message.bytes)",
    KafkaError.RECORD_LIST_TOO_LARGE: "larger than a segment of the topic (segment.bytes)",
    KafkaError.INVALID_RECORD: "the server refuses the event; a compacted topic needs a key",
    KafkaError.TOPIC_EXCEPTION: (
        "not a valid name: letters, digits, dots, underscores and dashes, at most 249; or an internal topic"
    ),
    KafkaError.KAFKA_STORAGE_ERROR: "the server's disk failed; its log says what to do",
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "the server does not know the compression",
}
"""Texts for error codes of which librdkafka says too little."""

UNREADABLE = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG})
"""Error codes that a consumer reports for a batch that it cannot decode."""

LEADER_UNAVAILABLE = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._NOENT,
    }
)
"""Error codes of a partition without a leader, because it is new or its leader changes, or of a broker that
has not learned of the partition or its leader's epoch yet. librdkafka does not retry these by itself in admin
calls."""


def translate(error: KafkaError | KafkaException, subject: str) -> contract.StreamError:
    """The contract's error for librdkafka's; `subject` begins the message, for example `topic flights`."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    error_class = _BY_CODE.get(error.code(), contract.StreamError)
    text = _TEXTS_BY_CODE.get(error.code(), "")
    texts = {
        contract.UnknownTopic: "there is no such topic or partition",
        contract.TopicExists: "exists already",
        contract.UnknownGroup: "there is no such group",
        contract.GroupInUse: "the group has members; stop them first",
    }
    text = text or texts.get(error_class) or str(error.str()).strip().rstrip(".")
    return error_class(f"{subject}: {text}")
