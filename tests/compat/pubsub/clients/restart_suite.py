"""Google's Python client while its server is restarted again and again: publishes, streams, loses nothing.

python -m tests.compat.pubsub.clients.restart_suite HOST:PORT
"""

from __future__ import annotations

import threading
import time
from typing import Any

from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud import pubsub_v1

from tests.compat.cases import case, fresh, main

PROJECT = "compat"
MESSAGES = 150
PAUSE_S = 0.01
SAYS_EVERY = 50
OFTEN = Retry(if_exception_type(exceptions.ServiceUnavailable), initial=0.1, maximum=0.5, timeout=50)
"""How a publish is tried again; usually the client waits four times as long each time, up to a minute."""


@case("nothing-is-lost")
def nothing_is_lost() -> None:
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    topic = publisher.topic_path(PROJECT, fresh("orders"))
    name = subscriber.subscription_path(PROJECT, fresh("billing"))
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=name, topic=topic)
    left, published = {b"%d" % number for number in range(MESSAGES)}, 0
    lock, done = threading.Lock(), threading.Event()

    def on_message(message: Any) -> None:
        message.ack()
        with lock:
            left.discard(message.data)
            if not left:
                done.set()

    pulling = subscriber.subscribe(name, on_message)
    for number in range(MESSAGES):
        publisher.publish(topic, b"%d" % number, retry=OFTEN).result(50)
        published += 1
        if published % SAYS_EVERY == 0:
            print("PUBLISHED", flush=True)
        time.sleep(PAUSE_S)
    done.wait(40)
    pulling.cancel()
    pulling.result(30)
    assert not left, f"{published} were published, {len(left)} did not come: {sorted(left)[:10]}"


if __name__ == "__main__":
    main()
