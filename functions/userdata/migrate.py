"""Bring the database's schema in line: every file of migrations/ once, in order of names, each in a transaction of its own."""

from collections.abc import Iterator
from pathlib import Path

from functions.stores.postgres import DataApi

FOLDER = Path(__file__).parent / "migrations"
# One migrator at a time; any number that nobody else takes.
_LOCK = 7_305_813_211_664


def statements(text: str) -> Iterator[str]:
    """Yield the statements of a file: the Data API takes one at a time. Semicolons in $$ bodies and comments end none."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if not inside and line.lstrip().startswith("--"):
            continue
        inside ^= line.count("$$") % 2 == 1
        lines.append(line)
        if not inside and line.rstrip().endswith(";"):
            yield "\n".join(lines).strip()
            lines = []
    if "".join(lines).strip():
        yield "\n".join(lines).strip()


def migrate(database: DataApi, drain: str | None = None) -> list[str]:
    """Run what has not run yet and return its names; `drain` is the function that the database calls at every commit."""
    ran: list[str] = []
    database.execute("CREATE SCHEMA IF NOT EXISTS lifeboat")
    database.execute(
        "CREATE TABLE IF NOT EXISTS lifeboat.migrations (name text PRIMARY KEY, ran_at timestamptz DEFAULT now())"
    )
    for path in sorted(FOLDER.glob("*.sql")):
        with database.transaction() as transaction:
            database.execute("SELECT pg_advisory_xact_lock(:lock)::text", transaction, lock=_LOCK)
            if database.execute("SELECT 1 FROM lifeboat.migrations WHERE name = :name", transaction, name=path.stem):
                continue
            for statement in statements(path.read_text(encoding="utf-8")):
                database.execute(statement, transaction)
            database.execute("INSERT INTO lifeboat.migrations (name) VALUES (:name)", transaction, name=path.stem)
            ran.append(path.stem)
    # Aurora calls functions only with this extension (https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/PostgreSQL-Lambda.html);
    # a server without it is drained by the schedule alone.
    if database.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'aws_lambda'"):
        database.execute("CREATE EXTENSION IF NOT EXISTS aws_lambda CASCADE")
    if drain:
        database.execute(
            "INSERT INTO lifeboat.settings (name, value) VALUES ('drain', :value)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            value=drain,
        )
    return ran
