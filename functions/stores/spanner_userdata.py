"""User data in Spanner. Every row carries its version and a seal; a delete leaves a tombstone in the same transaction.

Spanner has no triggers: programs that know no versions are found by their rows' seals (userdata/change.py) and adopted, before
anything replicated is written over them.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import StoreRefusedError
from functions.stores.spanner import SpannerDatabase, Work
from functions.userdata.change import Change, key_of, key_text, key_values, ordered, parents_of, seal
from functions.userdata.errors import ValueRefusedError
from functions.userdata.protocols import Adoption, Answer, Fate, Page
from functions.userdata.schema import SEAL, TOMBSTONES, VERSION, Kind, Table
from functions.userdata.values import Row, from_spanner, row_from, to_spanner

# Mutations count per cell and index, 80,000 a commit (https://cloud.google.com/spanner/quotas); 500 rows of 20 columns are far
# below, and a commit that a change stream watches stays quick.
ROWS = 500
# An answer holds 10 MiB (Spanner RPC reference, Read): 500 rows of 20 KB.
_PAGE_ROWS = 500

Place = tuple[str, str]


@dataclass(frozen=True)
class _State:
    """What is stored for one key: the row with its version, or the tombstone's version, or nothing (version 0).

    `problem`: the row has no canonical form, for this reason.
    """

    version: int = 0
    row: Row | None = None
    sealed: bool = True
    problem: str = ""


class SpannerUserData:
    """The declared tables in Spanner.

    `null_elements`: whether arrays may hold NULL. Spanner's may; its emulator (1.5.28) ends at a commit of one to a table that a
    change stream watches, with everything that it holds.
    """

    def __init__(
        self,
        database: SpannerDatabase,
        tables: Sequence[Table],
        clock_ms: Callable[[], int],
        *,
        null_elements: bool = True,
        site: Site = Site.GCP,
    ) -> None:
        self._database = database
        self._tables = {table.name: table for table in tables}
        self._clock_ms = clock_ms
        self._null_elements = null_elements
        self._site = site

    def read(self, table: str, keys: Sequence[str]) -> dict[str, Change]:
        found: dict[str, Change] = {}
        for at in range(0, len(keys), ROWS):
            places = [(table, key) for key in keys[at : at + ROWS]]
            for (_, key), state in self._states(self._database, places).items():
                _refuse(state)
                if state.version or state.row is not None:
                    found[key] = Change(table, key, state.version, state.row)
        return found

    def apply(self, changes: Sequence[Change]) -> list[Answer]:
        answers: dict[Place, Answer] = {}
        sound: list[Change] = []
        for change in changes:
            reason = "" if change.row is None else self._refusal(change.row)
            if reason:
                answers[change.table, change.key] = Answer(Fate.REFUSED, reason)
            else:
                sound.append(change)
        for at in range(0, len(sound), ROWS):
            answers |= self._apply(ordered(sound[at : at + ROWS], list(self._tables.values())))
        return [answers[change.table, change.key] for change in changes]

    def bury(self, table: str, key: str, last: int) -> Change:
        def work(inside: Work) -> Change:
            known = self._states(inside, [(table, key)])[table, key]
            if known.version > last:
                return Change(table, key, known.version, known.row)
            return self._delete(inside, table, key, last)

        return self._database.transact(work, excluded=False)

    def adopt(self, table: str, key: str, last: int) -> Adoption:
        place = (table, key)

        def settled(state: _State) -> bool:
            _refuse(state)
            return bool(state.version and state.sealed)

        def work(inside: Work) -> Adoption:
            state = self._states(inside, [place])[place]
            if settled(state):
                return Adoption(Change(table, key, state.version, state.row), adopted=False)
            newest = max(last, state.version)
            if state.row is None:
                return Adoption(self._delete(inside, table, key, newest), adopted=True)
            return Adoption(self._put(inside, table, key, state.row, newest), adopted=True)

        # Most of what is asked for is settled: a plain read takes no locks.
        state = self._states(self._database, [place])[place]
        if settled(state):
            return Adoption(Change(table, key, state.version, state.row), adopted=False)
        return self._database.transact(work, excluded=False)

    def put(self, table: str, row: Row) -> Change:
        key = key_of(row, self._tables[table])
        if reason := self._refusal(row):
            raise StoreRefusedError(f"{table} {key}: {reason}")

        def work(inside: Work) -> Change:
            return self._put(inside, table, key, row, self._states(inside, [(table, key)])[table, key].version)

        return self._database.transact(work, excluded=False)

    def delete(self, table: str, key: str) -> Change | None:
        def work(inside: Work) -> Change | None:
            state = self._states(inside, [(table, key)])[table, key]
            there = state.row is not None or state.problem
            return self._delete(inside, table, key, state.version) if there else None

        return self._database.transact(work, excluded=False)

    def page(self, table: str, after: str | None) -> Page:
        declared = self._tables[table]
        names = self._columns(declared)
        condition, parameters = _after(declared, after)
        rows = self._database.query(
            f"SELECT {', '.join(names)} FROM {table}{condition} ORDER BY {', '.join(declared.key)} LIMIT {_PAGE_ROWS}",  # noqa: S608 - declared names
            **parameters,
        )
        changes: list[Change] = []
        refused: dict[str, str] = {}
        unsealed: list[str] = []
        key: str | None = None
        for values in rows:
            found = dict(zip(names, values, strict=True))
            key = key_text([found[name] for name in declared.key])
            state = self._state(declared, key, found)
            if state.problem:
                refused[key] = state.problem
            else:
                unsealed += [] if state.sealed else [key]
                changes.append(Change(table, key, state.version or stamp(0, 0, self._site), state.row))
        return Page(changes, key, refused, unsealed)

    def tombstones(self, table: str, after: str | None) -> Page:
        rows = self._database.query(
            f"SELECT key, {VERSION} FROM {TOMBSTONES} WHERE table_name = @name AND key > @after ORDER BY key LIMIT {ROWS}",  # noqa: S608 - constants
            name=table,
            after=after or "",
        )
        changes = [Change(table, key, int(version), None) for key, version in rows]
        return Page(changes, changes[-1].key if changes else None)

    def sweep(self, before: int) -> int:
        def work(inside: Work) -> int:
            old = inside.query(
                f"SELECT table_name, key FROM {TOMBSTONES} WHERE {VERSION} < @before LIMIT {ROWS}",  # noqa: S608 - constants
                before=before,
            )
            for place in old:
                inside.delete(TOMBSTONES, place)
            return len(old)

        removed = 0
        while some := self._database.transact(work, excluded=True):
            removed += some
        return removed

    def _apply(self, changes: Sequence[Change]) -> dict[Place, Answer]:
        """Apply at most ROWS changes in one transaction; what Spanner refuses is found by halves."""

        def work(inside: Work) -> tuple[dict[Place, Answer], list[Place]]:
            known = self._states(inside, [(change.table, change.key) for change in changes])
            unsealed = [place for place, state in known.items() if not state.sealed]
            if unsealed:
                return {}, unsealed
            fresh = [change for change in changes if change.version > known[change.table, change.key].version]
            waiting = self._waiting(inside, fresh)
            answers = {(change.table, change.key): Answer(Fate.STALE) for change in changes}
            for change in fresh:
                place = (change.table, change.key)
                answers[place] = Answer(Fate.WAITING if place in waiting else Fate.APPLIED)
                if place not in waiting:
                    self._write(inside, change)
            return answers, []

        try:
            while True:
                answers, unsealed = self._database.transact(work, excluded=True)
                if not unsealed:
                    return answers
                for table, key in unsealed:
                    self.adopt(table, key, 0)
        except StoreRefusedError as error:
            if len(changes) == 1:
                return {(changes[0].table, changes[0].key): Answer(Fate.REFUSED, str(error))}
            middle = len(changes) // 2
            return self._apply(changes[:middle]) | self._apply(changes[middle:])

    def _waiting(self, inside: Work, changes: Sequence[Change]) -> set[Place]:
        """Return the changes that foreign keys do not allow yet: parents missing, or children left."""
        here = {(change.table, change.key): change for change in changes}
        waiting: set[Place] = set()
        waiting |= self._without_children_gone(inside, here)
        # A row may depend on one that has to wait itself, so this goes on until nothing is added.
        wanted = {
            place: set(parents_of(change, self._tables[change.table]).items())
            for place, change in here.items()
            if not change.deleted
        }
        asked = sorted({parent for parents in wanted.values() for parent in parents if parent not in here})
        there = {place for place, state in self._existing(inside, asked).items() if state}
        while True:
            arriving = {place for place, change in here.items() if not change.deleted and place not in waiting}
            more = {
                place for place, parents in wanted.items() if place not in waiting and not parents <= there | arriving
            }
            if not more:
                return waiting
            waiting |= more

    def _without_children_gone(self, inside: Work, here: Mapping[Place, Change]) -> set[Place]:
        waiting: set[Place] = set()
        for child in self._tables.values():
            for column, parent in child.parents.items():
                gone = [key for (table, key), change in here.items() if table == parent and change.deleted]
                if not gone:
                    continue
                names = ", ".join(child.key)
                rows = inside.query(
                    f"SELECT CAST({column} AS STRING), {names} FROM {child.name}"  # noqa: S608 - declared names
                    f" WHERE CAST({column} AS STRING) IN UNNEST(@gone) LIMIT 10000",
                    gone=[key_values(key)[0] for key in gone],
                )
                for value, *key in rows:
                    change = here.get((child.name, key_text(key)))
                    if change is None or not change.deleted:
                        waiting.add((parent, key_text([value])))
        return waiting

    def _existing(self, inside: Work, places: Sequence[Place]) -> dict[Place, bool]:
        found: dict[Place, bool] = dict.fromkeys(places, False)
        for table in {table for table, _ in places}:
            keys = [key_values(key) for name, key in places if name == table]
            for row in inside.read(table, self._tables[table].key, keys):
                found[table, key_text(row)] = True
        return found

    def _states(self, reader: SpannerDatabase | Work, places: Sequence[Place]) -> dict[Place, _State]:
        found: dict[Place, _State] = dict.fromkeys(places, _State())
        for table_name, key, version in reader.read(TOMBSTONES, ("table_name", "key", VERSION), list(places)):
            found[table_name, key] = _State(int(version))
        for name in {table for table, _ in places}:
            table = self._tables[name]
            names = self._columns(table)
            for values in reader.read(name, names, [key_values(key) for wanted, key in places if wanted == name]):
                row = dict(zip(names, values, strict=True))
                place = (name, key_text([row[column] for column in table.key]))
                state = self._state(table, place[1], row)
                buried = found[place].version
                # A row beside its tombstone was put there by a program that knows of neither.
                found[place] = (
                    replace(state, version=max(buried, state.version), sealed=bool(state.problem)) if buried else state
                )
        return found

    def _state(self, table: Table, key: str, values: Mapping[str, object]) -> _State:
        version, mark = int(str(values[VERSION])), values[SEAL]
        try:
            row = row_from(values, table, from_spanner)
        except ValueRefusedError as error:
            return _State(version, problem=str(error))
        sealed = mark == base64.b64encode(seal(Change(table.name, key, version, row))).decode()
        return _State(version, row, sealed)

    def _put(self, inside: Work, table: str, key: str, row: Row, last: int) -> Change:
        change = Change(table, key, stamp(self._clock_ms(), last, self._site), row)
        self._write(inside, change)
        return change

    def _delete(self, inside: Work, table: str, key: str, last: int) -> Change:
        change = Change(table, key, stamp(self._clock_ms(), last, self._site), None)
        self._write(inside, change)
        return change

    def _write(self, inside: Work, change: Change) -> None:
        table = self._tables[change.table]
        place = (change.table, change.key)
        if change.row is None:
            inside.delete(change.table, key_values(change.key))
            inside.put(TOMBSTONES, {"table_name": change.table, "key": change.key, VERSION: str(change.version)})
            return
        values = {name: to_spanner(change.row[name], table.type_of(name)) for name in table.columns}
        values |= {VERSION: str(change.version), SEAL: base64.b64encode(seal(change)).decode()}
        inside.put(change.table, values)
        inside.delete(TOMBSTONES, place)

    def _refusal(self, row: Row) -> str:
        if self._null_elements or not any(isinstance(value, list) and None in value for value in row.values()):
            return ""
        return "NULL inside an array, which the Spanner emulator does not survive"

    @staticmethod
    def _columns(table: Table) -> tuple[str, ...]:
        return (*table.columns, VERSION, SEAL)


def _refuse(state: _State) -> None:
    if state.problem:
        raise ValueRefusedError(state.problem)


def _after(table: Table, after: str | None) -> tuple[str, dict[str, str | int]]:
    """Return the condition and parameters for keys that come after one, in the order of the primary key."""
    if after is None:
        return "", {}
    values = key_values(after)
    parameters: dict[str, str | int] = {}
    for name, value in zip(table.key, values, strict=True):
        parameters[f"k_{name}"] = int(value) if table.type_of(name).kind is Kind.INTEGER else value
    alternatives = []
    for place, name in enumerate(table.key):
        equal = [f"{before} = @k_{before}" for before in table.key[:place]]
        alternatives.append(" AND ".join([*equal, f"{name} > @k_{name}"]))
    return " WHERE " + " OR ".join(f"({each})" for each in alternatives), parameters
