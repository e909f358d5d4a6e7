"""Publishing from the command line: progress for people, the stack's own buckets and keys."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from functions.artifacts.alias import resolve
from functions.artifacts.lineage import read_lineage
from functions.artifacts.publish import Published, publish
from functions.settings import Site
from functions.stores.clients import Clients
from operate.errors import LifeboatError


@dataclass(frozen=True)
class Request:
    """What is to be published where; `parent` is a version or an alias, `lineage` a file of JSON."""

    folder: Path
    model: str
    site: str
    parent: str | None = None
    alias: str | None = None
    lineage: Path | None = None
    epoch: int = 0


def publish_folder(clients: Clients, request: Request, tell: Callable[[str], None]) -> Published:
    """Publish a folder at a site and return the version. Raises the errors of `functions.artifacts.publish`."""
    if request.site not in set(Site):
        raise LifeboatError(f"site {request.site!r} is unknown; it may be {' or '.join(Site)}")
    at = Site(request.site)
    store = clients.objects(at)
    lineage = read_lineage(request.lineage.read_text(encoding="utf-8")) if request.lineage else None
    parent = resolve(store, request.model, request.parent) if request.parent else None
    what = f"publishing {request.folder} as {request.model} at {at}"
    tell(what)
    return publish(
        request.folder,
        request.model,
        store,
        site=at,
        authority=clients.authority(at),
        parent=parent,
        alias=request.alias,
        lineage=lineage,
        epoch=request.epoch,
        golden=clients.golden(at),
        clock_ms=lambda: time.time_ns() // 1_000_000,
        progress=lambda done, total: tell(f"{what}; {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"),
    )
