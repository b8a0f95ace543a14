"""What a unary call of gRPC costs the Pub/Sub door, beside grpcio's own server: `python -m bench.grpc_calls`.

Both answer a message of 1 KB with itself, to the same client: grpcio, in a process of its own. Then messages
are published to the door, which answers when they are on the disk. The figure is CPU time of the server for
each call. The turns alternate, after calls that do not count. Needs `make deps-all`, which installs grpcio
for the client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

import uvloop
from tests.compat.pubsub.suites import PYTHON

from bench.subscribers import cpu_of
from mainstem.doors.pubsub import services
from mainstem.doors.pubsub.calls import RpcMethod
from mainstem.pubsub import messages as pubsub_messages
from mainstem.serve import options
from mainstem.serve.server import start

PATH = "/bench.Echo/Call"
IN_FLIGHT = (1, 50)
ROUNDS = 3
BAR_US = 40
"""CPU of a call with 50 in flight."""
BAR_RATIO = 6
"""How much more grpcio's server has to take."""
MESSAGE = bytes(range(256)) * 4
TOPIC = "projects/bench/topics/orders"
PUBLISHER = "/google.pubsub.v1.Publisher/"
BATCH = 100

Figures = dict[tuple[str, int], list[tuple[float, float]]]
"""(what, calls in flight) -> CPU and median time of a call in microseconds, for each round"""


async def serve() -> None:
    """A server with the Pub/Sub door, whose one method returns its message. Prints the port."""
    echo = RpcMethod(rights=(), unary=lambda call, message: message)
    services.SERVICES = (*services.SERVICES, lambda context: {PATH: echo})
    with tempfile.TemporaryDirectory() as folder:
        flags = {"data": folder, "durability": "disk", "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
        running = await start(options.load({**flags, "pubsub": "127.0.0.1:0"}))
        print(running.addresses["pubsub"][0].port, flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[tuple[int, str]]:
    """A server in a process of its own: its process id and HOST:PORT."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def load(address: str, path: str, request: bytes, calls: int, in_flight: int) -> float:
    """Call the server; the median time of a call in microseconds."""
    command = [
        str(PYTHON),
        "-m",
        "bench.clients.grpc_peer",
        "load",
        address,
        path,
        str(calls),
        str(in_flight),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, input=request).stdout)


def publish_request(messages: int) -> bytes:
    """A PublishRequest of as many messages."""
    request = pubsub_messages.message("google.pubsub.v1.PublishRequest")()
    request.topic = TOPIC
    for _ in range(messages):
        request.messages.add().data = MESSAGE
    return bytes(request.SerializeToString())


def measure(calls: int) -> Figures:
    """All figures, from `calls` calls each."""
    commands = {
        "mainstem": [sys.executable, "-m", "bench.grpc_calls", "--serve"],
        "grpcio.aio": [str(PYTHON), "-m", "bench.clients.grpc_peer", "serve"],
    }
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(started(command)) for name, command in commands.items()}
        turns = [(name, servers[name], PATH, MESSAGE, calls) for name in servers]
        for requests, messages in ((calls, 1), (calls // 10, BATCH)):
            what, path = f"Publish of {messages}", f"{PUBLISHER}Publish"
            turns.append((what, servers["mainstem"], path, publish_request(messages), requests))
        topic = pubsub_messages.message("google.pubsub.v1.Topic")(name=TOPIC)
        load(servers["mainstem"][1], f"{PUBLISHER}CreateTopic", topic.SerializeToString(), 1, 1)
        return _rounds(turns)


def _rounds(turns: Sequence[tuple[str, tuple[int, str], str, bytes, int]]) -> Figures:
    figures: Figures = {}
    for _, (_, address), path, request, calls in turns:
        load(address, path, request, calls // 4 + 1, IN_FLIGHT[-1])
    for _ in range(ROUNDS):
        for in_flight in IN_FLIGHT:
            for what, (process_id, address), path, request, calls in turns:
                before_s = cpu_of(process_id)
                median_us = load(address, path, request, calls, in_flight)
                cost_us = (cpu_of(process_id) - before_s) / calls * 1e6
                figures.setdefault((what, in_flight), []).append((cost_us, median_us))
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.grpc_calls")
    parser.add_argument("--calls", type=int, default=20_000, help="in each turn")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        uvloop.run(serve())
        return 0
    if not PYTHON.exists():
        print(f"{PYTHON} is missing: make deps-all")
        return 1
    costs = {}
    for (name, in_flight), rounds in measure(given.calls).items():
        cost_us = statistics.median(cost for cost, _ in rounds)
        costs[name, in_flight] = cost_us
        shown = ", ".join(f"{cost:.0f}" for cost, _ in rounds)
        median_us = statistics.median(median for _, median in rounds)
        line = f"{name:<14} {in_flight:>3} in flight  {cost_us:6.1f} us CPU a call ({shown})"
        print(f"{line}  p50 {median_us:.0f} us")
    ratio = costs["grpcio.aio", 50] / costs["mainstem", 50]
    verdict = "held" if costs["mainstem", 50] <= BAR_US and ratio >= BAR_RATIO else "MISSED"
    print(f"grpcio.aio takes {ratio:.1f} times as much; bar: {BAR_US} us, {BAR_RATIO} times: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
