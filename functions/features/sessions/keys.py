"""The keys that session tokens are signed with: several at a time, each known by its id, so that they can be changed.

To change the key: add the new one on both sites, make it current on both, and take the old one away when the last token that it
signed has ended. Keys come from the sites' secret stores and are in no log and no message.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from functions.features.errors import SessionKeysError

# As many bytes as the digest has: https://www.rfc-editor.org/rfc/rfc2104#section-3
_LEAST_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True)
class KeyRing:
    """Keys by id, and which of them signs."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    def sign(self, payload: bytes) -> tuple[str, bytes]:
        """Return the id of the key that signs, and the signature."""
        return self.current, self._mac(self.current, payload)

    def knows(self, identity: str) -> bool:
        """Return whether there is a key of that id."""
        return identity in self.keys

    def verify(self, identity: str, payload: bytes, signature: bytes) -> bool:
        """Return whether the key of that id made the signature."""
        return self.knows(identity) and hmac.compare_digest(self._mac(identity, payload), signature)

    def _mac(self, identity: str, payload: bytes) -> bytes:
        # The key's id is signed too, so no token can be taken for one of another key.
        return hmac.new(
            self.keys[identity], b"lifeboat-session-1." + identity.encode() + b"." + payload, hashlib.sha256
        ).digest()


def parse_keys(text: str) -> KeyRing:
    """Return the ring that a JSON text holds: {"current": "<id>", "keys": {"<id>": "<base64, 32 bytes or more>"}}.

    Raises SessionKeysError, which never repeats what the text holds.
    """
    try:
        value = json.loads(text)
        current, given = value["current"], dict(value["keys"])
        keys = {str(name): base64.b64decode(data, validate=True) for name, data in given.items()}
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        # Not chained: the cause would show a part of the secret.
        raise SessionKeysError("session keys are no JSON of current and keys in base64; correct the secret") from None
    short = [name for name, data in keys.items() if len(data) < _LEAST_BYTES or not _ID.fullmatch(name)]
    if short or current not in keys:
        raise SessionKeysError(
            f"session keys can't be used: {len(short)} shorter than {_LEAST_BYTES} bytes or of a wrong id, "
            f"the current one is {'there' if current in keys else 'missing'}; correct the secret"
        )
    return KeyRing(str(current), keys)
