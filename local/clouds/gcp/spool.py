"""Messages between the Pub/Sub emulator and their last delivery, in a file that outlives the cloud's process.

A pulled message is written here and only then acknowledged to the emulator, because the emulator forgets undelivered
messages after ten minutes, counts attempts over all subscriptions together and gives no back-off. So attempts, due
times and the messages themselves survive a kill of the cloud, and a restart delivers at once what was under way.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from local.clouds.gcp.backlog import Entry
from local.clouds.gcp.delivery import Message

SCHEMA = """
CREATE TABLE IF NOT EXISTS ground (marker TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    subscription TEXT NOT NULL,
    message TEXT NOT NULL,
    data BLOB NOT NULL,
    attributes TEXT NOT NULL,
    publish_time_ns INTEGER NOT NULL,
    ordering_key TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    UNIQUE (subscription, message)
);
"""
COLUMNS = "ordinal, message, data, attributes, publish_time_ns, ordering_key, attempts, due"


class Spool:
    """The file of messages under way. One thread uses it; each call is one short transaction."""

    def __init__(self, path: Path, ground: str) -> None:
        """Open the file; what another ground left in it is dropped, since the emulators' data of that one is gone too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        # Writes need to survive a kill of the process, not a loss of power: the emulators' memory would be gone then.
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.executescript(SCHEMA)
        known = self._connection.execute("SELECT marker FROM ground").fetchone()
        if known != (ground,):
            self._connection.executescript("DELETE FROM messages; DELETE FROM ground;")
            self._connection.execute("INSERT INTO ground VALUES (?)", (ground,))

    def add(self, subscription: str, messages: Iterable[Message]) -> list[Entry]:
        """Store messages and return those that were not stored already, in order."""
        added = []
        self._connection.execute("BEGIN")
        try:
            for message in messages:
                cursor = self._connection.execute(
                    "INSERT OR IGNORE INTO messages"
                    " (subscription, message, data, attributes, publish_time_ns, ordering_key) VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        subscription,
                        message.id,
                        message.data,
                        json.dumps(dict(message.attributes)),
                        message.publish_time_ns,
                        message.ordering_key,
                    ),
                )
                if cursor.rowcount and cursor.lastrowid is not None:
                    added.append(Entry(cursor.lastrowid, message))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return added

    def load(self, subscription: str) -> list[Entry]:
        """Return a subscription's stored messages in order of arrival."""
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM messages WHERE subscription = ? ORDER BY ordinal",  # noqa: S608 - a constant
            (subscription,),
        ).fetchall()
        return [
            Entry(ordinal, Message(name, data, json.loads(attributes), publish_time_ns, key), attempts, due)
            for ordinal, name, data, attributes, publish_time_ns, key, attempts, due in rows
        ]

    def settle(self, entry: Entry) -> None:
        """Drop a message that needs no further delivery."""
        self._connection.execute("DELETE FROM messages WHERE ordinal = ?", (entry.ordinal,))

    def postpone(self, entry: Entry, attempts: int, due: float) -> None:
        """Record a failed attempt and when the next one is due."""
        self._connection.execute(
            "UPDATE messages SET attempts = ?, due = ? WHERE ordinal = ?", (attempts, due, entry.ordinal)
        )

    def forget(self, subscription: str) -> None:
        """Drop all messages of a subscription that was deleted."""
        self._connection.execute("DELETE FROM messages WHERE subscription = ?", (subscription,))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
