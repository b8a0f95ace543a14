"""Extracts a few fields of a JSON line without decoding the rest of the line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mainstem.search.text.payload import NOT_JSON

FieldTree = dict[str, "FieldTree"]


class FieldExtractor:
    """`FieldExtractor(["a.b", "c"]).extract(line)` returns the JSON of these paths, as it is in the line."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [path.split(".") for path in paths]
        tree: FieldTree = {}
        for path in self._paths:
            subtree = tree
            for name in path:
                subtree = subtree.setdefault(name, {})
        # msgspec skips, in C, fields that the type does not declare: 6 times as fast as decoding the line.
        self._decoder = msgspec.json.Decoder(_struct_of(tree))

    def extract(self, line: bytes) -> list[msgspec.Raw]:
        """The values, in the order of the paths. Raises ValueError if the line is not a JSON object with all
        these fields."""
        try:
            root = self._decoder.decode(line)
        except msgspec.ValidationError as error:
            raise ValueError(str(error).replace("`", "")) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not JSON: {error}") from None
        except RecursionError:
            raise ValueError("nested too deeply to be read") from None
        values = []
        for path in self._paths:
            value = root
            for name in path:
                value = getattr(value, "_" + name, msgspec.UNSET)
            if value is msgspec.UNSET:
                raise ValueError(f"there is no field {'.'.join(path)}")
            if not isinstance(value, msgspec.Raw):  # another path leads into it
                raise ValueError(f"{'.'.join(path)} is an object")
            values.append(value)
        return values


def _struct_of(tree: FieldTree) -> Any:
    """A struct with the fields of the tree. Its attributes begin with _, so that a field may have any
    name."""
    fields: list[tuple[str, Any, Any]] = []
    for name, subtree in tree.items():
        field_type = (_struct_of(subtree) if subtree else msgspec.Raw) | msgspec.UnsetType
        fields.append(("_" + name, field_type, msgspec.UNSET))
    return msgspec.defstruct("Line", fields, rename={"_" + name: name for name in tree}, gc=False)


def key_bytes(value: msgspec.Raw) -> bytes | None:
    """The key for a JSON value: text as UTF-8; numbers, true and false as they are spelled, so that 1.10 is
    not 1.1; null as no key. Raises ValueError for an object or an array."""
    spelled = bytes(value)
    if spelled == b"null":
        return None
    if spelled.startswith(b'"'):
        text: str = decoded(value, str)
        return text.encode()
    if spelled.startswith((b"{", b"[")):
        raise ValueError("an object or an array cannot be the key")
    return spelled


def decoded(value: msgspec.Raw, kind: Any = Any) -> Any:
    """The value of JSON. Raises ValueError if it is broken: what `extract` skips is not checked."""
    try:
        return msgspec.json.decode(value, type=kind)
    except NOT_JSON as error:
        raise ValueError(f"not JSON: {error}") from None
