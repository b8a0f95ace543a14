"""gcloud-aio-pubsub, which speaks REST.

python -m tests.compat.pubsub.clients.gcloud_aio_suite HOST:PORT [CASE…]
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from gcloud.aio.pubsub import PublisherClient, PubsubMessage, SubscriberClient

from tests.compat.cases import case, fresh, main, same

PROJECT = "compat"


async def _round() -> None:
    async with aiohttp.ClientSession() as session:
        publisher, subscriber = PublisherClient(session=session), SubscriberClient(session=session)
        topic = publisher.topic_path(PROJECT, fresh("orders"))
        await publisher.create_topic(topic)
        name = subscriber.subscription_path(PROJECT, fresh("billing"))
        await subscriber.create_subscription(name, topic)
        messages = [PubsubMessage(f"grüße {i}", shop="Köln") for i in range(10)]
        answer = await publisher.publish(topic, messages)
        same(len(set(answer["messageIds"])), 10)
        received: list[Any] = []
        while len(received) < 10:
            batch = await subscriber.pull(name, max_messages=10)
            received += batch
            await subscriber.acknowledge(name, ack_ids=[item.ack_id for item in batch])
        same(sorted(item.data.decode() for item in received), [f"grüße {i}" for i in range(10)])
        same({item.attributes["shop"] for item in received}, {"Köln"})
        same(sorted(item.message_id for item in received), sorted(answer["messageIds"]))
        listed = await publisher.list_topics(f"projects/{PROJECT}")
        assert topic in [item["name"] for item in listed["topics"]]
        await subscriber.delete_subscription(name)
        await publisher.delete_topic(topic)


@case("publish-pull-and-acknowledge")
def publish_pull_and_acknowledge() -> None:
    asyncio.run(_round())


if __name__ == "__main__":
    main()
