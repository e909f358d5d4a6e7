"""Attributes that merge instead of overwriting one another: maximum, minimum, union of sets, counter. Pure; opt-in by table.

A row with such attributes is joined with the row that stands in its place: what has no policy comes whole from the later write,
as everywhere; what has one is merged. The join is commutative, associative and idempotent, so both sides end with the same row
whatever the order. If the result is neither of the two rows it is a write of its own and gets a version of its own; and since the
join only ever grows, that ends after at most one exchange.

Two numbers travel in the envelope beside the attributes, under one reserved name: `base`, the version of the write that the plain
attributes come from, so that a merged row does not pass for a later write of them; and `life`, the version of the tombstone that
the row was written over. A later life wins whole: a deletion takes with it everything that was merged until then, also what a
writer who had not seen it added meanwhile.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from functions.features.envelope import Envelope, Value, decode, encode, peek
from functions.features.errors import PolicyError
from functions.features.tombstone import tombstone
from functions.settings import Site
from functions.stores.protocols import Row

# No attribute of a user begins so: the name has no printable form.
RESERVED = "\x00merge"
_BASE, _LIFE = "base", "life"


class Policy(StrEnum):
    """How an attribute merges."""

    MAX = "max"
    MIN = "min"
    UNION = "union"
    COUNTER = "counter"


Policies = Mapping[str, Policy]


@dataclass(frozen=True)
class Content:
    """A row's content as it merges. `plain` attributes belong to the write `base`, `merged` ones to nobody."""

    life: int
    base: int
    deleted: bool
    plain: Mapping[str, Value]
    merged: Mapping[str, Value]
    event_ms: int
    schema: int
    expires: int


def parse_policies(text: Mapping[str, object]) -> Policies:
    """Return the policies of a table's config, attribute to policy. Raises PolicyError that names every problem."""
    found: dict[str, Policy] = {}
    problems = []
    for name, value in text.items():
        if name == RESERVED or value not in set(Policy):
            problems.append(f"{name!r}: {value!r}")
        else:
            found[name] = Policy(str(value))
    if problems:
        raise PolicyError(f"policies {', '.join(problems)} can't be used, allowed: {', '.join(Policy)}")
    return found


def read_content(row: Row, policies: Policies) -> Content:
    """Return a row's content. Raises EnvelopeError, and PolicyError for a value that its policy can't merge."""
    envelope = decode(row.envelope)
    if envelope.deleted:
        return ended(envelope.event_ms or row.version)
    attributes = dict(envelope.attributes)
    life, base = _numbers(attributes.pop(RESERVED, None), row)
    merged = {name: attributes.pop(name) for name in policies if name in attributes}
    for name, value in merged.items():
        check(name, policies[name], value)
    return Content(life, base, False, attributes, merged, envelope.event_ms, envelope.schema, envelope.expires)


def ended(life: int) -> Content:
    """Return the content of a tombstone that ended a life."""
    return Content(life, life, True, {}, {}, 0, 0, 0)


def to_row(key: str, version: int, content: Content) -> Row:
    """Return a content as the row of a version. A tombstone that is written anew still ends the life that it ended first."""
    if not content.deleted:
        return Row(key, version, write_content(content))
    plain = tombstone(key, version)
    expires = peek(plain.envelope).expires
    return Row(key, version, encode(Envelope({}, True, 0 if content.life == version else content.life, 0, expires)))


def write_content(content: Content) -> bytes:
    """Return the envelope of a content that is no tombstone."""
    own: dict[str, Value] = {RESERVED: {_BASE: content.base, _LIFE: content.life}}
    attributes = {**content.plain, **content.merged, **own}
    return encode(Envelope(attributes, False, content.event_ms, content.schema, content.expires))


def join(one: Content, other: Content, policies: Policies) -> Content:
    """Return the content that holds both: commutative, associative, idempotent."""
    if one.life != other.life:
        return one if one.life > other.life else other
    if one.deleted or other.deleted:
        # Equal lives: a tombstone is older than what was written over it, which carries the tombstone's version as its life.
        return other if one.deleted else one
    later = max(one, other, key=_order)
    names = one.merged.keys() | other.merged.keys()
    merged = {name: _merge(name, policies, one.merged, other.merged) for name in sorted(names)}
    return Content(later.life, later.base, False, later.plain, merged, later.event_ms, later.schema, later.expires)


