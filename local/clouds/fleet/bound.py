"""How many instances of a fleet this machine carries."""

import os

BOUND_VARIABLE = "LIFEBOAT_FLEET_BOUND"
# An instance holds the model, its features' cache and numpy: some 300 MB here. Two GiB an instance leaves three quarters
# of the memory to the emulators, the engine and the other site's fleet.
BYTES_PER_INSTANCE = 2 * 1024**3
# One instance would make every replacement an outage, which no fleet of the size that was asked for would have.
INSTANCES_AT_LEAST = 2


def host_bound() -> int:
    """Return the largest number of instances per fleet: one a core, bounded by memory, at least two.

    The environment variable LIFEBOAT_FLEET_BOUND overrides it.
    """
    configured = os.environ.get(BOUND_VARIABLE)
    if configured:
        return max(0, int(configured))
    by_memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // BYTES_PER_INSTANCE
    return max(INSTANCES_AT_LEAST, min(os.cpu_count() or 1, by_memory))
