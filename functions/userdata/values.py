"""Values of both sides in one canonical form: equal values are equal bytes, so a plain hash proves that two rows are alike.

Canonical forms: bool and int as they are; numeric as text without needless zeros; float as float, its special values as text
(`NaN`, `Infinity`, `-Infinity`); text; uuid in lower case; date as YYYY-MM-DD; timestamp in UTC to the microsecond; bytes as
base64; JSON as text with sorted keys; arrays as lists; NULL as None. What one side can't hold exactly is refused, never rounded.
JSON's own null at the top of a column counts as NULL: PostgreSQL's and Spanner's record forms do not tell the two apart.
"""

import base64
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from functions.userdata.errors import ValueRefusedError
from functions.userdata.schema import NUMERIC_WHOLE, ColumnType, Kind, Table

Canonical = bool | int | float | str | list[Any] | None
Row = Mapping[str, Canonical]

_INT64 = range(-(1 << 63), 1 << 63)
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# 2001-02-03T04:05:06[.789][Z|+00:00|+00]
_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d(?::?\d\d)?)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def from_postgres(value: Any, kind: ColumnType) -> Canonical:
    """Return the canonical form of a value as `to_jsonb(row)` gives it, numbers read as `loads` does."""
    found: Canonical = _each(value, kind, _from_postgres)
    return found


def to_postgres(value: Canonical, kind: ColumnType) -> Any:
    """Return the value as `jsonb_populate_record` takes it."""
    return _each(value, kind, _to_postgres)


def from_spanner(value: Any, kind: ColumnType) -> Canonical:
    """Return the canonical form of a value as Spanner's API and change records write it in JSON."""
    found: Canonical = _each(value, kind, _from_spanner)
    return found


def to_spanner(value: Canonical, kind: ColumnType) -> Any:
    """Return the value as Spanner's API takes it in JSON."""
    return _each(value, kind, _to_spanner)


def row_from(values: Mapping[str, Any], table: Table, read: Callable[[Any, ColumnType], Canonical]) -> Row:
    """Return a whole row in canonical form. Raises ValueRefusedError that names the column."""
    row: dict[str, Canonical] = {}
    for column in table.columns:
        try:
            row[column] = read(values.get(column), table.type_of(column))
        except (ValueError, TypeError, ArithmeticError, InvalidOperation) as error:
            raise ValueRefusedError(f"{table.name}.{column}: {error}") from error
        except ValueRefusedError as error:
            raise ValueRefusedError(f"{table.name}.{column}: {error}") from error
        if row[column] is None and table.required(column):
            raise ValueRefusedError(f"{table.name}.{column} is NULL, which its type does not allow")
    return row


def loads(text: str) -> Any:
    """Read JSON without rounding: numbers with a point or an exponent become Decimal."""
    return json.loads(text, parse_float=Decimal)


def _each(value: Any, kind: ColumnType, convert: Callable[[Any, ColumnType], Any]) -> Any:
    if value is None:
        return None
    if not kind.array:
        return convert(value, kind)
    if not isinstance(value, list) or any(isinstance(item, list | dict) for item in value):
        raise ValueRefusedError("not an array of one dimension")
    return [None if item is None else convert(item, kind) for item in value]


def _from_postgres(value: Any, kind: ColumnType) -> Canonical:
    match kind.kind:
        case Kind.BYTES:
            if not str(value).startswith("\\x"):
                raise ValueRefusedError("bytes are not in hexadecimal; set bytea_output")
            return base64.b64encode(bytes.fromhex(value[2:])).decode()
        case Kind.JSON:
            return _json(value)
        case _:
            return _common(value, kind)


def _to_postgres(value: Any, kind: ColumnType) -> Any:
    match kind.kind:
        case Kind.BYTES:
            return "\\x" + base64.b64decode(value).hex()
        case Kind.JSON:
            return json.loads(value)
        case _:
            return value


def _from_spanner(value: Any, kind: ColumnType) -> Canonical:
    match kind.kind:
        case Kind.INTEGER:
            return _integer(int(value))
        case Kind.BYTES:
            return base64.b64encode(base64.b64decode(value, validate=True)).decode()
        case Kind.JSON:
            return _json(loads(value) if isinstance(value, str) else value)
        case _:
            return _common(value, kind)


