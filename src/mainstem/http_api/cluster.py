"""The cluster: its brokers, and what this server serves."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class BrokerJson(msgspec.Struct):
    """A broker of the cluster."""

    id: int
    host: str
    port: int


class DoorJson(msgspec.Struct):
    """A door of the server."""

    name: str
    title: str
    addresses: Annotated[list[str], Meta(description="Where it is served; empty if it is off.")]
    off_reason: Annotated[
        str, Meta(description="Why it is off although it was asked for; empty if it is on, or was not.")
    ]
    flag: Annotated[str, Meta(description="The flag of `mainstem serve` that turns it on.")]


class ClusterJson(msgspec.Struct, rename={"kafka_address": "at"}):
    """The cluster; one that mainstem serves has one broker."""

    id: str
    controller: int
    brokers: list[BrokerJson]
    kafka_address: Annotated[str, Meta(description="HOST:PORT for Kafka clients.")]
    version: Annotated[str, Meta(description="The version of mainstem.")]
    read_only: Annotated[bool, Meta(description="Whether the HTTP API refuses every change.")]
    embedded: Annotated[
        bool, Meta(description="true: this server stores the log; false: it is a client of the cluster.")
    ]
    doors: Annotated[list[DoorJson], Meta(description="All doors, on or off.")]
