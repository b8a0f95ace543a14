"""The names of Pub/Sub's resources, and the names under which they are stored.

Owns: the syntax of `projects/PROJECT/topics/ID` and the like, and which name a topic or a subscription gets
in the log. Refuses: to derive a resource of a stored name: what is stored says whose it is.
"""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass
from typing import Literal

Collection = Literal["topics", "subscriptions", "snapshots", "schemas"]

DELETED_TOPIC = "_deleted-topic_"
"""In place of the topic of a subscription whose topic was deleted."""
STORED_NAME_MAX = 200
"""Kafka's names have at most 249 characters; a hash has room beside this."""
_ID = re.compile(r"[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}", re.ASCII)
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-_.:]{0,127}", re.ASCII)
_REFERENCE = "https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names"
_PLAIN = frozenset(string.ascii_letters + string.digits + "-._")


@dataclass(frozen=True, slots=True)
class ResourceName:
    """A topic, subscription, snapshot or schema: `projects/PROJECT/COLLECTION/ID`."""

    project: str
    collection: Collection
    id: str

    def __str__(self) -> str:
        return f"projects/{self.project}/{self.collection}/{self.id}"


def parse_name(text: str, collection: Collection) -> ResourceName:
    """Parse the full name of a resource. ValueError with Google's text: it is none."""
    parts = text.split("/", 4)
    if len(parts) == 4 and parts[0] == "projects" and parts[2] == collection:
        name = ResourceName(parts[1], collection, parts[3])
        if _PROJECT.fullmatch(name.project) and is_legal_id(name.id):
            return name
    raise ValueError(f"Invalid resource name given (name={text[:300]}). Refer to {_REFERENCE}.")


def is_legal_id(text: str) -> bool:
    """Whether a resource may have this id: 3 to 255 characters that begin with a letter, and not `goog`."""
    return _ID.fullmatch(text) is not None and not text.startswith("goog")


def parse_project(text: str) -> str:
    """The project of `projects/PROJECT`. ValueError with Google's text: it is none."""
    prefix, _, project = text.partition("/")
    if prefix == "projects" and _PROJECT.fullmatch(project):
        return project
    raise ValueError(f"Invalid project name given (name={text[:300]}). Refer to {_REFERENCE}.")


def stored_name(name: ResourceName, default_project: str, *, is_taken: bool = False) -> str:
    """The name of a topic or a subscription in the log: its id if it is of the default project, else
    `PROJECT.ID`; what a name cannot have there is `_xx`. At most 217 of `[A-Za-z0-9._-]`. `is_taken`: a name
    with a hash, for the first one is another's."""
    stored = _escaped(name.id)
    if name.project != default_project:
        stored = f"{_escaped(name.project)}.{stored}"
    if is_taken or len(stored) > STORED_NAME_MAX:
        digest = hashlib.sha256(str(name).encode()).hexdigest()[:16]
        stored = f"{stored[:STORED_NAME_MAX]}-{digest}"
    return stored


def _escaped(text: str) -> str:
    return "".join(char if char in _PLAIN else f"_{ord(char):02x}" for char in text)
