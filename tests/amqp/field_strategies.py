"""Random field tables and properties, for the tests of codecs and of the model."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from mainstem.amqp.field_values import (
    FieldTable,
    FieldValue,
    Float32,
    Int8,
    Int16,
    Int64,
    LongBytes,
    Timestamp,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
)
from mainstem.amqp.properties import Properties

U64 = st.integers(0, (1 << 64) - 1)
SHORT = st.text(max_size=40).filter(lambda text: len(text.encode()) <= 255)
SCALARS: st.SearchStrategy[FieldValue] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=60),
    st.binary(max_size=60),
    st.builds(Int8, st.integers(-128, 127)),
    st.builds(UInt8, st.integers(0, 255)),
    st.builds(Int16, st.integers(-(1 << 15), (1 << 15) - 1)),
    st.builds(UInt16, st.integers(0, (1 << 16) - 1)),
    st.builds(UInt32, st.integers(0, (1 << 32) - 1)),
    st.builds(Int64, st.integers(-(1 << 31), (1 << 31) - 1)),
    st.builds(UInt64, U64),
    st.builds(Timestamp, U64),
    st.builds(Float32, st.floats(allow_nan=False, width=32)),
    st.builds(lambda text: LongBytes(b"\xff" + text), st.binary(max_size=20)),
    st.builds(
        lambda number, scale: Decimal(number).scaleb(-scale),
        st.integers(-(1 << 31), (1 << 31) - 1),
        st.integers(0, 20),
    ),
)
VALUES: st.SearchStrategy[FieldValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SHORT, inner, max_size=4),
    max_leaves=12,
)
TABLES: st.SearchStrategy[FieldTable] = st.dictionaries(SHORT, VALUES, max_size=6)


def optional(values: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    """A value, or none."""
    return st.none() | values


OCTET = st.none() | st.integers(0, 255)
PROPERTIES = st.builds(
    Properties,
    content_type=optional(SHORT),
    content_encoding=optional(SHORT),
    headers=st.none() | TABLES,
    delivery_mode=OCTET,
    priority=OCTET,
    correlation_id=optional(SHORT),
    reply_to=optional(SHORT),
    expiration=optional(SHORT),
    message_id=optional(SHORT),
    timestamp=st.none() | U64,
    type=optional(SHORT),
    user_id=optional(SHORT),
    app_id=optional(SHORT),
    cluster_id=optional(SHORT),
)
