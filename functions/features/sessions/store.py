"""Sessions that go on at either site in the same second: a signed token that carries the session's row, and the row itself.

A token holds the very row that its session had when it was given out. A site that gets one whose row has not arrived yet, or an
older one has, brings the token's row in by the rule of the larger version, as replication would; a site that holds a newer row
goes on with that. So a token that is replayed rolls nothing back, and one request later any site knows what the token knew.

Closing writes a row of its own that nothing overwrites, since a save at the other site may carry a larger version than the
closing. Until that row has arrived, for as long as replication takes, the other site still accepts the session's tokens.
"""

import base64
import binascii
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from functions.features.envelope import Envelope, Value, decode, encode
from functions.features.errors import ContendedRowError, EnvelopeError, SessionRefusedError, SessionTooLargeError
from functions.features.sessions.keys import KeyRing
from functions.features.tombstone import tombstone
from functions.features.version import SKEW_BOUND_MS, beyond_skew, stamp
from functions.settings import Site
from functions.stores.protocols import Row, RowStore

# A session ends after this long without a save, and in any case after the longest life, whichever is sooner.
IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 7 * 24 * 3600

# A cookie holds 4,096 bytes at least in every browser (https://www.rfc-editor.org/rfc/rfc6265#section-6.1): name, key id and
# signature take some, and base64 a third of the rest.
_MOST_ENVELOPE_BYTES = 2_800
_MOST_TOKEN_BYTES = 4_000
_ID_BYTES = 16
_HEAD = struct.Struct(f">Q{_ID_BYTES}s")
_ROUNDS = 8


