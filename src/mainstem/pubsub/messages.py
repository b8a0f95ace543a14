"""The messages of Pub/Sub's API, as Google's protos define them, for gRPC and REST.

Their descriptors are in `protos.binpb`, which `tests/pubsub/make_descriptors.py` makes. Owns: a pool of its
own, so that Google's client can be imported into the same process: modules that protoc makes would register
the same files again, which fails. Refuses: what the messages mean.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

DESCRIPTORS = Path(__file__).parent / "protos.binpb"
PUBSUB = "google.pubsub.v1"
SERVICES = (
    f"{PUBSUB}.Publisher",
    f"{PUBSUB}.Subscriber",
    f"{PUBSUB}.SchemaService",
    "google.iam.v1.IAMPolicy",
)


@cache
def pool() -> DescriptorPool:
    """The descriptors of all messages and services. The first call reads them, some 10 ms."""
    descriptors = DescriptorPool()
    for file in FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        descriptors.Add(file)
    return descriptors


@cache
def message(full_name: str) -> Any:
    """The class of a message: `message("google.pubsub.v1.Topic")`. KeyError."""
    return GetMessageClass(pool().FindMessageTypeByName(full_name))


def pubsub_message(name: str) -> Any:
    """The class of a message of google.pubsub.v1: `pubsub_message("Topic")`. KeyError."""
    return message(f"{PUBSUB}.{name}")


@cache
def methods() -> dict[str, Any]:
    """The descriptors of all methods, by their paths: `/google.pubsub.v1.Publisher/Publish`."""
    services = (pool().FindServiceByName(name) for name in SERVICES)
    return {
        f"/{service.full_name}/{method.name}": method for service in services for method in service.methods
    }
