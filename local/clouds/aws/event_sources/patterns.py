"""Lambda's event filtering: which records a mapping passes on.

The pattern language is EventBridge's (docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html): a pattern is
a tree whose leaves are lists of alternatives. An operator that is not carried out here is refused when the mapping is
made: a filter that silently passes everything, or nothing, would hide a loss.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.clouds.errors import UnsupportedError

ABSENT = object()
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}
OPERATORS = ("exists", "prefix", "suffix", "equals-ignore-case", "anything-but", "numeric")


@dataclass(frozen=True)
class EventFilter:
    """Patterns of one mapping; a record passes when any of them matches, or when there are none."""

    patterns: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, criteria: Mapping[str, Any] | None) -> "EventFilter":
        """Read a mapping's filterCriteria. Raises UnsupportedError for what is no pattern or not carried out."""
        patterns = []
        for entry in (criteria or {}).get("filters") or []:
            try:
                pattern = json.loads(entry["pattern"])
            except (KeyError, TypeError, ValueError) as error:
                raise UnsupportedError(f"filter {entry!r} holds no JSON pattern: {error}") from error
            _check(pattern, "")
            patterns.append(pattern)
        return cls(tuple(patterns))

    def passes(self, record: Mapping[str, Any]) -> bool:
        """Say whether a record reaches the function."""
        return not self.patterns or any(_matches(pattern, record) for pattern in self.patterns)


def _check(pattern: Any, path: str) -> None:
    if not isinstance(pattern, Mapping) or not pattern:
        raise UnsupportedError(f"filter pattern at {path or 'its root'} must be an object, is {pattern!r}")
    for key, wanted in pattern.items():
        place = f"{path}.{key}" if path else key
        if key == "$or":
            for branch in wanted if isinstance(wanted, list) else [wanted]:
                _check(branch, place)
        elif isinstance(wanted, list):
            for alternative in wanted:
                _check_alternative(alternative, place)
        else:
            _check(wanted, place)


def _check_alternative(alternative: Any, place: str) -> None:
    if not isinstance(alternative, Mapping):
        if isinstance(alternative, list):
            raise UnsupportedError(f"filter pattern at {place}: a list inside a list is no alternative")
        return
    if len(alternative) != 1 or next(iter(alternative)) not in OPERATORS:
        raise UnsupportedError(f"filter pattern at {place}: {alternative!r}; use one of {', '.join(OPERATORS)}")
    operator, operand = next(iter(alternative.items()))
    if operator == "numeric":
        pairs = isinstance(operand, list) and bool(operand) and len(operand) % 2 == 0
        if not pairs or any(name not in COMPARISONS for name in operand[::2]):
            raise UnsupportedError(
                f"filter pattern at {place}: numeric takes [comparison, number, ...], got {operand!r}"
            )


def _matches(pattern: Mapping[str, Any], value: Any) -> bool:
    return all(_matches_key(key, wanted, value) for key, wanted in pattern.items())


def _matches_key(key: str, wanted: Any, value: Any) -> bool:
    if key == "$or":
        return any(_matches(branch, value) for branch in wanted)
    found = value.get(key, ABSENT) if isinstance(value, Mapping) else ABSENT
    if isinstance(wanted, Mapping):
        return _matches_nested(wanted, found)
    return _matches_any(wanted, found)


def _matches_nested(wanted: Mapping[str, Any], found: Any) -> bool:
    if isinstance(found, list):
        return any(_matches(wanted, item) for item in found)
    # A missing branch can still satisfy "exists": false further down.
    return _matches(wanted, {} if found is ABSENT else found)


def _matches_any(alternatives: Sequence[Any], found: Any) -> bool:
    candidates = found if isinstance(found, list) else [found]
    return any(_alternative(alternative, candidate) for alternative in alternatives for candidate in candidates)


def _alternative(alternative: Any, found: Any) -> bool:
    if not isinstance(alternative, Mapping):
        return found is not ABSENT and _equal(alternative, found)
    operator, operand = next(iter(alternative.items()))
    if operator == "exists":
        # Only leaves exist: an object is a branch of the tree.
        return (found is not ABSENT and not isinstance(found, Mapping)) is bool(operand)
    if found is ABSENT:
        return False
    if operator == "anything-but":
        return _anything_but(operand, found)
    if operator == "numeric":
        return _numeric(operand, found)
    return isinstance(found, str) and _text(operator, operand, found)


def _equal(wanted: Any, found: Any) -> bool:
    # JSON's true is not 1, Python's is.
    return (type(wanted) is type(found) and bool(wanted == found)) or (
        _is_number(wanted) and _is_number(found) and bool(wanted == found)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _anything_but(operand: Any, found: Any) -> bool:
    if isinstance(operand, Mapping):
        operator, inner = next(iter(operand.items()))
        choices = inner if isinstance(inner, list) else [inner]
        return not (isinstance(found, str) and any(_text(operator, choice, found) for choice in choices))
    choices = operand if isinstance(operand, list) else [operand]
    return not any(_equal(choice, found) for choice in choices)


def _numeric(operand: Sequence[Any], found: Any) -> bool:
    # DynamoDB's numbers are text in a stream record, and Lambda does not compare text as numbers.
    if not _is_number(found):
        return False
    return all(COMPARISONS[name](found, bound) for name, bound in zip(operand[::2], operand[1::2], strict=True))


def _text(operator: str, operand: str, found: str) -> bool:
    if operator == "prefix":
        return found.startswith(operand)
    if operator == "suffix":
        return found.endswith(operand)
    return operator == "equals-ignore-case" and found.lower() == operand.lower()
