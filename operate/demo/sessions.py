"""Users' sessions: opened and saved on either site, some shown to the other one at once, as a user who is moved does."""

import random
import secrets
import threading
from collections.abc import Mapping, Sequence

from functions.errors import FunctionError
from functions.features.errors import SessionRefusedError
from functions.features.sessions.keys import KeyRing
from functions.features.sessions.store import Session, SessionStore
from functions.settings import Site
from functions.stores.clients import Clients
from operate.demo.clock import now_ms

# Open at a time for each program that writes.
SESSIONS = 25
# One save in so many is followed by a request at the other site, with the token that the save gave.
MOVES = 3
_KEY = "demo"
_KEY_BYTES = 32


class SessionLoad:
    """Sessions of both sites under one signing key, which both sites have."""

    name = "sessions"

    def __init__(self, clients: Clients, seed: int) -> None:
        keys = KeyRing(_KEY, {_KEY: secrets.token_bytes(_KEY_BYTES)})
        self._rows = {site: clients.rows(site) for site in Site}
        self._stores = {site: SessionStore(rows, site, keys, now_ms) for site, rows in self._rows.items()}
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._open: dict[int, list[Session]] = {}
        self._lock = threading.Lock()
        self.opened = 0
        self.moved = 0
        self.refused: list[str] = []

    def write(self, site: Site, chooser: int) -> tuple[str, int]:
        sessions = self._open.setdefault(chooser, [])
        if len(sessions) < SESSIONS:
            saved = self._stores[site].open({"basket": 0})
            sessions.append(saved)
            self.opened += 1
        else:
            place = self._random.randrange(SESSIONS)
            saved = self._stores[site].save(sessions[place].token, {"basket": self._random.randrange(100)})
            with self._lock:
                sessions[place] = saved
        if self._random.randrange(MOVES) == 0:
            self._show(saved, site.peer)
        return f"session#{saved.identity}", saved.version

    def versions(self, site: Site, keys: Sequence[str]) -> Mapping[str, int]:
        return {key: row.version for key, row in self._rows[site].read(list(keys)).items()}

    def go_on(self, site: Site) -> tuple[int, int]:
        """Show every session's last token to a site; return how many it took up where they were, and how many there are."""
        with self._lock:
            sessions = [session for each in self._open.values() for session in each]
        before = self.moved
        for session in sessions:
            self._show(session, site)
        return self.moved - before, len(sessions)

    def _show(self, session: Session, site: Site) -> None:
        try:
            seen = self._stores[site].read(session.token)
        except SessionRefusedError as error:
            self.refused.append(f"{site}: {error}")
        except FunctionError:
            # The other site is away: its user stays where they are.
            return
        else:
            self.moved += seen.version >= session.version