def check(name: str, policy: Policy, value: Value) -> None:
    """Raise PolicyError for a value that the attribute's policy can't merge."""
    right = {Policy.MAX: _orders, Policy.MIN: _orders, Policy.UNION: _is_set, Policy.COUNTER: _is_counter}[policy]
    if not right(value):
        raise PolicyError(f"attribute {name!r} has policy {policy} and can't hold a {type(value).__name__} like this")


def count(value: Value, amount: Decimal, site: Site) -> Value:
    """Return a counter after `site` counted `amount`, which may be negative; None begins one.

    Each site adds to its own two parts, what was added and what was taken away, both of which only grow.
    """
    parts = dict(value) if isinstance(value, Mapping) else {}
    part = parts.get(site.value, [Decimal(0), Decimal(0)])
    added, taken = _number(part, 0), _number(part, 1)
    parts[site.value] = [added + max(amount, Decimal(0)), taken - min(amount, Decimal(0))]
    return parts


def total(value: Value) -> Decimal:
    """Return what a counter stands at, nought for a value that is none. Raises PolicyError for a damaged part."""
    found = Decimal(0)
    for part in value.values() if isinstance(value, Mapping) else ():
        found += _number(part, 0) - _number(part, 1)
    return found


def _merge(name: str, policies: Policies, one: Mapping[str, Value], other: Mapping[str, Value]) -> Value:
    if name not in one or name not in other:
        return one[name] if name in one else other[name]
    return _MERGES[policies[name]](one[name], other[name])


def _larger(one: Value, other: Value) -> Value:
    return max(one, other, key=_rank)


def _smaller(one: Value, other: Value) -> Value:
    return min(one, other, key=_rank)


def _union(one: Value, other: Value) -> Value:
    assert isinstance(one, frozenset)
    assert isinstance(other, frozenset)
    # Members of one kind only can be stored: of two kinds the one that ranks higher stays, on both sides alike.
    kinds = {_kind(one), _kind(other)}
    if len(kinds) == 1:
        return one | other
    return max(one, other, key=_kind)


def _parts(one: Value, other: Value) -> Value:
    assert isinstance(one, Mapping)
    assert isinstance(other, Mapping)
    found: dict[str, Value] = {}
    for site in sorted(one.keys() | other.keys()):
        parts = [each[site] for each in (one, other) if site in each]
        found[site] = [max(_number(part, index) for part in parts) for index in range(2)]
    return found


_MERGES: Mapping[Policy, Callable[[Value, Value], Value]] = {
    Policy.MAX: _larger,
    Policy.MIN: _smaller,
    Policy.UNION: _union,
    Policy.COUNTER: _parts,
}


def _number(part: Value, index: int) -> Decimal:
    if isinstance(part, list | tuple) and len(part) == 2 and isinstance(number := part[index], Decimal):
        return number
    raise PolicyError("a counter's part does not hold its two numbers; delete the row")


def _rank(value: Value) -> tuple[str, Decimal, str]:
    """Order numbers among numbers and texts among texts, texts above numbers: an order of all that may stand there."""
    return ("text", Decimal(0), value) if isinstance(value, str) else ("number", Decimal(str(value)), "")


def _order(content: Content) -> tuple[int, bytes]:
    # Equal bases carry equal plain attributes, unless a writer bypassed the stamp; the bytes make even that converge.
    return content.base, encode(Envelope(content.plain, False, content.event_ms, content.schema, content.expires))


def _kind(members: frozenset[object]) -> str:
    member = next(iter(members))
    return "text" if isinstance(member, str) else "binary" if isinstance(member, bytes) else "number"


def _orders(value: Value) -> bool:
    return isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)


def _is_set(value: Value) -> bool:
    return isinstance(value, frozenset) and bool(value)


def _is_counter(value: Value) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(part, list | tuple) and len(part) == 2 and all(isinstance(number, Decimal) for number in part)
        for part in value.values()
    )


def _numbers(value: Value, row: Row) -> tuple[int, int]:
    """Return life and base; a row of a writer that knows no policies began with its own version."""
    if not isinstance(value, Mapping):
        return 0, row.version
    life, base = value.get(_LIFE), value.get(_BASE)
    if not isinstance(life, Decimal) or not isinstance(base, Decimal):
        raise PolicyError(f"row {row.key!r}: its reserved attribute holds no versions; delete the row")
    return int(life), int(base)
