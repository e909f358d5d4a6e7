"""Strategies that make feature rows: every kind of value an envelope can hold, and every DynamoDB type in wire form."""

import base64
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from functions.features.envelope import Envelope, Value, Vector

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
blobs = st.binary(max_size=40)
numbers = st.builds(
    lambda digits, places, negative: Decimal((negative, tuple(int(d) for d in str(digits)), places)),
    st.integers(0, 10**38 - 1),
    st.integers(-80, 60),
    st.booleans(),
)
vectors = st.lists(st.floats(width=32, allow_nan=True), max_size=9).map(Vector.of)
members = st.one_of(
    st.frozensets(texts, min_size=1, max_size=4),
    st.frozensets(blobs, min_size=1, max_size=4),
    st.frozensets(numbers, min_size=1, max_size=4),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.integers(-(10**30), 10**30), texts, blobs, vectors, members)
values: st.SearchStrategy[Value] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
envelopes = st.builds(
    Envelope,
    st.dictionaries(names, values, max_size=6),
    st.just(False),
    st.integers(-(2**62), 2**62),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**40),
)


def wire(value: Value) -> dict[str, Any]:
    """Return a value as a Lambda event carries it; vectors have no wire form."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    if isinstance(value, frozenset):
        kinds = {str: "SS", bytes: "BS"}
        kind = kinds.get(type(next(iter(value))), "NS")
        return {kind: [next(iter(wire(member).values())) for member in value]}
    if isinstance(value, dict):
        return {"M": {name: wire(inner) for name, inner in value.items()}}
    assert isinstance(value, list)
    return {"L": [wire(inner) for inner in value]}