class Refusal(StrEnum):
    """Why a token is no good; a service asks the user to sign in again for all of them."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown key"
    FORGED = "forged"
    ENDED = "ended"
    CLOSED = "closed"
    AHEAD = "ahead of the clock"


@dataclass(frozen=True)
class Session:
    """A session as of now. `token` carries it as it is; give it to the user in place of the one that came."""

    identity: str
    token: str
    version: int
    attributes: Mapping[str, Value]
    opened_ms: int
    expires: int


class SessionStore:
    """Sessions of one site. `clock_ms` returns epoch milliseconds; both sites use the same limits and the same keys.

    Store errors pass through: without its own table a site can't tell whether a session was closed.
    """

    def __init__(
        self,
        rows: RowStore,
        site: Site,
        keys: KeyRing,
        clock_ms: Callable[[], int],
        idle_seconds: int = IDLE_SECONDS,
        longest_seconds: int = LONGEST_SECONDS,
    ) -> None:
        self._rows = rows
        self._site = site
        self._keys = keys
        self._clock_ms = clock_ms
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds

    def open(self, attributes: Mapping[str, Value]) -> Session:
        """Begin a session. Raises EnvelopeError, and SessionTooLargeError for what fits no cookie."""
        identity = secrets.token_bytes(_ID_BYTES)
        return self._save(identity, attributes, self._clock_ms(), 0)

    def read(self, token: str) -> Session:
        """Return the session as its newest row has it. Raises SessionRefusedError with the reason."""
        identity, row = self._unseal(token)
        standing = self._standing(identity, row)
        return self._session(identity, standing)

    def save(self, token: str, attributes: Mapping[str, Value]) -> Session:
        """Replace the attributes, and put the end off. Raises as `read` and `open` do."""
        identity, row = self._unseal(token)
        standing = self._standing(identity, row)
        return self._save(identity, attributes, decode(standing.envelope).event_ms, standing.version)

    def close(self, token: str) -> None:
        """End the session on both sites; closing again changes nothing. Raises SessionRefusedError for a token that is none."""
        identity, row = self._unseal(token)
        ends = decode(row.envelope).event_ms // 1000 + self._longest_seconds
        # It outlives every token of the session, at a site whose clock is late as well.
        mark = encode(Envelope({}, False, self._clock_ms(), 0, ends + SKEW_BOUND_MS // 1000))
        self._write(_closed_key(identity), 0, lambda version: Row(_closed_key(identity), version, mark))
        self._write(_key(identity), row.version, lambda version: tombstone(_key(identity), version))

    def _save(self, identity: bytes, attributes: Mapping[str, Value], opened_ms: int, last: int) -> Session:
        now_seconds = self._clock_ms() // 1000
        expires = min(now_seconds + self._idle_seconds, opened_ms // 1000 + self._longest_seconds)
        data = encode(Envelope(attributes, False, opened_ms, 0, expires))
        if len(data) > _MOST_ENVELOPE_BYTES:
            raise SessionTooLargeError(
                f"session has {len(data)} bytes, at most {_MOST_ENVELOPE_BYTES} fit a cookie; keep the rest in rows"
            )
        version = self._write(_key(identity), last, lambda version: Row(_key(identity), version, data))
        return self._session(identity, Row(_key(identity), version, data))

    def _standing(self, identity: bytes, row: Row) -> Row:
        """Return the newest row of the session, and see that this site has it."""
        found = self._rows.read([row.key, _closed_key(identity)])
        stored = found.get(row.key)
        if _closed_key(identity) in found or (stored is not None and decode(stored.envelope).deleted):
            raise SessionRefusedError(Refusal.CLOSED, row.key)
        if stored is not None and stored.version >= row.version:
            self._refuse_ended(stored)
            return stored
        self._rows.apply([row])
        return row

    def _write(self, key: str, last: int, row: Callable[[int], Row]) -> int:
        for _ in range(_ROUNDS):
            version = stamp(self._clock_ms(), last, self._site)
            existing = self._rows.write(row(version))
            if existing is None:
                return version
            last = existing
        raise ContendedRowError(f"row {key!r}: other writers won {_ROUNDS} rounds; write sessions less often")

    def _session(self, identity: bytes, row: Row) -> Session:
        envelope = decode(row.envelope)
        payload = _HEAD.pack(row.version, identity) + row.envelope
        key, signature = self._keys.sign(payload)
        token = f"{key}.{_text(payload)}.{_text(signature)}"
        return Session(identity.hex(), token, row.version, envelope.attributes, envelope.event_ms, envelope.expires)

    def _unseal(self, token: str) -> tuple[bytes, Row]:
        """Return what a token carries, once its signature and its time are proven."""
        key, payload, signature = _parts(token)
        if not self._keys.knows(key):
            raise SessionRefusedError(Refusal.UNKNOWN_KEY)
        if not self._keys.verify(key, payload, signature):
            raise SessionRefusedError(Refusal.FORGED)
        version, identity = _HEAD.unpack_from(payload)
        row = Row(_key(identity), version, payload[_HEAD.size :])
        if beyond_skew(version, self._clock_ms()):
            raise SessionRefusedError(Refusal.AHEAD, row.key)
        self._refuse_ended(row)
        return identity, row

    def _refuse_ended(self, row: Row) -> None:
        try:
            envelope = decode(row.envelope)
        except EnvelopeError as error:
            raise SessionRefusedError(Refusal.MALFORMED, row.key) from error
        if not self._clock_ms() // 1000 < envelope.expires:
            raise SessionRefusedError(Refusal.ENDED, row.key)


def _key(identity: bytes) -> str:
    return f"session#{identity.hex()}"


def _closed_key(identity: bytes) -> str:
    return f"session#{identity.hex()}#closed"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _parts(token: str) -> tuple[str, bytes, bytes]:
    if len(token) > _MOST_TOKEN_BYTES or not token.isascii():
        raise SessionRefusedError(Refusal.MALFORMED)
    key, _, rest = token.partition(".")
    payload, _, signature = rest.partition(".")
    try:
        found = [base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True) for text in (payload, signature)]
    except (binascii.Error, ValueError):
        raise SessionRefusedError(Refusal.MALFORMED) from None
    if len(found[0]) <= _HEAD.size:
        raise SessionRefusedError(Refusal.MALFORMED)
    return key, found[0], found[1]
