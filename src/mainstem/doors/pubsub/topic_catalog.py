"""The topics of the Pub/Sub door: from the name that a client uses to the topic of the log.

A topic that is created here has its `google.pubsub.v1.Topic` as JSON in the topic setting `mainstem.pubsub`.
Any other topic of the log is one of the default project if Pub/Sub allows its name.

Owns: these records and names, and what is known of them for a second, so that a Publish reads no settings.
Refuses: what a client may set (`topic_fields.py`), and who may do what, which the engine of each requester
checks.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf import json_format

from mainstem.contract import Engine, InvalidArgument, TopicExists, UnknownTopic
from mainstem.doors.pubsub.refusals import already_exists, arguments, invalid_argument, not_found
from mainstem.pubsub.messages import message, pool
from mainstem.pubsub.names import is_legal_id, parse_name, stored_name

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext

RECORD = "mainstem.pubsub"
"""The topic setting."""
RETENTION = "retention.ms"
RECORD_CHARACTERS_MAX = 65_536
"""As the settings of a subscription."""
BATCH_BYTES_MAX = (10 << 20) + (64 << 10)
"""`max.message.bytes` of topics that are created here: room for the largest request."""
KNOWN_MAX = 10_000
KNOWN_S = 1.0
"""How long a record is used without a look at the engine's."""
NAMES_MAX = 100_000
READ_PER_TURN = 20
"""Topics whose settings are read without a turn for other calls."""


@dataclass(frozen=True, slots=True)
class PubsubTopic:
    """A topic."""

    stored_name: str
    """Its name in the log."""
    uid: str
    """Its id in the log: another one may have its name later."""
    record: Any
    """`google.pubsub.v1.Topic` as it was set. It is not changed."""

    @property
    def name(self) -> str:
        """The full name: `projects/P/topics/T`."""
        return str(self.record.name)


