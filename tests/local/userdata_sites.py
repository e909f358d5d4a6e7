"""Fresh databases of user data on a ground's PostgreSQL and Spanner, with the declared tables in them."""

import asyncio
import itertools
import os
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from google.cloud.spanner_v1.types import spanner as spanner_calls
from google.cloud.spanner_v1.types import transaction

from functions.stores.postgres import DataApi, PostgresUserData
from functions.stores.spanner import HOST, SpannerDatabase
from functions.stores.spanner_userdata import SpannerUserData
from functions.stores.wire import open_channel
from functions.userdata.drain import OutboxDrain
from functions.userdata.migrate import migrate
from functions.userdata.parity import Prover
from functions.userdata.schema import REFERENCE_TABLES, Table, spanner_ddl
from functions.userdata.values import Row
from local.clouds.gcp.spanner import SpannerAdmin
from local.ground.client import GroundClient
from local.ground.user_data import POSTGRES_USER, database_name

PROJECT = "lifeboat-test"
CLUSTER = "userdata"
INSTANCE = f"projects/{PROJECT}/instances/userdata"
ARN = f"arn:aws:rds:us-east-1:123456789012:cluster:{CLUSTER}"
_numbers = itertools.count(1)


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


@dataclass(frozen=True)
class UserDataSites:
    """Both sites' databases under names that no other test uses."""

    ground: GroundClient
    database: str
    spanner_name: str
    home: PostgresUserData
    far: SpannerUserData
    data_api: DataApi
    spanner: SpannerDatabase
    tables: Sequence[Table]

    @property
    def drain(self) -> OutboxDrain:
        return OutboxDrain(self.home, self.far, self.tables, now_ms)

    @property
    def prover(self) -> Prover:
        return Prover(self.home, self.far, self.tables, now_ms)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection as an application has it."""
        host, port = self.ground.endpoints.postgres.split(":")
        return psycopg.connect(
            host=host, port=int(port), user=POSTGRES_USER, dbname=database_name(CLUSTER, self.database), autocommit=True
        )

    def unaware(self, statement: str) -> None:
        """Change Spanner's rows as a program does that has never heard of versions."""
        database = self.spanner
        begin = spanner_calls.BeginTransactionRequest.pb()()
        begin.options.read_write.SetInParent()
        with database._lock:
            id = database._call("BeginTransaction", begin).id
            at = transaction.TransactionSelector.pb()(id=id)
            run = spanner_calls.ExecuteSqlRequest.pb()(sql=statement, seqno=1, transaction=at)
            database._call("ExecuteSql", run)
            database._call("Commit", spanner_calls.CommitRequest.pb()(transaction_id=id))

    def outbox(self) -> int:
        return int(self.data_api.execute("SELECT count(*) FROM lifeboat.outbox")[0][0])


def make_user_data(ground: GroundClient, tables: Sequence[Table] = REFERENCE_TABLES) -> UserDataSites:
    """Make both databases with their schemas."""
    name = f"u{next(_numbers)}-{os.getpid()}"
    host, port = ground.endpoints.postgres.split(":")
    with psycopg.connect(host=host, port=int(port), user=POSTGRES_USER, dbname="postgres", autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{database_name(CLUSTER, name)}"')
    sites = attach_user_data(ground, name, tables)
    migrate(sites.data_api)
    asyncio.run(_make_spanner(ground, INSTANCE, sites.spanner_name, spanner_ddl(tables)))
    return sites


def attach_user_data(ground: GroundClient, name: str, tables: Sequence[Table] = REFERENCE_TABLES) -> UserDataSites:
    """Return databases that are there already, for another process."""
    environment = ground.environment()
    client = boto3.client(
        "rds-data",
        region_name="us-east-1",
        endpoint_url=environment["AWS_ENDPOINT_URL_RDS_DATA"],
        aws_access_key_id="lifeboat",
        aws_secret_access_key="local",
        config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 2}),
    )
    data_api = DataApi(client, ARN, "arn:aws:secretsmanager:us-east-1:123456789012:secret:none", name)
    spanner_name = f"{INSTANCE}/databases/{name}"
    spanner = SpannerDatabase(open_channel(environment["SPANNER_EMULATOR_HOST"], HOST, None), spanner_name)
    return UserDataSites(
        ground,
        name,
        spanner_name,
        PostgresUserData(data_api, tables),
        SpannerUserData(spanner, tables, now_ms, null_elements=False),
        data_api,
        spanner,
        tables,
    )


async def _make_spanner(ground: GroundClient, instance: str, database: str, statements: list[str]) -> None:
    admin = SpannerAdmin(ground.endpoints.spanner)
    await admin.create_instance(instance)
    await admin.ensure_database(database, statements, len(statements))
    await admin.close()


def a_user(chance: random.Random, id: str | None = None) -> Row:
    """Return a user in canonical form with every type filled, or NULL where the table allows it."""
    from functions.userdata.values import from_postgres, row_from

    table = REFERENCE_TABLES[0]
    values: dict[str, Any] = {
        "id": id or str(uuid.UUID(int=chance.getrandbits(128))),
        "email": f"{chance.getrandbits(32):x}@ü.example",
        "name": chance.choice([None, "", "Zoë \U0001f6df", "tab\there"]),
        "active": chance.random() < 0.5,
        "visits": chance.choice([0, -1, 2**63 - 1, -(2**63), chance.getrandbits(40)]),
        "score": chance.choice([None, 0.0, 0.1, 1e300, 5e-324, "NaN", "-Infinity", chance.random()]),
        "balance": chance.choice([None, "0", "12.3400", "-9999999999999999.9999", str(chance.getrandbits(20))]),
        "born": chance.choice([None, "0001-01-01", "1999-12-31", "9999-12-31"]),
        "created_at": (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=chance.getrandbits(44))).isoformat(),
        "preferences": chance.choice(
            [None, {}, [], {"b": [1, 2.5, None, True, "x"], "a": {"é": Decimal("0.1")}}, "text", 7, False]
        ),
        "avatar": chance.choice([None, "\\x", "\\x00ff", "\\x" + chance.randbytes(20).hex()]),
        "tags": chance.choice([None, [], ["a", "", 'quo"te, {brace}\\']]),
        "limits": chance.choice([None, [], [1, -(2**63)]]),
        "flags": chance.choice([None, [], [True, False]]),
        "weights": chance.choice([None, [], [1.5, "Infinity", "NaN"]]),
        "prices": chance.choice([None, [], ["1.5000", "-0.0001"]]),
        "logins": chance.choice([None, [], ["2026-02-03T04:05:06.789+02:00"]]),
        "holidays": chance.choice([None, [], ["2026-12-25"]]),
        "devices": chance.choice([None, [], [str(uuid.UUID(int=7)).upper()]]),
        "keys": chance.choice([None, [], ["\\x00", "\\x"]]),
    }
    return row_from(values, table, from_postgres)


def an_order(chance: random.Random, user: str, id: str | None = None) -> Row:
    """Return an order of a user in canonical form."""
    from functions.userdata.values import from_postgres, row_from

    values: dict[str, Any] = {
        "id": id or str(uuid.UUID(int=chance.getrandbits(128))),
        "user_id": user,
        "product_ids": [str(chance.randrange(100)) for _ in range(chance.randrange(4))],
        "total": str(Decimal(chance.randrange(10**8)) / 100),
        "placed_at": "2026-03-04T05:06:07.000001+00:00",
        "details": chance.choice([None, {"gift": True}, {"note": "x" * chance.randrange(50)}]),
    }
    return row_from(values, REFERENCE_TABLES[1], from_postgres)
