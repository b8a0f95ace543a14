"""The carrier, in place of a real one: sells labels for parcels to the towns that it knows."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from examples.shop.events import PostalAddress
from examples.shop.ledger import Book


class UnknownTown(Exception):
    """The carrier does not go there."""


class Label(msgspec.Struct, frozen=True):
    """A label that was bought."""

    order: str
    tracking: str


class Town(msgspec.Struct, frozen=True):
    """A town that the carrier has learned of, beside TOWNS."""

    name: str


TOWNS = ("Bath", "Derby", "Ely", "Exeter", "Leeds", "Lincoln", "Oxford", "Ripon", "Truro", "Wells", "York")
labels = Book("labels", Label)
learned = Book("towns", Town)


async def buy_label(key: str, order: str, address: PostalAddress) -> Label:
    """A label. With a key that was used before, nothing is bought, and the same label comes again.
    UnknownTown."""
    return await asyncio.to_thread(_enter, key, order, address)


def _enter(key: str, order: str, address: PostalAddress) -> Label:
    if address.town not in TOWNS and learned.get(address.town) is None:
        raise UnknownTown(f"the carrier does not know {address.town}")
    return labels.once(key, Label(order, secrets.token_hex(4).upper()))


def learn(town: str) -> None:
    """Go to this town from now on."""
    learned.put(town, Town(town))