class PubsubTopics:
    """All topics."""

    def __init__(self, context: DoorContext, default_project: str) -> None:
        self._context = context
        self._default_project = default_project
        self._changing = asyncio.Lock()
        self._known: OrderedDict[str, tuple[float, PubsubTopic]] = OrderedDict()
        """Full name -> until when it is used, and the topic."""
        self._names: dict[str, str] = {}
        """Id in the log -> full name, which never changes; empty: Pub/Sub has no name for it."""

    async def find(self, engine: Engine, text: str) -> PubsubTopic:
        """The topic of a full name. NotAuthorized: who has `engine` may not see it. RpcError: the name is
        none, or there is no such topic."""
        now_s = self._context.clock.monotonic()
        if (known := self._known.get(text)) is not None and known[0] > now_s:
            with suppress(UnknownTopic):
                if await engine.topic_id(known[1].stored_name) == known[1].uid:
                    return known[1]
        self._known.pop(text, None)
        for candidate in self._candidates(text):
            with suppress(UnknownTopic):
                await engine.topic_id(candidate)
                topic = await self._read(candidate)
                if topic is not None and topic.name == text:
                    self._known[text] = now_s + KNOWN_S, topic
                    if len(self._known) > KNOWN_MAX:
                        self._known.popitem(last=False)
                    return topic
        raise not_found(text)

    def _candidates(self, text: str) -> list[str]:
        """The names that the topic may have in the log."""
        with arguments():
            name = parse_name(text, "topics")
        return [stored_name(name, self._default_project, is_taken=is_taken) for is_taken in (False, True)]

    async def _read(self, stored: str) -> PubsubTopic | None:
        """A topic of the log; None: Pub/Sub has no name for it. UnknownTopic."""
        info = await self._context.engine.topic(stored)
        settings = {setting.name: setting for setting in info.settings}
        setting = settings.get(RECORD)
        record = _record(setting.value or "" if setting is not None else "")
        if not record.name and is_legal_id(stored):
            record.name = f"projects/{self._default_project}/topics/{stored}"
        if len(self._names) >= NAMES_MAX:
            self._names.clear()
        self._names[info.id] = record.name
        if not record.name:
            return None
        if record.HasField("message_retention_duration"):
            _show_retention(record, settings[RETENTION].value or "")
        return PubsubTopic(stored, info.id, record)

    async def create(self, engine: Engine, record: Any) -> None:
        """Create a topic with this record. RpcError: the name is none, or taken."""
        settings = {"max.message.bytes": str(BATCH_BYTES_MAX), RECORD: _encoded(record)}
        if (retention := _retention_ms(record)) is not None:
            settings[RETENTION] = retention
        *_, last = candidates = self._candidates(record.name)
        async with self._changing:
            for candidate in candidates:
                try:
                    await engine.create_topic(candidate, settings=settings)
                except TopicExists:
                    with suppress(UnknownTopic):
                        topic = await self._read(candidate)
                        if topic is not None and topic.name == record.name:
                            break
                except InvalidArgument:  # Kafka's names are equal if only `.` and `_` differ
                    if candidate == last:
                        raise
                else:
                    return
        raise already_exists(record.name)

    async def store(self, engine: Engine, topic: PubsubTopic, record: Any) -> None:
        """Change the record of a topic, and the settings that follow from it."""
        settings: dict[str, str | None] = {RECORD: _encoded(record)}
        if (retention := _retention_ms(record)) != _retention_ms(topic.record):
            settings[RETENTION] = retention
        await engine.alter_topic(topic.stored_name, settings)
        self._known.pop(topic.name, None)

    @property
    def changing(self) -> asyncio.Lock:
        """Held from the reading of a record until its change is stored."""
        return self._changing

    def forget(self, text: str) -> None:
        """Ask for the record again when it is needed next."""
        self._known.pop(text, None)

    async def names(self, engine: Engine, project: str) -> dict[str, str]:
        """The topics of a project that a requester may see: names in the log by their full names."""
        prefix = f"projects/{project}/topics/"
        names: dict[str, str] = {}
        for number, summary in enumerate(await engine.topics()):
            name = self._names.get(summary.id)
            if name is None:
                if number % READ_PER_TURN == 0:
                    await asyncio.sleep(0)
                with suppress(UnknownTopic):
                    topic = await self._read(summary.name)
                    name = "" if topic is None else topic.name
            if name and name.startswith(prefix):
                names[name] = summary.name
        return names

    async def records(self, stored: list[str]) -> list[Any]:
        """The records of topics by their names in the log, but for those that were deleted meanwhile."""
        records = []
        for number, name in enumerate(stored):
            if number % READ_PER_TURN == 0:
                await asyncio.sleep(0)
            with suppress(UnknownTopic):
                topic = await self._read(name)
                if topic is not None:
                    records.append(topic.record)
        return records


def new_record() -> Any:
    """An empty `google.pubsub.v1.Topic`."""
    return message("google.pubsub.v1.Topic")()


def _record(text: str) -> Any:
    """The record in a topic setting; empty: there is none, or it is not of this door."""
    record = new_record()
    if text:
        try:
            json_format.Parse(text, record, ignore_unknown_fields=True, descriptor_pool=pool())
            with arguments():
                parse_name(record.name, "topics")
        except Exception:
            return new_record()
    return record


def _encoded(record: Any) -> str:
    text = msgspec.json.encode(json_format.MessageToDict(record, descriptor_pool=pool())).decode()
    if len(text) > RECORD_CHARACTERS_MAX:
        raise invalid_argument(f"a topic has at most {RECORD_CHARACTERS_MAX:,} characters of JSON")
    return text


def _retention_ms(record: Any) -> str | None:
    """The topic setting `retention.ms` of a record; None: the server's default."""
    if not record.HasField("message_retention_duration"):
        return None
    return str(record.message_retention_duration.ToMilliseconds())


def _show_retention(record: Any, retention_ms: str) -> None:
    """Show how long events are kept if a client has set it, though another door may have changed it since."""
    if retention_ms.isdigit():
        record.message_retention_duration.FromMilliseconds(int(retention_ms))
    else:
        record.ClearField("message_retention_duration")
