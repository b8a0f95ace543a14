"""Making topics through the admin client, on any cluster, however busy it is."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic


def make_topics(admin: AdminClient, topics: Sequence[NewTopic]) -> None:
    """Make these, none of which is there yet.

    A broker of Apache Kafka that waits too long for its controller asks it again, and is told that the topic
    exists, for its first request has made it: so a topic that was not there before is made with that too.
    """
    there = admin.list_topics().topics
    assert not [each.topic for each in topics if each.topic in there]
    for made in admin.create_topics(list(topics)).values():
        try:
            made.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
