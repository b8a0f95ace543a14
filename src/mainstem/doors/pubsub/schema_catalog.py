"""The schemas of the Pub/Sub door, with all their revisions, and the comparison of messages with them.

Owns: their records, which are notes (`door_notes.py`), one for each revision, and what is known of them for a
second, so that a Publish does not read them. Refuses: protobuf messages (`schemas.py`), and what a definition
means (`mainstem.pubsub.message_schemas`).
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mainstem.contract import Engine
from mainstem.doors.pubsub.calls import Code, RpcError
from mainstem.doors.pubsub.door_notes import notes, set_note
from mainstem.doors.pubsub.refusals import (
    already_exists,
    failed_precondition,
    invalid_argument,
    not_found,
)
from mainstem.pubsub.avro_schema import SchemaInvalid
from mainstem.pubsub.avro_values import ValueInvalid
from mainstem.pubsub.message_schemas import PayloadSchema, SchemaEncoding, SchemaKind, parse_schema

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

PREFIX = "schema "
REVISIONS_MAX = 20
"""Revisions of a schema, as Google's quota."""
KNOWN_S = 1.0
PARSED_MAX = 1_000


class SchemaRevision(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a revision."""

    name: str
    """Of the schema: `projects/P/schemas/S`."""
    id: str
    """8 hexadecimal digits."""
    number: int
    """Later ones have higher numbers."""
    kind: SchemaKind
    definition: str
    created_ms: int

    @property
    def note(self) -> str:
        """The name of its note."""
        return f"{PREFIX}{self.name}@{self.id}"


class SchemaCatalog:
    """All schemas of a server."""

    def __init__(self, context: DoorContext) -> None:
        self._context = context
        self._random = random.Random()
        self._changing = asyncio.Lock()
        self._known: dict[str, list[SchemaRevision]] = {}
        self._known_until_s: float | None = None
        self._parsed: OrderedDict[tuple[str, str], PayloadSchema] = OrderedDict()
        """By name and id of the revision."""

    async def all(self, engine: Engine) -> dict[str, list[SchemaRevision]]:
        """The revisions of all schemas, the oldest first, by name."""
        schemas: dict[str, list[SchemaRevision]] = {}
        stored = await notes(engine, PREFIX, lambda data: msgspec.json.decode(data, type=SchemaRevision))
        for revision in sorted(stored.values(), key=lambda revision: revision.number):
            schemas.setdefault(revision.name, []).append(revision)
        return schemas

    async def revisions(self, engine: Engine, name: str) -> list[SchemaRevision]:
        """The revisions of a schema, the oldest first. RpcError: there is no such schema."""
        revisions = (await self.all(engine)).get(name)
        if revisions is None:
            raise not_found(name)
        return revisions

    async def revision(self, engine: Engine, name: str, id_: str) -> SchemaRevision:
        """A revision; without an id the latest. RpcError: it does not exist."""
        revisions = await self.revisions(engine, name)
        if not id_:
            return revisions[-1]
        for revision in revisions:
            if revision.id == id_:
                return revision
        raise not_found(f"{name}@{id_}")

    async def create(self, engine: Engine, name: str, kind: SchemaKind, definition: str) -> SchemaRevision:
        """Create a schema. RpcError."""
        parsed(kind, definition)
        async with self._changing:
            if name in await self.all(self._context.engine):
                raise already_exists(name)
            return await self._add(engine, name, kind, definition, ())

    async def commit(self, engine: Engine, name: str, kind: SchemaKind, definition: str) -> SchemaRevision:
        """Add a revision to a schema. RpcError."""
        parsed(kind, definition)
        async with self._changing:
            revisions = await self.revisions(engine, name)
            if revisions[-1].kind != kind:
                raise invalid_argument(f"the schema is of type {revisions[-1].kind}, and stays so")
            return await self._add(engine, name, kind, definition, revisions)

    async def roll_back(self, engine: Engine, name: str, id_: str) -> SchemaRevision:
        """Add a revision that is as an earlier one. RpcError."""
        async with self._changing:
            old = await self.revision(engine, name, id_)
            revisions = await self.revisions(engine, name)
            return await self._add(engine, name, old.kind, old.definition, revisions)

    async def delete_revision(self, engine: Engine, name: str, id_: str) -> SchemaRevision:
        """Delete a revision, and return it. RpcError: it does not exist, or is the only one."""
        async with self._changing:
            revision = await self.revision(engine, name, id_)
            if len(await self.revisions(engine, name)) == 1:
                raise failed_precondition(
                    "the only revision of a schema cannot be deleted: delete the schema"
                )
            await self._set(engine, revision.note, None)
            return revision

    async def delete(self, engine: Engine, name: str) -> None:
        """Delete a schema with all its revisions. RpcError: it does not exist."""
        async with self._changing:
            for revision in reversed(await self.revisions(engine, name)):
                await self._set(engine, revision.note, None)

    async def _add(
        self,
        engine: Engine,
        name: str,
        kind: SchemaKind,
        definition: str,
        present: Sequence[SchemaRevision],
    ) -> SchemaRevision:
        if len(present) >= REVISIONS_MAX:
            text = f"a schema has at most {REVISIONS_MAX} revisions: delete some"
            raise RpcError(Code.RESOURCE_EXHAUSTED, text)
        taken = {revision.id for revision in present}
        while (id_ := f"{self._random.getrandbits(32):08x}") in taken:
            pass
        revision = SchemaRevision(
            name=name,
            id=id_,
            number=present[-1].number + 1 if present else 1,
            kind=kind,
            definition=definition,
            created_ms=self._context.clock.wall_ms(),
        )
        await self._set(engine, revision.note, revision)
        return revision

    async def _set(self, engine: Engine, note: str, revision: SchemaRevision | None) -> None:
        await set_note(self._context.engine, engine, note, revision)
        self._known_until_s = None

    # --- messages -------------------------------------------------------------------------------------------

    async def exists(self, name: str) -> bool:
        """Whether there is this schema, as known within a second."""
        return bool(await self._usable(name, "", "", fresh=False))

    async def check_messages(
        self,
        name: str,
        encoding: SchemaEncoding,
        messages: Sequence[bytes],
        *,
        first_revision: str = "",
        last_revision: str = "",
    ) -> list[str]:
        """The id of the revision that each message agrees with: the latest that it does, from
        `last_revision` (empty: the latest) back to `first_revision` (empty: the first). RpcError: a message
        agrees with none, or the schema or a revision of these is not there."""
        ids, error = await self._matches(name, encoding, messages, first_revision, last_revision, fresh=False)
        if error is not None:  # perhaps it was changed within the last second
            ids, error = await self._matches(
                name, encoding, messages, first_revision, last_revision, fresh=True
            )
        if error is not None:
            raise error
        return ids

    async def _matches(
        self,
        name: str,
        encoding: SchemaEncoding,
        messages: Sequence[bytes],
        first: str,
        last: str,
        *,
        fresh: bool,
    ) -> tuple[list[str], RpcError | None]:
        usable = await self._usable(name, first, last, fresh=fresh)
        if not usable:
            return [], failed_precondition(f"the schema of the topic, or its revision, was deleted: {name}")
        schemas = [(revision.id, self._schema(revision)) for revision in usable]
        ids: list[str] = []
        for number, data in enumerate(messages):
            problem = ""
            for id_, schema in schemas:
                try:
                    schema.check(data, encoding)
                except ValueInvalid as error:
                    problem = problem or f"message {number} is not as its schema {name} says: {error}"
                else:
                    ids.append(id_)
                    break
            else:
                return [], invalid_argument(problem)
        return ids, None

    async def _usable(self, name: str, first: str, last: str, *, fresh: bool) -> list[SchemaRevision]:
        """The revisions from `last` back to `first`, the latest first."""
        now_s = self._context.clock.monotonic()
        if fresh or self._known_until_s is None or now_s > self._known_until_s:
            self._known = await self.all(self._context.engine)
            self._known_until_s = now_s + KNOWN_S
        revisions = self._known.get(name, [])
        ids = [revision.id for revision in revisions]
        if (first and first not in ids) or (last and last not in ids):
            return []
        begin = ids.index(first) if first else 0
        end = ids.index(last) + 1 if last else len(ids)
        return revisions[begin:end][::-1]

    def _schema(self, revision: SchemaRevision) -> PayloadSchema:
        key = revision.name, revision.id
        schema = self._parsed.get(key)
        if schema is None:
            schema = self._parsed[key] = parse_schema(revision.kind, revision.definition)
            if len(self._parsed) > PARSED_MAX:
                self._parsed.popitem(last=False)
        return schema


def parsed(kind: SchemaKind, definition: str) -> PayloadSchema:
    """The schema of a definition. RpcError: it is none."""
    try:
        return parse_schema(kind, definition)
    except SchemaInvalid as error:
        raise invalid_argument(f"Invalid schema definition: {error}") from None
