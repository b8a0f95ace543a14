"""The JSON of the cluster: its brokers, and the doors of this server."""

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
    """A door of the server: a protocol that it serves, and where."""

    name: str
    title: str
    addresses: Annotated[
        list[str], Meta(description="Addresses at which the door is served; empty if it is off.")
    ]
    off_reason: Annotated[
        str, Meta(description="Why the door is off although it was asked for; empty: it is on, or was not.")
    ]
    flag: Annotated[str, Meta(description="The flag of `mainstem serve` that turns it on.")]


class ClusterJson(msgspec.Struct, rename={"kafka_address": "at"}):
    """The cluster that this API belongs to; a mainstem server is a cluster of one broker."""

    id: str
    controller: int
    brokers: list[BrokerJson]
    kafka_address: Annotated[str, Meta(description="HOST:PORT to which Kafka clients connect.")]
    version: Annotated[str, Meta(description="The version of mainstem.")]
    read_only: Annotated[bool, Meta(description="Whether the HTTP API refuses every change.")]
    embedded: Annotated[
        bool, Meta(description="true: this server stores the log; false: it is a client of the cluster.")
    ]
    client_quotas: Annotated[bool, Meta(description="Whether client quotas are kept here.")]
    api_tokens: Annotated[bool, Meta(description="Whether API tokens are kept here.")]
    doors: Annotated[list[DoorJson], Meta(description="All doors, on or off.")]
