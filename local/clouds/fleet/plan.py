"""What a fleet does next: a pure step from the instances there are to those that should be.

Size first, template second. Too many: the ones on an old template go first, then those that are not ready, then the
newest, because the oldest have warm caches and have proven themselves. A changed template is rolled out one instance at
a time, each old one leaving only after a new one is ready, so the fleet never serves with fewer than its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# A new instance that answers but is not ready within this time does not hold a rollout up: a standby site's instances
# may be unready for reasons of their role.
ROLLOUT_READY_LIMIT_SECONDS = 30.0
RESTART_FIRST_SECONDS = 0.2
# A service that cannot start must not eat the host; one that waits for its cloud to come back must not wait long.
RESTART_LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class InstanceView:
    """An instance as the plan sees it; times in seconds on the fleet's clock."""

    id: str
    template: str
    created_seconds: float
    ready: bool
    healthy_since_seconds: float | None

    def in_service(self, now_seconds: float) -> bool:
        """Whether a rollout may go on to the next instance because of this one."""
        if self.ready:
            return True
        since = self.healthy_since_seconds
        return since is not None and now_seconds - since >= ROLLOUT_READY_LIMIT_SECONDS


@dataclass(frozen=True)
class Step:
    """Instances to start on the present template, and ids to take out of service."""

    launch: int = 0
    retire: tuple[str, ...] = ()


def next_step(instances: Sequence[InstanceView], wanted: int, template: str, roll: bool, now_seconds: float) -> Step:
    """Return the next step; an empty one means the fleet is as it should be, or waits for a new instance.

    `instances` are those that run and are not on their way out. `roll` says whether instances on another template are
    replaced; if not they stay until they die.
    """
    missing = wanted - len(instances)
    if missing > 0:
        return Step(launch=missing)
    outdated = [i for i in instances if roll and i.template != template]
    current = len(instances) - len(outdated)
    if not outdated or wanted == 0:
        return Step(retire=_surplus(instances, -missing, template if roll else ""))
    fresh_in_service = sum(1 for i in instances if i.template == template and i.in_service(now_seconds))
    # Old ones may go for as many new ones as serve; surplus beyond the one in transit goes at once.
    removable = min(len(outdated), max(0, len(instances) - wanted - (current - fresh_in_service)))
    if removable:
        return Step(retire=_surplus(outdated, removable, template))
    return Step(launch=1) if len(instances) == wanted else Step()


def _surplus(instances: Sequence[InstanceView], count: int, template: str) -> tuple[str, ...]:
    # `instances` is in order of start, which decides between two of the same moment.
    numbered = sorted(
        enumerate(instances),
        key=lambda pair: (
            pair[1].template == template or not template,
            pair[1].ready,
            -pair[1].created_seconds,
            -pair[0],
        ),
    )
    return tuple(instance.id for _, instance in numbered[:count])


def restart_delay_seconds(deaths_in_a_row: int) -> float:
    """Return how long to wait before the next start after so many deaths without a settled life between them."""
    doublings = min(max(0, deaths_in_a_row - 1), 16)
    return float(min(RESTART_LIMIT_SECONDS, RESTART_FIRST_SECONDS * 2**doublings))
