"""RabbitMQ's permissions of a user in a virtual host, as entries of access control, and back.

Owns: which regular expressions can be entries: `.*`, a name, the beginning of names, and several of them with
`|`. Refuses: all others, with ValueError: an entry names a resource or how names begin, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mainstem.access_contract import (
    ANY_HOST,
    ANY_NAME,
    USER,
    Acl,
    Operation,
    PatternType,
    Permission,
    Principal,
    ResourceType,
)

CONFIGURE = (Operation.CREATE, Operation.DELETE, Operation.ALTER)
KINDS = (ResourceType.SUBSCRIPTION, ResourceType.EXCHANGE)
ALTERNATIVES_MAX = 100
_LITERAL = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[^A-Za-z0-9])*")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPermissions:
    """RabbitMQ's three regular expressions; an empty one allows nothing."""

    configure: str
    write: str
    read: str


def entries_of(user: str, vhost_prefix: str, permissions: UserPermissions) -> list[Acl]:
    """The entries that these permissions are. `vhost_prefix`: how the names of the virtual host's resources
    begin, `%2F/`. ValueError: a regular expression that cannot be entries."""
    # To know of the virtual host, which every permission in it allows.
    entries = [_entry(user, ResourceType.SUBSCRIPTION, vhost_prefix, PatternType.LITERAL, Operation.DESCRIBE)]
    for regex, operations in (
        (permissions.configure, CONFIGURE),
        (permissions.write, (Operation.WRITE,)),
        (permissions.read, (Operation.READ,)),
    ):
        for pattern, name in patterns_of(regex):
            entries += [
                _entry(user, kind, vhost_prefix + name, pattern, operation)
                for kind in KINDS
                for operation in operations
            ]
    return entries


def _entry(user: str, kind: ResourceType, name: str, pattern: PatternType, operation: Operation) -> Acl:
    return Acl(kind, name, pattern, Principal(USER, user), ANY_HOST, operation, Permission.ALLOW)


def patterns_of(regex: str) -> list[tuple[PatternType, str]]:
    """The names that a regular expression matches. ValueError: it matches others than an entry can."""
    if regex in ("", "^$"):
        return []
    inner = regex
    if regex.startswith("^(") and regex.endswith((")$", ")")):
        end = "$" if regex.endswith("$") else ""
        inner = "|".join(f"^{part}{end}" for part in regex[2 : -1 - len(end)].split("|"))
    parts = inner.split("|")
    if len(parts) > ALTERNATIVES_MAX:
        raise ValueError(f"{regex[:40]!r} has more than {ALTERNATIVES_MAX} alternatives")
    return [_pattern_of(part, regex) for part in parts]


def _pattern_of(part: str, regex: str) -> tuple[PatternType, str]:
    if part.removeprefix("^").removesuffix("$") in (".*", ""):
        return PatternType.PREFIXED, ""
    is_exact = part.endswith("$") and not part.endswith("\\$")
    text = part.removesuffix("$") if is_exact else part
    if text.endswith(".*"):
        text, is_exact = text[:-2], False
    if not text.startswith("^") or _LITERAL.fullmatch(text[1:]) is None:
        raise ValueError(
            f"{regex[:200]!r} cannot be access control entries: they have a name (^orders$), how names begin"
            " (^orders.*), all names (.*), and several of these with |"
        )
    return PatternType.LITERAL if is_exact else PatternType.PREFIXED, re.sub(r"\\(.)", r"\1", text[1:])


def permissions_of(entries: Iterable[Acl], vhost_prefix: str) -> UserPermissions | None:
    """The permissions that entries of a user allow in a virtual host; None: none of them is about it."""
    regexes: dict[Operation, list[str]] = {
        Operation.CREATE: [],
        Operation.WRITE: [],
        Operation.READ: [],
    }
    is_any = False
    for entry in entries:
        name = name_in(entry, vhost_prefix)
        if name is None or entry.resource_type is not ResourceType.SUBSCRIPTION:
            continue
        is_any = True
        for operation, known in regexes.items():
            if entry.operation in (operation, Operation.ALL):
                known.append(_regex(entry.pattern, name))
    if not is_any:
        return None
    return UserPermissions(
        configure=_joined(regexes[Operation.CREATE]),
        write=_joined(regexes[Operation.WRITE]),
        read=_joined(regexes[Operation.READ]),
    )


def name_in(entry: Acl, vhost_prefix: str) -> str | None:
    """The name within the virtual host that an entry which allows something is about, or how names begin;
    None: it is about something else."""
    if entry.permission is not Permission.ALLOW or entry.resource_type not in KINDS:
        return None
    if entry.name == ANY_NAME and entry.pattern is PatternType.LITERAL:
        return ""
    if entry.name.startswith(vhost_prefix):
        return entry.name[len(vhost_prefix) :]
    is_wider = entry.pattern is PatternType.PREFIXED and vhost_prefix.startswith(entry.name)
    return "" if is_wider else None


def own_entries(entries: Iterable[Acl], vhost_prefix: str) -> list[Acl]:
    """The entries that are about this virtual host alone."""
    return [
        entry for entry in entries if entry.resource_type in KINDS and entry.name.startswith(vhost_prefix)
    ]


def _regex(pattern: PatternType, name: str) -> str:
    if not name:
        return ".*"
    return f"^{re.escape(name)}$" if pattern is PatternType.LITERAL else f"^{re.escape(name)}.*"


def _joined(regexes: Sequence[str]) -> str:
    if ".*" in regexes:
        return ".*"
    return "|".join(sorted(set(regexes)))
