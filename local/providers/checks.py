"""Whether inputs fit a type's schema: every misfit is reported at once, with the property's path and what was wanted."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local.providers.schema import PropertySchema, TypeForm, TypeSchema
from local.providers.wire import Asset, Properties, Unknown


@dataclass(frozen=True)
class Misfit:
    """One property that the type does not take as it is; `property` is its path."""

    property: str
    reason: str


def misfits(schema: TypeSchema, inputs: Properties) -> list[Misfit]:
    """Return what is wrong with the inputs (without secrets): unknown properties, missing ones, wrong types.

    Unknown values fit everywhere, as nothing can be said about them yet.
    """
    return list(_members(schema, schema.inputs, inputs, "", schema.token))


def _members(
    schema: TypeSchema, wanted: Mapping[str, PropertySchema], given: Properties, path: str, owner: str
) -> Iterator[Misfit]:
    for name, value in given.items():
        place = f"{path}.{name}" if path else name
        if name.startswith("__"):
            # Properties of the SDK's own, such as the defaults it filled in.
            continue
        if name not in wanted:
            near = difflib.get_close_matches(name, wanted, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            yield Misfit(place, f'{owner} has no property "{name}"{hint}')
        else:
            yield from _value(schema, wanted[name].form, value, place)
    for name, property_schema in wanted.items():
        if property_schema.required and given.get(name) is None:
            place = f"{path}.{name}" if path else name
            yield Misfit(place, f'{owner} needs property "{name}", which is missing')


def _value(schema: TypeSchema, form: TypeForm, value: Any, place: str) -> Iterator[Misfit]:
    if value is None or isinstance(value, Unknown):
        return
    if not _has_shape(form, value):
        yield _wrong(schema, form, value, place)
    elif isinstance(form, str) or "enum" in form:
        return
    elif "list" in form:
        for index, item in enumerate(value):
            yield from _value(schema, form["list"], item, f"{place}[{index}]")
    elif "map" in form:
        for key, item in value.items():
            yield from _value(schema, form["map"], item, f"{place}.{key}")
    elif "object" in form:
        owner = f'{schema.token} property "{place}"'
        yield from _members(schema, schema.objects[form["object"]], value, place, owner)
    else:
        yield from _union(schema, form["union"], value, place)


def _has_shape(form: TypeForm, value: Any) -> bool:
    if isinstance(form, str):
        return _fits_scalar(form, value)
    if "list" in form:
        return isinstance(value, list)
    if "map" in form or "object" in form:
        return isinstance(value, dict)
    return value in form["enum"] if "enum" in form else True


def _union(schema: TypeSchema, forms: list[TypeForm], value: Any, place: str) -> Iterator[Misfit]:
    tried = [list(_value(schema, form, value, place)) for form in forms]
    if not all(tried):
        return
    # Where one of the forms has the value's shape, what is wrong inside says more than "neither".
    inside = [found for found in tried if any(misfit.property != place for misfit in found)]
    if inside:
        yield from inside[0]
    else:
        yield _wrong(schema, {"union": forms}, value, place)


def _fits_scalar(form: str, value: Any) -> bool:
    match form:
        case "any":
            return True
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "archive" | "asset":
            return isinstance(value, Asset) and value.archive == (form == "archive")
    return False


def _wrong(schema: TypeSchema, form: TypeForm, value: Any, place: str) -> Misfit:
    return Misfit(place, f'{schema.token} property "{place}" must be {describe(form)}, but is {_kind(value)}')


def describe(form: TypeForm) -> str:
    """Return a form in words, with an article."""
    if isinstance(form, str):
        return f"an {form}" if form[0] in "aeiou" else f"a {form}"
    if "list" in form:
        return "a list"
    if "map" in form or "object" in form:
        return "an object"
    if "enum" in form:
        return "one of " + ", ".join(str(value) for value in form["enum"])
    return " or ".join(describe(inner) for inner in form["union"])


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, str):
        return f'the string "{value}"' if len(value) <= 40 else f"a string of {len(value)} characters"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, Asset):
        return "an archive" if value.archive else "an asset"
    return "a list" if isinstance(value, list) else "an object"
