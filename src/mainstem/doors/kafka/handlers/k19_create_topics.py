"""19 CreateTopics.

Versions: 2-7.
Behaviour: creates each topic, or refuses it with its own code and text, in the order of the request; the
reply waits until the topics are durable. A name that occurs twice in a request is refused once with
INVALID_REQUEST. -1 means the default number of partitions and of replicas, in every version. A replica
assignment is accepted if it names only this node. More than 10,000 partitions in one request are refused with
POLICY_VIOLATION, as in Kafka. Many topics are created in several turns of the event loop.
Notes: v5 returns the topic's settings with their sources (KIP-525), unless the client has no right to
describe them, v7 its id (KIP-516).
Left out: the timeout: only the disk is waited for; quotas (v6's THROTTLING_QUOTA_EXCEEDED).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.errors import InvalidRequest, TooManyPartitions
from mainstem.coordinator.topics.topics import PARTITIONS_OF_TOPIC_MAX, TopicMetadata
from mainstem.doors.kafka.configs import created_entry
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import duplicates, reply_for
from mainstem.doors.kafka.rights import RightDenied, of_each
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import ArrayWriter, EncodedArray
from mainstem.promise import Promise, gather
from mainstem.turns import run_in_turns

TOPICS_PER_TURN = 40
"""Topics that are created or described in one turn of the event loop, 4 ms."""
PARTITIONS_OF_REQUEST_MAX = 10_000
"""Apache Kafka's MAX_PARTITIONS_PER_BATCH."""
CONFIGS_SINCE = 5
CREATE = of_each(Operation.CREATE, ResourceType.TOPIC, or_cluster=Operation.CREATE)
DESCRIBE_CONFIGS = of_each(
    Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, when="for the settings in the reply"
)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    requested = {topic.name: topic for topic in request.body.topics}
    repeated_names = duplicates(topic.name for topic in request.body.topics)
    may_create = {name: context.allows(request, CREATE, name) for name in requested}
    allowed = [topic for name, topic in requested.items() if may_create[name]]
    is_too_many = _partitions(context, allowed) > PARTITIONS_OF_REQUEST_MAX
    creations: list[tuple[str, Promise[TopicMetadata]]] = []

    def create() -> Iterator[int]:
        for name, topic in requested.items():
            if not may_create[name] and name not in repeated_names:
                creations.append((name, Promise.failed(RightDenied(CREATE))))
            elif is_too_many:
                refusal = TooManyPartitions("Excessively large number of partitions per request.")
                creations.append((name, Promise.failed(refusal)))
            elif name in repeated_names:
                creations.append((name, Promise.failed(InvalidRequest("Duplicate topic name."))))
            else:
                creations.append((name, _create(context, topic, request.body.validate_only)))
            yield 1

    topics = ArrayWriter(19, request.version, "topics")

    def encode() -> Iterator[int]:
        configs: dict[frozenset[tuple[str, str]], EncodedArray] = {}
        for name, creation in creations:
            topics.add(_described(context, request, name, creation, configs))
            yield 1

    return (
        run_in_turns(context.clock, create(), TOPICS_PER_TURN)
        .chain(lambda _: gather([creation for _, creation in creations]))
        .chain(lambda _: run_in_turns(context.clock, encode(), TOPICS_PER_TURN))
        .map(lambda _: Message(topics=topics.encoded()))
    )


def _partitions(context: HandlerContext, topics: Iterable[Message]) -> int:
    """The partitions that are asked for in all. A number that no topic can have is refused by itself."""
    counts = (
        len(topic.assignments)
        or (context.settings.num_partitions if topic.num_partitions == -1 else topic.num_partitions)
        for topic in topics
    )
    return sum(count for count in counts if 0 < count <= PARTITIONS_OF_TOPIC_MAX)


def _described(
    context: HandlerContext,
    request: Request,
    name: str,
    creation: Promise[TopicMetadata],
    configs: dict[frozenset[tuple[str, str]], EncodedArray],
) -> Message:
    """The reply's part for a topic. `configs`: the settings that are encoded already; most topics have the
    same."""

    version = request.version

    def on_success(topic: TopicMetadata) -> Message:
        if not context.allows(request, DESCRIBE_CONFIGS, topic.name, is_filter=True):
            return Message(
                name=topic.name,
                topic_id=topic.id,
                error_message=None,
                topic_config_error_code=DESCRIBE_CONFIGS.code,
                configs=None,
            )
        key = frozenset(topic.config.items())
        if key not in configs and version >= CONFIGS_SINCE:
            entries = ArrayWriter(19, version, "topics", "configs")
            for entry in context.topics.describe_config(topic):
                entries.add(created_entry(entry))
            configs[key] = entries.encoded()
        return Message(
            name=topic.name,
            topic_id=topic.id,
            error_message=None,
            num_partitions=topic.partitions,
            replication_factor=1,
            configs=configs.get(key),
        )

    def on_refusal(code: int, text: str) -> Message:
        return Message(name=name, error_code=code, error_message=text)

    return reply_for(creation, on_success, on_refusal).result()


def _create(context: HandlerContext, requested: Message, validate_only: bool) -> Promise[TopicMetadata]:
    return context.topics.create(
        requested.name,
        requested.num_partitions,
        {config.name: config.value for config in requested.configs},
        replication_factor=requested.replication_factor,
        assignments=[
            (partition.partition_index, partition.broker_ids) for partition in requested.assignments
        ],
        validate_only=validate_only,
    )


HANDLER = Handler(key=19, versions=(2, 7), handle=handle, rights=(CREATE, DESCRIBE_CONFIGS))
