"""Publishing from the command line: progress for people, the stack's own buckets."""

import time
from collections.abc import Callable
from pathlib import Path

from functions.artifacts.publish import Published, publish
from functions.settings import Site
from functions.stores.clients import Clients
from operate.errors import LifeboatError


def publish_folder(
    clients: Clients,
    folder: Path,
    model: str,
    *,
    site: str,
    parent: str | None,
    alias: str | None,
    tell: Callable[[str], None],
) -> Published:
    """Publish a folder at a site and return the version. Raises the errors of `functions.artifacts.publish`."""
    if site not in set(Site):
        raise LifeboatError(f"site {site!r} is unknown; it may be {' or '.join(Site)}")
    at = Site(site)
    what = f"publishing {folder} as {model} at {at}"
    tell(what)
    return publish(
        folder,
        model,
        clients.objects(at),
        site=at,
        authority=clients.authority(at),
        parent=parent,
        alias=alias,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        progress=lambda done, total: tell(f"{what}; {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"),
    )
