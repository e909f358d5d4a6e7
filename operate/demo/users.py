"""User data that programs write on either site: users and their orders, in Aurora and in Spanner."""

import json
import random
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from functions.settings import Site
from functions.stores.clients import Clients
from functions.userdata.change import key_text
from functions.userdata.protocols import UserDatabase
from functions.userdata.schema import REFERENCE_TABLES
from functions.userdata.values import Row, from_postgres, row_from
from operate.demo.clock import now_ms

# What a program does next, in these shares: a user made or changed, an order placed, an order taken back.
SHARES = {"user": 5, "order": 4, "take back": 1}
USERS = 40


class UserLoad:
    """Rows of the reference service's tables. Each program changes users of its own and takes back orders of its own."""

    name = "userdata"

    def __init__(self, clients: Clients, seed: int) -> None:
        self._databases: dict[Site, UserDatabase] = {
            Site.AWS: clients.aurora(REFERENCE_TABLES),
            Site.GCP: clients.spanner(REFERENCE_TABLES, now_ms),
        }
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._users: dict[tuple[int, Site], list[str]] = {}
        self._orders: dict[tuple[int, Site], list[str]] = {}
        self._lock = threading.Lock()

    def write(self, site: Site, chooser: int) -> tuple[str, int]:
        database = self._databases[site]
        users = self._users.setdefault((chooser, site), [])
        orders = self._orders.setdefault((chooser, site), [])
        with self._lock:
            (kind,) = self._random.choices(list(SHARES), weights=list(SHARES.values()))
            if not users:
                kind = "user"
            elif kind == "take back" and not orders:
                kind = "order"
            chance = random.Random(self._random.random())  # noqa: S311 - a load, not a secret
        if kind == "user":
            user = chance.choice(users) if len(users) >= USERS else str(uuid.UUID(int=chance.getrandbits(128)))
            change = database.put("users", _user(chance, user))
            if user not in users:
                users.append(user)
        elif kind == "order":
            order = str(uuid.UUID(int=chance.getrandbits(128)))
            change = database.put("orders", _order(chance, order, chance.choice(users)))
            orders.append(order)
        else:
            taken = database.delete("orders", key_text([orders[-1]]))
            orders.pop()
            if taken is None:
                # An earlier delete whose answer was lost with its cloud had taken it.
                return self.write(site, chooser)
            change = taken
        return json.dumps([change.table, change.key]), change.version

    def versions(self, site: Site, keys: Sequence[str]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        places = [json.loads(key) for key in keys]
        for table in REFERENCE_TABLES:
            wanted = [key for name, key in places if name == table.name]
            if wanted:
                states = self._databases[site].read(table.name, wanted)
                found |= {json.dumps([table.name, key]): change.version for key, change in states.items()}
        return found


def _user(chance: random.Random, identity: str) -> Row:
    number = chance.randrange(10**6)
    return row_from(
        {
            "id": identity,
            "email": f"user{number}@example.com",
            "name": f"User {number}",
            "active": True,
            "visits": number,
            "score": chance.random(),
            "balance": f"{number}.2500",
            "born": "1990-05-17",
            "created_at": datetime.now(UTC).isoformat(),
            "preferences": {"theme": "dark", "limits": [1, 2.5, None]},
            "avatar": "\\x" + chance.randbytes(16).hex(),
            "tags": ["demo", f"group {number % 7}"],
            "weights": [0.5, chance.random()],
        },
        REFERENCE_TABLES[0],
        from_postgres,
    )


def _order(chance: random.Random, identity: str, user: str) -> Row:
    return row_from(
        {
            "id": identity,
            "user_id": user,
            "product_ids": [f"prod{chance.randrange(1000)}" for _ in range(3)],
            "total": f"{chance.randrange(10_000)}.9900",
            "placed_at": datetime.now(UTC).isoformat(),
            "details": {"gift": chance.random() < 0.5},
        },
        REFERENCE_TABLES[1],
        from_postgres,
    )
