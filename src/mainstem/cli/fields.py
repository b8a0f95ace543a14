"""A few fields of a JSON line, without decoding the rest of it. Used by `produce`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

Tree = dict[str, "Tree"]


class FieldExtractor:
    """`Fields(["a.b", "c"]).of(line)` gives the values of these paths."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [path.split(".") for path in paths]
        tree: Tree = {}
        for path in self._paths:
            at = tree
            for name in path:
                at = at.setdefault(name, {})
        # msgspec skips, in C, every field that the type does not name: 6 times as fast as decoding the line.
        self._decoder = msgspec.json.Decoder(_struct(tree))

    def extract(self, line: bytes) -> list[Any]:
        """The values, in the order of the paths. ValueError for no JSON object, or one without the field."""
        try:
            root = self._decoder.decode(line)
        except msgspec.ValidationError as error:
            raise ValueError(str(error).replace("`", "")) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"not JSON: {error}") from None
        found = []
        for path in self._paths:
            value = root
            for name in path:
                value = getattr(value, "_" + name, msgspec.UNSET)
            if value is msgspec.UNSET:
                raise ValueError(f"there is no field {'.'.join(path)}")
            found.append(value)
        return found


def _struct(tree: Tree) -> Any:
    """A struct with the fields of the tree. Attribute names begin with _, so that a field may be called
    anything."""
    fields: list[tuple[str, Any, Any]] = []
    for name, below in tree.items():
        fields.append(("_" + name, _struct(below) | msgspec.UnsetType if below else Any, msgspec.UNSET))
    return msgspec.defstruct("Line", fields, rename={"_" + name: name for name in tree}, gc=False)


def key_bytes(value: object) -> bytes | None:
    """A key of a JSON value: text as UTF-8, numbers and booleans as JSON writes them, null as no key."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (int, float)):  # bool is an int
        return msgspec.json.encode(value)
    raise ValueError("an object or an array cannot be the key")