def _to_spanner(value: Any, kind: ColumnType) -> Any:
    return str(value) if kind.kind is Kind.INTEGER else value


def _common(value: Any, kind: ColumnType) -> Canonical:
    match kind.kind:
        case Kind.BOOL:
            if not isinstance(value, bool):
                raise ValueRefusedError(f"{value!r} is no boolean")
            return value
        case Kind.INTEGER:
            return _integer(int(value))
        case Kind.FLOAT:
            return _float(value)
        case Kind.NUMERIC:
            return _numeric(Decimal(str(value)), kind)
        case Kind.TEXT:
            return _text(str(value))
        case Kind.UUID:
            return str(uuid.UUID(value))
        case Kind.DATE:
            return _date(str(value))
        case Kind.TIMESTAMP:
            return _timestamp(str(value))
    raise ValueRefusedError(f"no way to read {kind.kind}")


def _integer(value: int) -> int:
    if value not in _INT64:
        raise ValueRefusedError(f"{value} has more than 64 bits")
    return value


def _float(value: Any) -> float | str:
    if isinstance(value, str) and value in _SPECIAL_FLOATS:
        return value
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    # Minus nought: PostgreSQL's JSON keeps its sign, Spanner's does not; both call it equal to nought.
    return number + 0.0


def _numeric(value: Decimal, kind: ColumnType) -> str:
    if not value.is_finite():
        raise ValueRefusedError(f"numeric {value}: Spanner has no such number")
    sign, digits, exponent = value.normalize().as_tuple() if value else (0, (0,), 0)
    assert isinstance(exponent, int)
    if -exponent > kind.scale:
        raise ValueRefusedError(f"numeric {value} has more than {kind.scale} digits after the point")
    if len(digits) + exponent > min(kind.whole_digits, NUMERIC_WHOLE):
        raise ValueRefusedError(f"numeric {value} has more than {kind.whole_digits} digits before the point")
    return format(Decimal((sign, digits, exponent)), "f")


def _text(value: str) -> str:
    if "\x00" in value:
        raise ValueRefusedError("text holds a NUL, which PostgreSQL does not take")
    value.encode()
    return value


def _date(value: str) -> str:
    if not _DATE.fullmatch(value):
        raise ValueRefusedError(f"date {value}: Spanner has the years 1 to 9999 only")
    return date.fromisoformat(value).isoformat()


def _timestamp(value: str) -> str:
    found = _TIMESTAMP.fullmatch(value)
    if found is None:
        raise ValueRefusedError(f"timestamp {value}: Spanner has the years 1 to 9999 only")
    fraction = (found[7] or "").rstrip("0")
    if len(fraction) > 6:
        raise ValueRefusedError(f"timestamp {value}: PostgreSQL keeps microseconds")
    zone = found[8]
    offset = "+00:00" if zone == "Z" else zone if ":" in zone else f"{zone[:3]}:{zone[3:] or '00'}"
    plain = f"{found[1]}-{found[2]}-{found[3]}T{found[4]}:{found[5]}:{found[6]}.{fraction.ljust(6, '0')}{offset}"
    try:
        moment = datetime.fromisoformat(plain).astimezone(UTC)
    except OverflowError as error:
        raise ValueRefusedError(f"timestamp {value}: outside the years 1 to 9999 in UTC") from error
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(_json_value(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(str(name)): _json_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return value
    return _json_number(value if isinstance(value, Decimal) else Decimal(repr(value)))


def _json_number(value: Decimal) -> int | float:
    # Spanner's JSON keeps 64-bit integers and floats (https://cloud.google.com/spanner/docs/working-with-json); PostgreSQL's
    # keeps every digit. What is neither would come back as another number.
    if value == value.to_integral_value() and int(value) in _INT64:
        return int(value)
    number = float(value)
    if math.isinf(number) or Decimal(repr(number)) != value:
        raise ValueRefusedError(f"JSON number {value} does not fit a 64-bit integer or float exactly")
    return number
