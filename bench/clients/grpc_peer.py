"""gRPC's Python library on the other side of `python -m bench.grpc_calls`: its server, and a client.

python -m bench.clients.grpc_peer serve                       # prints its port
python -m bench.clients.grpc_peer load HOST:PORT CALLS IN_FLIGHT
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import grpc

SERVICE, METHOD = "bench.Echo", "Call"


async def _echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return request


async def serve() -> None:
    """Serve until the process is ended."""
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(_echo)}
    server = grpc.aio.server(handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


async def load(address: str, path: str, request: bytes, calls: int, in_flight: int) -> None:
    """Make the same call again and again; prints the median time of one in microseconds."""
    times: list[float] = []
    left = iter(range(calls))
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(path)

        async def some() -> None:
            for _ in left:
                began = time.perf_counter()
                assert await call(request)
                times.append(time.perf_counter() - began)

        await asyncio.gather(*(some() for _ in range(in_flight)))
    print(statistics.median(times) * 1e6)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        given = sys.stdin.buffer.read()
        asyncio.run(load(sys.argv[2], sys.argv[3], given, int(sys.argv[4]), int(sys.argv[5])))
