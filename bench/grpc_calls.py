"""What a unary call of gRPC costs the Pub/Sub door, beside grpcio's own server: `python -m bench.grpc_calls`.

Both answer a message of 1 KB with itself, to the same client: grpcio, in a process of its own. The figure is
CPU time of the server for each call. The turns alternate, after calls that do not count. Needs `make
deps-all`, which installs grpcio for the client.
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
from mainstem.serve import options
from mainstem.serve.server import start

PATH = "/bench.Echo/Call"
IN_FLIGHT = (1, 50)
ROUNDS = 3
BAR_US = 40
"""CPU of a call with 50 in flight."""
BAR_RATIO = 6
"""How much more grpcio's server has to take."""


async def serve() -> None:
    """A server with the Pub/Sub door, whose one method returns its message. Prints the port."""
    echo = RpcMethod(rights=(), unary=lambda call, message: message)
    services.SERVICES = (lambda context: {PATH: echo},)
    with tempfile.TemporaryDirectory() as folder:
        flags = {"data": folder, "durability": "os", "kafka": "127.0.0.1:0", "http": "127.0.0.1:0"}
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


def load(address: str, calls: int, in_flight: int) -> float:
    """Call the server; the median time of a call in microseconds."""
    command = [str(PYTHON), "-m", "bench.clients.grpc_peer", "load", address, str(calls), str(in_flight)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(calls: int) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """(server, calls in flight) -> CPU and median time of a call in microseconds, for each round."""
    commands = {
        "mainstem": [sys.executable, "-m", "bench.grpc_calls", "--serve"],
        "grpcio.aio": [str(PYTHON), "-m", "bench.clients.grpc_peer", "serve"],
    }
    figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(started(command)) for name, command in commands.items()}
        for _, address in servers.values():
            load(address, calls // 4, IN_FLIGHT[-1])
        for _ in range(ROUNDS):
            for in_flight in IN_FLIGHT:
                for name, (pid, address) in servers.items():
                    before_s = cpu_of(pid)
                    median_us = load(address, calls, in_flight)
                    cost_us = (cpu_of(pid) - before_s) / calls * 1e6
                    figures.setdefault((name, in_flight), []).append((cost_us, median_us))
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
        line = f"{name:<12} {in_flight:>3} in flight  {cost_us:6.1f} us CPU a call ({shown})"
        print(f"{line}  p50 {median_us:.0f} us")
    ratio = costs["grpcio.aio", 50] / costs["mainstem", 50]
    verdict = "held" if costs["mainstem", 50] <= BAR_US and ratio >= BAR_RATIO else "MISSED"
    print(f"grpcio.aio takes {ratio:.1f} times as much; bar: {BAR_US} us, {BAR_RATIO} times: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
