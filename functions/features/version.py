"""Versions of feature rows: milliseconds rounded down to a multiple of 4, plus the number of the site that stamped.

So two sites never tie, the origin can be read off any row, times 1,000 it is a legal Bigtable timestamp (whole milliseconds), it
stays a real time, and it fits a DynamoDB number. Time is always an argument.
"""

from functions.settings import Site

# Two low bits hold the site: up to four sites.
STEP_MS = 4

# A version further ahead of the clock than this is parked, so one bad clock can't win for ever. A minute is far above what
# time services of both clouds let a clock drift.
SKEW_BOUND_MS = 60_000

_NUMBERS = {Site.AWS: 0, Site.GCP: 1}
_SITES = {number: site for site, number in _NUMBERS.items()}


def stamp(now_ms: int, last: int, site: Site) -> int:
    """Return the version for a write at `now_ms` over a row whose newest known version is `last` (0: none known).

    It is larger than `last` whatever the clock says, and no other site can give the same.
    """
    return max(now_ms - now_ms % STEP_MS, last - last % STEP_MS + STEP_MS) + _NUMBERS[site]


def origin(version: int) -> Site | None:
    """Return the site that stamped `version`, None for a number that no site has."""
    return _SITES.get(version % STEP_MS)


def written_ms(version: int) -> int:
    """Return the time of the write in epoch milliseconds, to the step."""
    return version - version % STEP_MS


def beyond_skew(version: int, now_ms: int) -> bool:
    """Return whether `version` lies further in the future than clocks of a healthy site can."""
    return written_ms(version) > now_ms + SKEW_BOUND_MS
