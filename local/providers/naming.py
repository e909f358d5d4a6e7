"""Names for resources that the program leaves unnamed, made once and kept for the resource's life."""

from collections.abc import Callable

from local.providers.behaviours.table import AutoName
from local.providers.wire import Properties

SUFFIX_DIGITS = 7


def fill_name(
    rule: AutoName | None, logical_name: str, inputs: Properties, old_inputs: Properties, digits: Callable[[int], str]
) -> Properties:
    """Return the inputs with a name in them.

    A name that the program gives wins, then the one from the old inputs; else one is made of the prefix that the
    program gives (or the logical name and a dash) and `digits(7)`, cut to the service's maximum length.
    """
    if rule is None or inputs.get(rule.property) is not None:
        return inputs
    prefix_property = f"{rule.property}Prefix"
    prefix = inputs.get(prefix_property)
    kept = old_inputs.get(rule.property)
    if kept is not None and old_inputs.get(prefix_property) == prefix:
        return {**inputs, rule.property: kept}
    if prefix is not None and not isinstance(prefix, str):
        # A prefix that is not known yet makes a name that is not known yet.
        return {**inputs, rule.property: prefix}
    stem = prefix if prefix is not None else f"{rule.prefix}{logical_name}-"
    name = stem[: rule.maximum - SUFFIX_DIGITS] + digits(SUFFIX_DIGITS)
    return {**inputs, rule.property: name.lower() if rule.lowercase else name}
