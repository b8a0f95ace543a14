"""What a consumer answers about a range of positions.

Owns: the shape of an answer, for everyone from the state machine to the doors. Refuses: rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

RangeVerb: TypeAlias = Literal["ack", "release", "reject", "renew"]
"""Ack: processed, or there is no event. Release: to be delivered again, a failure. Reject: to be given up.
Renew: the lock ends later."""


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What a consumer answers about the positions from `first` up to, but not including, `end`."""

    first: int
    end: int
    verb: RangeVerb
