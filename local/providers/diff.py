"""Which inputs changed, and whether the change can be made in place."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from local.providers.behaviours.table import Account, Behaviour, Scope
from local.providers.wire import Properties, Unknown, unwrap

_PLAIN_KEY = re.compile(r"^[A-Za-z_][\w-]*$")


@dataclass(frozen=True)
class Change:
    """One changed place: its path, `add`, `delete` or `update`, and whether it forces a replacement."""

    path: str
    kind: str
    replaces: bool


def changes(behaviour: Behaviour, old: Properties, new: Properties, ignored: Iterable[str]) -> list[Change]:
    """Compare old and new inputs. Assets are equal when their content hashes are; ignored paths never differ."""
    skipped = tuple(ignored)
    found = []
    for path, kind in _compare(unwrap(old), unwrap(new), ""):
        if any(_covers(ignore, path) for ignore in skipped):
            continue
        found.append(Change(path, kind, top(path) in behaviour.replace))
    return found


def delete_first(behaviour: Behaviour, account: Account, resource_id: str, new: Properties) -> bool:
    """Tell whether a replacement must delete before it creates: the new resource would bear the old one's id.

    The real providers do the same when a program names a resource itself.
    """
    return not behaviour.opaque and behaviour.identify(Scope(unwrap(new), account)) == resource_id


def _compare(old: Any, new: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if key.startswith("__"):
                continue
            place = _join(path, key)
            if key not in old:
                yield place, "add"
            elif key not in new:
                yield place, "delete"
            else:
                yield from _compare(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            place = f"{path}[{index}]"
            if index >= len(old):
                yield place, "add"
            elif index >= len(new):
                yield place, "delete"
            else:
                yield from _compare(old[index], new[index], place)
    elif isinstance(new, Unknown) or old != new:
        yield path, "update"


def _join(path: str, key: str) -> str:
    if _PLAIN_KEY.match(key):
        return f"{path}.{key}" if path else key
    return f'{path}["{key}"]'


def top(path: str) -> str:
    """Return the property at the root of a path."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _covers(ignored: str, path: str) -> bool:
    return ignored == "*" or path == ignored or path.startswith((f"{ignored}.", f"{ignored}["))
