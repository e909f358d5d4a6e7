"""Redis as a site's own feature store: a hash a row, plain numbers and texts that any client reads, and a stream of changes.

What a hash can't say by itself is in two fields that no feature can be called: the version, and the header where it says
anything. Values that are no plain number or text are kept as envelope bytes behind a zero byte.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.features.envelope import Envelope, Value, decode, encode, peek
from functions.features.errors import EnvelopeError
from functions.features.number import canonical
from functions.features.redis.server import LIBRARY
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import StoreError, StoreRefusedError, StoreUnavailableError
from functions.stores.protocols import Applied, Row

if TYPE_CHECKING:
    from redis import Redis

STREAM = "lifeboat:changes"
_PREFIX = "entity:"
_VERSION, _HEADER = b"\0v", b"\0h"
_RESERVED = frozenset((_VERSION, _HEADER))
_WRAPPED = b"\0"
_TIMEOUT_SECONDS = 5.0
_KEYS_PER_SCAN = 1_000

Fields = Mapping[bytes, bytes]


def field_value(value: Value) -> bytes:
    """Return a value as a hash's field holds it. Raises EnvelopeError for what a row can't hold."""
    wrapped = encode(Envelope({"": value}))
    value = decode(wrapped).attributes[""]
    if isinstance(value, str) and not value.startswith("\0") and not _is_number(value):
        return value.encode()
    if not isinstance(value, str | bool) and _is_number(plain := str(value)):
        return canonical(plain).encode()
    return _WRAPPED + wrapped


def read_value(data: bytes) -> Value:
    """Return what a field holds, whoever wrote it: numbers are numbers, text is text, other bytes are binary."""
    if data.startswith(_WRAPPED):
        return decode(data[len(_WRAPPED) :]).attributes[""]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    return Decimal(canonical(text)) if _is_number(text) else text


def to_fields(row: Row) -> tuple[dict[bytes, bytes], bytes, int]:
    """Return a row's fields, its header (empty if it says nothing) and its expiry in epoch seconds."""
    envelope = decode(row.envelope)
    fields = {name.encode(): field_value(value) for name, value in envelope.attributes.items()}
    if _RESERVED & fields.keys():
        raise EnvelopeError(f"row {row.key!r} has an attribute of a reserved name; rename it")
    header = encode(Envelope({}, envelope.deleted, envelope.event_ms, envelope.schema, envelope.expires))
    return fields, b"" if header == encode(Envelope()) else header, envelope.expires


def to_row(key: str, fields: Fields) -> Row:
    """Return the row that a hash holds; version 0 if only programs that know no versions wrote it. Raises EnvelopeError."""
    head = peek(fields[_HEADER]) if _HEADER in fields else Envelope()
    try:
        attributes = {name.decode(): read_value(data) for name, data in fields.items() if name not in _RESERVED}
        version = int(fields.get(_VERSION, b"0"))
    except ValueError as error:
        raise EnvelopeError(f"hash of row {key!r} has a name that is no text or a version that is no number") from error
    envelope = Envelope(attributes, head.deleted, head.event_ms, head.schema, head.expires)
    return Row(key, version, encode(envelope))


class RedisRows:
    """A RowStore, and the verbs of a home table. `redis` returns bytes; every home write leaves a record in the stream."""

    def __init__(self, redis: "Redis", site: Site, stream: str = STREAM) -> None:
        self._redis: Any = redis
        self._stream = stream
        # What a version of this site has in its lowest bits.
        self._number = stamp(0, 0, site)

    def prepare(self) -> None:
        """Load the functions; loading again changes nothing."""
        self._ask(lambda: self._redis.function_load(LIBRARY, replace=True))

    def set_features(self, key: str, features: Mapping[str, Value]) -> int:
        """Set some features of a row and leave the others; returns the version. Raises EnvelopeError."""
        fields = {name.encode(): field_value(value) for name, value in features.items()}
        if _RESERVED & fields.keys() or not fields:
            raise EnvelopeError(f"row {key!r}: no features given, or one of a reserved name")
        pairs = [part for pair in fields.items() for part in pair]
        arguments = [_PREFIX + key, self._stream, key, self._number, *pairs]
        return int(self._ask(lambda: self._redis.fcall("lifeboat_set", 2, *arguments)))

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        def ask() -> Any:
            with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hgetall(_PREFIX + key)
                return pipe.execute()

        hashes = self._ask(ask) if keys else []
        return {key: to_row(key, found) for key, found in zip(keys, hashes, strict=True) if found}

    def write(self, row: Row) -> int | None:
        found = self._put(row, "newer", "", record=True)
        return int(found) if found else None

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        return [self._apply_one(row) for row in rows]

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        cursor, seen = 0, set[str]()
        while True:
            place = cursor
            cursor, names = self._ask(lambda place=place: self._redis.scan(place, f"{_PREFIX}*", _KEYS_PER_SCAN))
            # A scan may tell a key twice.
            keys = [name.decode()[len(_PREFIX) :] for name in names]
            fresh = [key for key in dict.fromkeys(keys) if key not in seen and start <= key]
            seen.update(fresh)
            yield from self.read([key for key in fresh if end is None or key < end]).values()
            if not cursor:
                return

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        arguments = [_PREFIX + key, self._stream, key, "" if seen is None else seen, version]
        done = self._ask(lambda: self._redis.fcall("lifeboat_adopt", 2, *arguments))
        return self.read([key]).get(key) if done else None

    def bury(self, row: Row) -> bool:
        return not self._put(row, "seen", "", record=True)

    def touch(self, key: str, names: Iterable[str]) -> None:
        """Put the change of these features on record once more, above all that the row was; no names stand for the whole row."""
        arguments = [_PREFIX + key, self._stream, key, self._number, *(name.encode() for name in names)]
        self._ask(lambda: self._redis.fcall("lifeboat_touch", 2, *arguments))

    def refresh(self, row: Row, seen: int) -> bool:
        """Take a row over from the table unless the hash has moved on from version `seen`; leaves no record."""
        return not self._put(row, "seen", str(seen), record=False)

    def _apply_one(self, row: Row) -> Applied:
        try:
            return Applied.STALE if self._put(row, "newer", "", record=False) else Applied.APPLIED
        except (StoreRefusedError, EnvelopeError):
            return Applied.REFUSED
        except StoreUnavailableError:
            return Applied.FAILED

    def _put(self, row: Row, condition: str, seen: str, *, record: bool) -> bytes:
        fields, header, expires = to_fields(row)
        pairs = [part for pair in fields.items() for part in pair]
        head = [_PREFIX + row.key, self._stream, row.key, condition, seen, row.version, header, expires, int(record)]
        found: bytes = self._ask(lambda: self._redis.fcall("lifeboat_put", 2, *head, *pairs))
        return found

    def _ask(self, ask: Any) -> Any:
        from redis.exceptions import RedisError, ResponseError

        try:
            return ask()
        except ResponseError as error:
            raise _refused(error) from error
        except RedisError as error:
            raise StoreUnavailableError(f"redis: no usable answer ({error}); try again") from error


def open_source(url: str) -> "Redis":
    """Return a client with the time limits of a store."""
    from redis import Redis

    return Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=2.0)


def _refused(error: Exception) -> StoreError:
    text = str(error)
    # A server that loads its data, fails over, or has no memory left takes the same call later.
    if text.startswith(("LOADING", "READONLY", "OOM", "BUSY ", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN")):
        return StoreUnavailableError(f"redis: {text}; try again")
    return StoreRefusedError(f"redis: {text}")


def _is_number(text: str) -> bool:
    try:
        canonical(text)
    except EnvelopeError:
        return False
    return True
