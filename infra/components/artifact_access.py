"""What each step of the artifact path may touch: one table for both sites, "home" and "away" seen from where it runs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.naming import (
    ALIASES,
    AUDITS,
    CHAIN,
    INBOX,
    MANIFESTS,
    MODELS,
    PACKS,
    PARTS,
    PENDING,
    RECEIPTS,
    TOMBSTONES,
    TRANSFERS,
    VERDICTS,
)


class Step(StrEnum):
    """A function of the path; it stands on both sites."""

    PLAN = "plan"
    ENCODE = "encode"
    REBUILD = "rebuild"
    SWEEP = "sweep"
    INBOX = "inbox"
    AUDIT = "audit"


class Queue(StrEnum):
    """A site's queue of the path: batches that it is to send, packs that it has received."""

    JOBS = "jobs"
    REBUILDS = "rebuild"


@dataclass(frozen=True, kw_only=True)
class Access:
    """Prefixes of object names in one bucket; whoever writes may read what stands there. `lists`: may list the bucket.

    Without the right to list, a missing object is answered as a forbidden one.
    """

    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    deletes: Sequence[str] = ()
    lists: bool = True


@dataclass(frozen=True, kw_only=True)
class Duties:
    """One step's rights: on its own site's bucket, on the other's, and the queues that it sends to on either."""

    home: Access
    away: Access
    sends_home: Sequence[Queue] = ()
    sends_away: Sequence[Queue] = ()
    # Opens the third copy, and so reads its access key.
    third: bool = False
    # Makes statements, and so uses its site's signing key.
    signs: bool = False

    @property
    def crosses(self) -> bool:
        """Whether the step has any business with the other cloud, and so an identity there."""
        return bool(self.away.reads or self.away.writes or self.away.lists or self.sends_away)


DUTIES: Mapping[Step, Duties] = {
    Step.PLAN: Duties(
        home=Access(reads=(MANIFESTS, ALIASES, RECEIPTS)),
        away=Access(reads=(MANIFESTS, RECEIPTS), writes=(ALIASES, PENDING)),
        sends_home=(Queue.JOBS, Queue.REBUILDS),
    ),
    Step.ENCODE: Duties(
        # Aliases and whole files go to the third copy from here.
        home=Access(reads=(MODELS, MANIFESTS, ALIASES)),
        away=Access(writes=(PACKS,), lists=False),
        sends_away=(Queue.REBUILDS,),
        third=True,
    ),
    Step.REBUILD: Duties(
        home=Access(
            writes=(PACKS, PENDING, PARTS, MODELS, MANIFESTS, TRANSFERS, RECEIPTS, ALIASES),
            deletes=(PACKS, PENDING, PARTS, MODELS),
        ),
        away=Access(reads=(ALIASES,)),
        sends_away=(Queue.JOBS,),
    ),
    Step.SWEEP: Duties(
        home=Access(reads=(MANIFESTS, ALIASES), deletes=(PACKS, PENDING, PARTS, MODELS)),
        away=Access(reads=(MANIFESTS, RECEIPTS), writes=(ALIASES, PENDING)),
        sends_home=(Queue.JOBS, Queue.REBUILDS),
        third=True,
    ),
    Step.INBOX: Duties(
        home=Access(
            reads=(TOMBSTONES,),
            writes=(INBOX, MODELS, MANIFESTS, CHAIN, VERDICTS, ALIASES),
            deletes=(INBOX, MODELS),
        ),
        away=Access(lists=False),
        signs=True,
    ),
    Step.AUDIT: Duties(
        home=Access(
            reads=(ALIASES,),
            writes=(MODELS, MANIFESTS, RECEIPTS, TRANSFERS, VERDICTS, CHAIN, TOMBSTONES, AUDITS),
            deletes=(MODELS, MANIFESTS, RECEIPTS, TRANSFERS, VERDICTS),
        ),
        away=Access(reads=(MODELS, MANIFESTS, ALIASES, RECEIPTS), writes=(TOMBSTONES,)),
        third=True,
        signs=True,
    ),
}
