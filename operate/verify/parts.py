"""The parts that `verify` is composed of: each is a function from a deployed stack to the parity of some stores.

A part that a stack does not have, or that this machine can't run, is skipped by name and never counts as equal or not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from functions.stores.clients import Clients
from local.ground import user_data
from operate.access import places
from operate.output import Progress
from operate.verify.features import verify_features
from operate.verify.models import parity, verify_models
from operate.verify.parity import StoreParity
from operate.verify.users import Databases, verify_users


@dataclass(frozen=True)
class Subject:
    """What is verified: a stack's stores, the time, and whether what differs is to be mended where the part can.

    `on_this_machine`: the stack lives on the local ground, which lacks what the machine lacks. `sample`: how many model versions
    are read back whole, None for all of them; metadata of all is compared in any case.
    """

    clients: Clients
    clock_ms: Callable[[], int]
    on_this_machine: bool
    repair: bool = False
    # Versions of models that are read back whole, all of them if it is None.
    sample: int | None = None


Part = Callable[[Subject, Progress], Sequence[StoreParity]]


def features(subject: Subject, tell: Progress) -> Sequence[StoreParity]:
    """Features and sessions: one table a side."""
    return [verify_features(subject.clients, subject.clock_ms, tell)]


def models(subject: Subject, tell: Progress) -> Sequence[StoreParity]:
    """Models: every version at both sites and in the third copy."""
    found = subject.clients
    at = places(found)
    verified = verify_models(
        at, found.trust, clock_ms=subject.clock_ms, tell=tell, sample=subject.sample, repair=subject.repair
    )
    return [parity(verified)]


def users(subject: Subject, tell: Progress) -> Sequence[StoreParity]:
    """User data: every declared table."""
    if not subject.clients.has_user_data:
        return [StoreParity("userdata", equal=None, skipped="this stack has none (lifeboat:userData)")]
    if subject.on_this_machine and (reason := user_data.missing()):
        return [StoreParity("userdata", equal=None, skipped=reason)]
    databases = Databases.of(subject.clients, subject.clock_ms)
    return verify_users(databases, subject.clock_ms, tell, repair=subject.repair)


FEATURES, MODELS, USERS = "features", "models", "users"
# In the order in which they are told.
PARTS: Mapping[str, Part] = {FEATURES: features, MODELS: models, USERS: users}


def run(names: Sequence[str], subject: Subject, tell: Progress) -> list[StoreParity]:
    """Run some parts and return all parities in their order. Raises what a part raises."""
    return [parity for name in names for parity in PARTS[name](subject, tell)]
