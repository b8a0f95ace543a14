# mypy: ignore-errors
"""FastStream's hello world, as in its documentation; the address and the broker's module are parameters:
`python -m tests.compat.faststream.hello ADDRESS kafka|confluent`. Runs until SIGTERM."""

import asyncio
import importlib
import sys

from faststream import FastStream

KafkaBroker = importlib.import_module(f"faststream.{sys.argv[2]}").KafkaBroker

broker = KafkaBroker(sys.argv[1])
app = FastStream(broker)


@broker.subscriber("in-topic")
@broker.publisher("out-topic")
async def handle_msg(user: str, user_id: int) -> str:
    return f"User: {user_id} - {user} registered"


if __name__ == "__main__":
    asyncio.run(app.run())
