"""The form of a behaviour: how a type names itself, what its id and outputs are, which changes replace it.

Ids and outputs are written as templates over the inputs, so that one entry can be read at a glance and a preview can
tell what is already known: a template over known inputs gives a known value, one over an unknown input an unknown one.

Template syntax, inside braces:
  {name}            an input, or an output that stands earlier in the table; dots go into objects and lists
  {location,@region}  the first of these that is there
  {@region}         a fact of the account: @region, @zone, @account, @project, @number
  {@token}          a random-looking text that is this resource's alone; unknown until the resource is created
  {@id}             the resource's id
  {location,=global}  as above, with a constant for the last resort
  {topic|last}      filters: last (after the last slash), tail (after the first), lower; and those that hash the text to a
                    fixed form: hex8, digits10, letters10, upper17, uuid, address
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.providers.wire import UNKNOWN, Properties, Unknown, contains_unknown

_PLACEHOLDER = re.compile(r"\{([^{}|]+)(?:\|([a-z]+)(\d*))?\}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class UnknownValueError(Exception):
    """A template uses a value that is not known yet."""


class AbsentValueError(Exception):
    """A template uses a value that nobody gave."""


@dataclass(frozen=True)
class Account:
    """Facts of the account that a provider instance works in, from its configuration."""

    region: str = ""
    zone: str = ""
    account: str = ""
    project: str = ""
    number: str = ""
    default_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AutoName:
    """How a name is made when the program gives none: the logical name, a dash, seven hexadecimal digits.

    The length and the rule are those of the real provider's Check (Pulumi docs, "Autonaming").
    """

    property: str = "name"
    maximum: int = 255
    prefix: str = ""
    lowercase: bool = False


@dataclass(frozen=True)
class Scope:
    """What a template or an output function can see."""

    inputs: Properties
    account: Account
    token: str | None = None
    id: str | None = None
    outputs: Properties = field(default_factory=dict)
    old_inputs: Properties = field(default_factory=dict)
    old_outputs: Properties = field(default_factory=dict)

    def get(self, path: str) -> Any:
        """Return a value by path. Raises UnknownValueError, or AbsentValueError when there is none."""
        if path == "@token":
            return _known(self.token)
        if path == "@id":
            return _known(self.id)
        if path.startswith("="):
            return path[1:]
        if path.startswith("@"):
            value = getattr(self.account, path[1:])
            if not value:
                raise AbsentValueError(path)
            return value
        head, _, rest = path.partition(".")
        value = self.inputs.get(head, self.outputs.get(head))
        for part in rest.split(".") if rest else []:
            if isinstance(value, list):
                value = value[int(part)] if int(part) < len(value) else None
            elif isinstance(value, dict):
                value = value.get(part)
        if value is None:
            raise AbsentValueError(path)
        if contains_unknown(value):
            raise UnknownValueError(path)
        return value

    def render(self, template: str) -> str:
        """Fill a template in. Raises UnknownValueError or AbsentValueError when a value is not there."""

        def replace(match: re.Match[str]) -> str:
            alternatives, filter_name, size = match.groups()
            return _filter(str(self._first(alternatives)), filter_name, size)

        return _PLACEHOLDER.sub(replace, template)

    def _first(self, alternatives: str) -> Any:
        paths = alternatives.split(",")
        for path in paths[:-1]:
            try:
                return self.get(path)
            except AbsentValueError:
                continue
        return self.get(paths[-1])


OutputRule = str | Callable[[Scope], Any]


@dataclass(frozen=True)
class Behaviour:
    """What one resource type does."""

    token: str
    id: str
    outputs: Mapping[str, OutputRule]
    replace: frozenset[str]
    auto_name: AutoName | None

    @property
    def opaque(self) -> bool:
        """Tell whether the cloud makes the id up, instead of taking it from a name."""
        return "{@token" in self.id

    def identify(self, scope: Scope) -> str | Unknown:
        """Return the id, or UNKNOWN while a part of it is not known."""
        try:
            return scope.render(self.id)
        except UnknownValueError:
            return UNKNOWN

    def compute(self, scope: Scope) -> Properties:
        """Return all outputs: the inputs as given, and what the table computes.

        An output whose template needs an absent input is left out. On an update, what the cloud made up at creation
        stays as it was.
        """
        outputs: Properties = dict(scope.inputs)
        current = Scope(
            scope.inputs, scope.account, scope.token, scope.id, outputs, scope.old_inputs, scope.old_outputs
        )
        for name, rule in self.outputs.items():
            value = _evaluate(name, rule, current)
            if value is not None:
                _place(outputs, name, value)
        return outputs


def behaviour(
    token: str,
    id: str,
    *,
    replace: str = "",
    outputs: Mapping[str, OutputRule] | None = None,
    name: AutoName | None = None,
) -> Behaviour:
    """Return a behaviour; `replace` lists properties separated by spaces."""
    return Behaviour(token, id, dict(outputs or {}), frozenset(replace.split()), name)


def hashed(text: str) -> str:
    """Return 64 hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def counter(path: str) -> Callable[[Scope], Any]:
    """Return a rule for a revision number: 1 at creation, one more whenever the inputs change."""

    def rule(scope: Scope) -> Any:
        old = scope.old_outputs.get(path)
        if old is None:
            return 1
        if isinstance(old, Unknown):
            return UNKNOWN
        return int(old) + (scope.inputs != scope.old_inputs)

    return rule


