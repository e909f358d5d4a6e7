"""The envelope: round trips of every type, one spelling for equal data, and nothing believed that comes from outside."""

import struct
from decimal import Decimal

import pytest
from feature_examples import envelopes, names, numbers, scalars, wire
from hypothesis import given
from hypothesis import strategies as st

from functions.features.envelope import Envelope, Vector, decode, encode, peek
from functions.features.errors import EnvelopeError
from functions.features.items import content, from_base64
from functions.features.layout import HEADER, MOST_BYTES, varint
from functions.features.number import canonical


def same(one: object, other: object) -> bool:
    """Compare values as stored: numbers by value, sequences and maps by content."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(envelopes)
def test_everything_comes_back_as_it_went_in(envelope: Envelope) -> None:
    data = encode(envelope)
    back = decode(data)
    assert same(dict(back.attributes), dict(envelope.attributes))
    assert (back.deleted, back.event_ms, back.schema, back.expires) == (
        envelope.deleted,
        envelope.event_ms,
        envelope.schema,
        envelope.expires,
    )
    assert peek(data).expires == envelope.expires
    assert encode(back) == data


@given(st.dictionaries(names, scalars, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_equal_data_have_equal_bytes_whatever_the_order(attributes, random) -> None:  # type: ignore[no-untyped-def]
    items = list(attributes.items())
    random.shuffle(items)
    assert encode(Envelope(dict(items))) == encode(Envelope(attributes))


@pytest.mark.parametrize(
    ("spelled", "one"),
    [
        ("1.0", "1"),
        ("+5", "5"),
        ("-0", "0"),
        ("0.0", "0"),
        ("00012", "12"),
        ("1E3", "1000"),
        ("1.500", "1.5"),
        (".5", "0.5"),
        ("-12.340e-2", "-0.1234"),
        ("9.9E125", "99" + "0" * 124),
        ("1E-130", "0." + "0" * 129 + "1"),
    ],
)
def test_a_number_has_one_spelling(spelled: str, one: str) -> None:
    assert canonical(spelled) == one


@given(numbers)
def test_spelling_keeps_the_value_and_all_its_digits(number: Decimal) -> None:
    once = canonical(str(number))
    assert Decimal(once) == number
    assert canonical(once) == once


@pytest.mark.parametrize(
    "text", ["", "-", "x", "NaN", "Infinity", "1_000", " 1", "1" * 39, "1E126", "1E-131", "\u0661", "1E999999999"]
)
def test_what_is_no_number_of_dynamodb_is_refused(text: str) -> None:
    with pytest.raises(EnvelopeError):
        canonical(text)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        found = decode(data)
    except EnvelopeError:
        return
    assert encode(found) == data


@given(envelopes, st.data())
def test_changed_bytes_are_refused_or_canonical(envelope: Envelope, data) -> None:  # type: ignore[no-untyped-def]
    raw = bytearray(encode(envelope))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(bytes(raw))
    except EnvelopeError:
        return
    assert encode(found) == bytes(raw)


@pytest.mark.parametrize(
    "body",
    [
        varint(1) + varint(2**27) + b"a",
        varint(2**20),
        varint(1) + b"\x01a" + b"\x0b\x00" + varint(2) + varint(2**18) + varint(2**18),
        varint(1) + b"\x01a" + b"\x09\x01" * 200,
        varint(1) + b"\x01a\x0c",
        varint(1) + b"\x01a\x06\x00",
        varint(1) + b"\x01a\x03\x031.0",
        varint(1) + b"\x81\x00a\x00",
        varint(2) + b"\x01b\x00\x01a\x00",
        varint(2) + b"\x01a\x00\x01a\x00",
        varint(1) + b"\x01\xff\x00",
        varint(0) + b"more",
        b"\xff" * 12,
    ],
    ids=[
        "lying text length",
        "lying count",
        "huge vector",
        "deep nesting",
        "unknown tag",
        "empty set",
        "second spelling",
        "long varint",
        "unsorted",
        "twice",
        "no UTF-8",
        "trailing",
        "endless varint",
    ],
)
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode(HEADER.pack(1, 0, 0, 0, 0) + body)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        frozenset(),
        frozenset({1, "a"}),
        object(),
        "\ud800",
        {"a": "\udfff"},
        b"x" * MOST_BYTES,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_no_store_takes_are_refused(value: object) -> None:
    with pytest.raises(EnvelopeError):
        encode(Envelope({"a": value}))  # type: ignore[dict-item]


def test_a_tombstone_carries_nothing() -> None:
    with pytest.raises(EnvelopeError):
        encode(Envelope({"a": 1}, deleted=True))
    assert decode(encode(Envelope(deleted=True, expires=5))) == Envelope(deleted=True, expires=5)


def test_a_vector_is_packed_and_keeps_its_shape() -> None:
    vector = Vector((2, 2), struct.pack("<4f", 1.5, -0.0, 3.25, 1e-40))
    assert decode(encode(Envelope({"v": vector}))).attributes["v"] == vector
    with pytest.raises(EnvelopeError):
        Vector((3,), b"\x00" * 8)


def without_vectors(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(without_vectors, value.values()))
    return all(map(without_vectors, value)) if isinstance(value, list) else not isinstance(value, Vector)


@given(
    st.dictionaries(
        names.filter(lambda name: name not in ("entity", "v", "e", "expires")),
        scalars.filter(without_vectors),
        max_size=6,
    )
)
def test_a_plain_item_gives_the_same_bytes_as_the_library(attributes) -> None:  # type: ignore[no-untyped-def]
    item = {"entity": {"S": "k"}} | {name: wire(value) for name, value in attributes.items()}
    assert content(item, from_base64).envelope == encode(Envelope(attributes))


def test_attributes_of_an_unaware_writer_lie_over_the_envelope() -> None:
    sealed = encode(Envelope({"a": 1, "b": "old"}, event_ms=7, schema=3))
    found = content(
        {"entity": {"S": "k"}, "v": {"N": "400"}, "e": wire(sealed), "b": {"S": "new"}, "expires": {"N": "99"}},
        from_base64,
    )
    assert found.version == 400
    assert decode(found.envelope) == Envelope({"a": Decimal(1), "b": "new"}, False, 7, 3, 99)


def test_an_envelope_alone_is_passed_on_byte_for_byte() -> None:
    sealed = encode(Envelope({"a": 1}, expires=99))
    item = {"entity": {"S": "k"}, "v": {"N": "400"}, "e": wire(sealed), "expires": {"N": "99"}}
    assert content(item, from_base64).envelope == sealed


@pytest.mark.parametrize(
    "item",
    [
        {"v": {"N": "1.5"}},
        {"v": {"N": "-4"}},
        {"v": {"S": "4"}},
        {"v": {"N": "9" * 19}},
        {"e": {"S": "text"}},
        {"e": {"B": "!!!"}},
        {"e": {"B": "AAAA"}},
        {"a": {"X": "?"}},
        {"a": {}},
        {"a": {"N": "1", "S": "1"}},
        {"a": {"N": 1}},
        {"a": {"L": {"S": "x"}}},
        {"a": {"SS": []}},
    ],
)
def test_an_item_that_can_not_be_is_refused(item: dict[str, dict[str, object]]) -> None:
    with pytest.raises(EnvelopeError):
        content(item, from_base64)
