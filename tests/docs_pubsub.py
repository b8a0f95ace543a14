"""The tables of docs/PUBSUB.md that are made: see docs_blocks.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from mainstem.doors.pubsub.services import all_methods
from mainstem.pubsub.messages import SERVICES, methods

NOTES = {
    "CreateTopic": "settings that need Google's cloud are refused, see below",
    "UpdateTopic": "as above",
    "Publish": "10 MB and 1,000 messages at most; one ordering key a request",
    "CreateSubscription": "as for topics; `expiration_policy` is stored and shown, and nothing expires",
    "ModifyPushConfig": "see below",
    "StreamingPull": "limits of messages and bytes are the server's, too",
    "CreateSnapshot": "it goes with its subscription, and keeps no message from retention",
    "Seek": "to a time, or to a snapshot of the same subscription",
    "SetIamPolicy": "stored and shown, also for Terraform; it grants nothing",
    "TestIamPermissions": "by the rights of access control; all, if it is off",
    "CreateSchema": "a revision has at most 64 KB when it is deflated; Protocol Buffers without imports",
    "CommitSchema": "20 revisions at most, compatible with each other or not",
    "ListSchemaRevisions": "the latest first",
}
"""What there is to know of a method."""
PARTIAL = {
    "CreateTopic",
    "UpdateTopic",
    "CreateSubscription",
    "CreateSnapshot",
    "Seek",
    "SetIamPolicy",
    "CreateSchema",
    "CommitSchema",
}
"""Those of which a part is missing that Google's have."""


class _Anything:
    """In place of a door's context, of which methods use nothing before they are called."""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __getitem__(self, name: object) -> _Anything:
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self


def pubsub_methods() -> str:
    """Every method of the services of Pub/Sub's protocol."""
    present = all_methods(cast(Any, _Anything()))
    rows = []
    for path in sorted(methods(), key=lambda path: (SERVICES.index(path.split("/")[1]), path)):
        name = path.rpartition("/")[2]
        support = "none" if path not in present else "partial" if name in PARTIAL else "full"
        note = NOTES.get(name, "") if support != "none" else ""
        service = path.split("/")[1].rpartition(".")[2]
        rows.append(f"| {service} | {name} | {support} | {note} |")
    return "\n".join(["| service | method | support | notes |", "|---|---|---|---|", *rows])


def pubsub_traps() -> str:
    """What other servers get wrong, from the verdicts that test_traps.py checks."""
    lines = (Path(__file__).parent / "compat" / "pubsub" / "TRAPS").read_text().splitlines()
    rows = []
    for case, *verdicts in (line.split() for line in lines if line and not line.startswith("#")):
        number, _, text = case.partition("-") if case[0].isdigit() else ("", "", case)
        rows.append(f"| {number} | {text.replace('-', ' ')} | {' | '.join(verdicts)} |")
    return "\n".join(["| | case | emulator | pstest | mainstem |", "|---|---|---|---|---|", *rows])
