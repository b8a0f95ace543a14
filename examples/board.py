"""A departures board: a service on confluent-kafka that shows each flight once.

It remembers its place in group `board`: stop it, start it again, and it goes on where it was. Start two, and
they share the work as far as the topic has partitions.

    python examples/board.py [HOST:PORT] [TOPIC]
"""

from __future__ import annotations

import json
import sys

from confluent_kafka import Consumer


def line(flight: dict[str, object]) -> str:
    """One row of the board."""
    state = "CANCELLED" if flight["dep_time"] is None else f"left {flight['dep_time']:>4}"
    name = f"{flight['carrier']} {flight['flight']}"
    return f"{flight['time_hour']}  {flight['origin']} > {flight['dest']}  {name:<8}  {state}"


def main(server: str = "127.0.0.1:9092", topic: str = "flights") -> None:
    """Show flights until Ctrl-C."""
    consumer = Consumer({"bootstrap.servers": server, "group.id": "board", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        while True:
            event = consumer.poll(1.0)
            if event is None:
                continue
            if event.error():
                print(event.error(), file=sys.stderr)
                continue
            print(line(json.loads(event.value())), flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()  # leaves the group and commits the position


if __name__ == "__main__":
    main(*sys.argv[1:])
