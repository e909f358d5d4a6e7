"""Brings two tables to the same rows and proves it: bootstrap, repair of gaps, and failback are all this.

Digests say which leaves differ, entries of those leaves which keys, and only these rows are read again and merged, newer over
older, both ways. Writers go on meanwhile: what is applied passes the rule of the larger version like any replicated row, and the
digests of both scans are corrected by what the differing keys hold in the end, so equality is proven without scanning again.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from functions.errors import TransientError
from functions.features.apply import ParkingLot
from functions.features.envelope import peek
from functions.features.errors import EnvelopeError
from functions.features.reconcile.digest import LEAVES_PER_BRANCH, NODE_BYTES, Entry, Node, differing, node_of
from functions.features.reconcile.plan import Action, Decision, candidates, decide, takes_part
from functions.features.reconcile.survey import FreePace, Pace, Summary, Survey, pages_of
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.protocols import Applied, Row, RowStore
from functions.telemetry import LOGGER

_KEYS_PER_CALL = 100
# A key is judged again after every step: adopted, then sent, then seen equal; more rounds only serve live writes.
_ROUNDS = 6
_NAMED_KEYS = 100


@dataclass(frozen=True)
class Report:
    """What a reconciliation found and did.

    `digests` and `rows` are as they stand after it: the scan of each side, corrected by what was settled. `sent` counts rows
    by the site that got them, `adopted` by the site whose rows got versions. `unsettled` names keys that still differ, at most
    a hundred. `bytes_exchanged` are documents that one side reads of the other, `bytes_again` rows that were read twice.
    """

    run: str
    surveys: Mapping[Site, Summary]
    rows: Mapping[Site, int]
    digests: Mapping[Site, str]
    equal: bool
    differing: int
    sent: Mapping[Site, int]
    adopted: Mapping[Site, int]
    parked: int
    unsettled: tuple[str, ...]
    bytes_exchanged: int
    bytes_again: int


@dataclass
class _Progress:
    settled: dict[Site, Node]
    sent: Counter[Site] = field(default_factory=Counter)
    adopted: Counter[Site] = field(default_factory=Counter)
    parked: int = 0
    unsettled: list[str] = field(default_factory=list)
    bytes_again: int = 0


@dataclass(frozen=True)
class Reconciler:
    """Compares the surveys of both sites and, unless `repair` is off, merges what differs.

    `targets` are where rows are applied, the tables themselves unless attributes are merged by policies. Without repair a key
    counts as differing only if it still does after `wait` between rounds: rows on their way are no divergence.
    """

    surveys: Mapping[Site, Survey]
    parking: ParkingLot | None
    clock_ms: Callable[[], int]
    wait: Callable[[], None]
    plain_writers: frozenset[Site] = frozenset()
    targets: Mapping[Site, RowStore] = field(default_factory=dict)
    repair: bool = True
    pace: Pace = field(default_factory=FreePace)

    def run(self) -> Report:
        """Compare and repair. Both surveys must be done. Raises the stores' errors; a repeat goes on with what is left."""
        summaries = {site: survey.summary() for site, survey in self.surveys.items()}
        done = {site: summary for site, summary in summaries.items() if summary is not None}
        if len(done) < len(self.surveys):
            raise TransientError("a side is still being surveyed; reconcile when both are")
        listed, exchanged = self._listed()
        ours, theirs = self.surveys
        keys = candidates(listed[ours], listed[theirs])
        progress = _Progress({site: Node(each.rows, int(each.digest, 16)) for site, each in done.items()})
        for start in range(0, len(keys), _KEYS_PER_CALL):
            self._settle(keys[start : start + _KEYS_PER_CALL], listed, progress)
        nodes = progress.settled
        return Report(
            run=self.surveys[ours].run.name,
            surveys=done,
            rows={site: node.count for site, node in nodes.items()},
            digests={site: node.text for site, node in nodes.items()},
            equal=nodes[ours] == nodes[theirs],
            differing=len(keys),
            sent=dict(progress.sent),
            adopted=dict(progress.adopted),
            parked=progress.parked,
            unsettled=tuple(progress.unsettled[:_NAMED_KEYS]),
            bytes_exchanged=exchanged,
            bytes_again=progress.bytes_again,
        )

    def _listed(self) -> tuple[dict[Site, dict[str, Entry]], int]:
        """Return the entries of all leaves that differ, and the bytes of documents that were read for it."""
        ours, theirs = self.surveys.values()
        leaves: list[int] = []
        branches = differing(ours.branches(), theirs.branches())
        for branch in branches:
            found = differing(ours.leaves(branch), theirs.leaves(branch))
            leaves += [branch * LEAVES_PER_BRANCH + leaf for leaf in found]
        pages = pages_of(leaves)
        exchanged = LEAVES_PER_BRANCH * (1 + len(branches)) * NODE_BYTES
        listed: dict[Site, dict[str, Entry]] = {}
        for site, survey in self.surveys.items():
            listed[site] = {}
            summary = survey.summary()
            for share in range(summary.shares if summary and pages else 0):
                entries, fetched = survey.entries(share, pages)
                exchanged += fetched
                listed[site] |= {entry.key: entry for entry in entries}
        return listed, exchanged

    def _settle(self, keys: Sequence[str], listed: Mapping[Site, Mapping[str, Entry]], progress: _Progress) -> None:
        waiting = list(keys)
        rows: dict[Site, dict[str, Row]] = {}
        ended: dict[str, dict[Site, Row | None]] = {}
        for number in range(_ROUNDS):
            self.pace.take(len(waiting))
            rows = {site: survey.table.read(waiting) for site, survey in self.surveys.items()}
            progress.bytes_again += sum(len(row.envelope) for found in rows.values() for row in found.values())
            decisions = [self._decide(key, rows) for key in waiting]
            for decision in decisions:
                if decision.action in (Action.NOTHING, Action.PARK):
                    ended[decision.key] = {site: found.get(decision.key) for site, found in rows.items()}
                    self._park(decision, progress)
            open_ones = [each for each in decisions if each.action in (Action.SEND, Action.ADOPT)]
            waiting = [each.key for each in open_ones]
            if not waiting or number == _ROUNDS - 1:
                break
            if self.repair:
                refused = self._send(open_ones, progress)
                self._adopt(open_ones, progress)
                ended |= {key: {site: found.get(key) for site, found in rows.items()} for key in refused}
                waiting = [key for key in waiting if key not in refused]
            else:
                self.wait()
        for key in waiting:
            ended[key] = {site: found.get(key) for site, found in rows.items()}
            progress.unsettled.append(key)
        for key, standing in ended.items():
            for site, row in standing.items():
                entry = listed[site].get(key)
                before = Node() if entry is None else entry.node
                progress.settled[site] += self._node(site, row) - before

    def _decide(self, key: str, rows: Mapping[Site, Mapping[str, Row]]) -> Decision:
        standing = {site: found.get(key) for site, found in rows.items()}
        return decide(key, standing, self.clock_ms(), self._cutoff, self.plain_writers)

    @property
    def _cutoff(self) -> int:
        return max(survey.run.cutoff_seconds for survey in self.surveys.values())

    def _node(self, site: Site, row: Row | None) -> Node:
        if row is None:
            return Node()
        try:
            return node_of(row) if takes_part(peek(row.envelope), self._cutoff) else Node()
        except EnvelopeError as error:
            LOGGER.error("row %r at %s is unreadable: %s", row.key, site, error)
            return Node()

    def _send(self, decisions: Sequence[Decision], progress: _Progress) -> set[str]:
        """Apply rows where they are missing; returns the keys that a store will never take."""
        refused = set()
        for site, survey in self.surveys.items():
            rows = [each.row for each in decisions if each.action is Action.SEND and each.site is site and each.row]
            answers = self.targets.get(site, survey.table).apply(rows) if rows else []
            for row, answer in zip(rows, answers, strict=True):
                progress.sent[site] += answer is Applied.APPLIED
                if answer is Applied.REFUSED:
                    reason = f"row {row.key!r}, version {row.version}: refused by the store of {site}"
                    self._park(Decision(Action.PARK, row.key, site, row, row.version, reason), progress)
                    refused.add(row.key)
        return refused

    def _adopt(self, decisions: Sequence[Decision], progress: _Progress) -> None:
        for each in decisions:
            if each.action is Action.ADOPT and each.site is not None and each.row is not None:
                version = stamp(self.clock_ms(), each.last, each.site)
                table = self.surveys[each.site].table
                progress.adopted[each.site] += table.adopt(each.key, each.row.version or None, version) is not None

    def _park(self, decision: Decision, progress: _Progress) -> None:
        if decision.action is not Action.PARK:
            return
        progress.parked += 1
        progress.unsettled.append(decision.key)
        LOGGER.error("row parked", extra={"key": decision.key, "reason": decision.reason})
        if self.parking is not None and self.repair:
            content = {"key": decision.key, "site": decision.site, "version": decision.last}
            self.parking.park(decision.key, decision.reason, content)
