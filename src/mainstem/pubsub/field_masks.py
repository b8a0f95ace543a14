"""Field masks: which fields of a resource an Update call sets.

Owns: paths of fields, nested ones with dots. Refuses: paths that the message does not have, and those that
may not be changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any


def merge_masked(
    target: Any, source: Any, paths: Iterable[str], *, changeable: Collection[str], request: str
) -> None:
    """Set the fields of these paths in `target` to their values in `source`; those that `source` does not
    have are cleared. `changeable`: the names of the outer fields that may be in a path. `request`: the name
    of the request, for the text of the error.

    ValueError with Google's text: there is no path, a path is unknown, or may not be changed."""
    paths = list(paths)
    if not paths:
        raise ValueError(
            f"The update_mask in the {request} must be set, and must contain a non-empty paths list."
        )
    for path in paths:
        if not _is_path(target.DESCRIPTOR, path.split(".")):
            raise ValueError(
                f"Invalid update_mask provided in the {request}: '{path[:200]}' is not a known"
                f" {target.DESCRIPTOR.name} field. Note that field paths must be of the form 'push_config'"
                " rather than 'pushConfig'."
            )
        outer = path.partition(".")[0]
        if outer not in changeable:
            raise ValueError(
                f"Invalid update_mask provided in the {request}: the '{outer}' field in the"
                f" {target.DESCRIPTOR.name} is not mutable."
            )
    for path in paths:
        _merge(target, source, path.split("."))


def _is_path(descriptor: Any, parts: list[str]) -> bool:
    for number, part in enumerate(parts):
        field = descriptor.fields_by_name.get(part)
        if field is None:
            return False
        descriptor = field.message_type
        is_last = number == len(parts) - 1
        if not is_last and (descriptor is None or field.is_repeated):
            return False
    return True


def _merge(target: Any, source: Any, parts: list[str]) -> None:
    for part in parts[:-1]:
        if not source.HasField(part):
            if not target.HasField(part):
                return
            source = getattr(target, part).__class__()  # clears what the path leads to
        else:
            source = getattr(source, part)
        target = getattr(target, part)
    field = target.DESCRIPTOR.fields_by_name[parts[-1]]
    value = getattr(source, field.name)
    target.ClearField(field.name)
    if field.is_repeated:
        getattr(target, field.name).MergeFrom(value)
    elif field.message_type is not None:
        if source.HasField(field.name):
            getattr(target, field.name).CopyFrom(value)
    else:
        if not field.has_presence or source.HasField(field.name):
            setattr(target, field.name, value)