def merged_tags(path: str) -> Callable[[Scope], Any]:
    """Return a rule for tags (or labels) together with the defaults of the provider."""

    def rule(scope: Scope) -> Any:
        own = scope.inputs.get(path) or {}
        if isinstance(own, Unknown):
            return UNKNOWN
        return {**scope.account.default_tags, **own}

    return rule


def _known(value: str | None) -> str:
    if value is None:
        raise UnknownValueError
    return value


def _evaluate(name: str, rule: OutputRule, scope: Scope) -> Any:
    if isinstance(rule, str) and "{@token" in rule:
        kept = scope.old_outputs.get(name.partition(".")[0])
        if kept is not None and "." not in name:
            return kept
    try:
        return scope.render(rule) if isinstance(rule, str) else rule(scope)
    except UnknownValueError:
        return UNKNOWN
    except AbsentValueError:
        return None


def _place(outputs: Properties, path: str, value: Any) -> None:
    head, _, rest = path.partition(".")
    if not rest:
        outputs[head] = value
        return
    inner = outputs.get(head)
    if isinstance(inner, Unknown):
        return
    outputs[head] = dict(inner) if isinstance(inner, dict) else {}
    _place(outputs[head], rest, value)


def _filter(value: str, name: str | None, size: str) -> str:
    return value if name is None else _FILTERS[name](value, int(size or 0))


def _letters(digest: str, size: int) -> str:
    return "".join(_ALPHABET[int(digest[2 * place : 2 * place + 2], 16) % len(_ALPHABET)] for place in range(size))


def _digits(digest: str, size: int) -> str:
    # The first digit is never zero, as in the numbers that clouds hand out.
    lowest = 10 ** (size - 1)
    return str(int(digest, 16) % (9 * lowest) + lowest)


def _uuid(digest: str) -> str:
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def _address(digest: str) -> str:
    # 198.18.0.0/15 is set aside for tests (RFC 2544): never the address of somebody's machine.
    octets = [int(digest[place : place + 2], 16) for place in (0, 2, 4)]
    return f"198.{18 + octets[0] % 2}.{octets[1]}.{octets[2]}"


_FILTERS: dict[str, Callable[[str, int], str]] = {
    "last": lambda value, _: value.rstrip("/").rpartition("/")[2],
    "tail": lambda value, _: value.partition("/")[2],
    "lower": lambda value, _: value.lower(),
    "hex": lambda value, size: hashed(value)[:size],
    "digits": lambda value, size: _digits(hashed(value), size),
    "letters": lambda value, size: _letters(hashed(value), size),
    "upper": lambda value, size: _letters(hashed(value), size).upper(),
    "uuid": lambda value, _: _uuid(hashed(value)),
    "address": lambda value, _: _address(hashed(value)),
}
