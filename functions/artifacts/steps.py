"""The steps of the path as a site runs them: the same on both, with the stores and queues of the two swapped.

Each is made once for a process and settings, so that what it keeps (manifests, connections) serves the next event too.
"""

import time
from collections.abc import Callable
from functools import lru_cache

from functions import telemetry
from functions.artifacts.announce import Announcer
from functions.artifacts.audit import Audited, Auditor
from functions.artifacts.encode import Encoder
from functions.artifacts.inbox import Inbox
from functions.artifacts.measures import AUDIT, BYTES_WIRE, ENCODE, MISMATCHES, PATH, THIRD
from functions.artifacts.plan import ThirdJob, decode_sending_job
from functions.artifacts.rebuild import Rebuilder
from functions.artifacts.receive import Receiver
from functions.artifacts.record import Recorder
from functions.artifacts.sweep import DAY_MS, SWEEP_MS, Sweeper, Swept
from functions.artifacts.third import ThirdCopier
from functions.artifacts.transfer import Pace, PatientObjects
from functions.errors import SettingsError
from functions.settings import MEBIBYTE, Settings, Site
from functions.stores.clients import Clients

# Parts of one size for R2; a few of them are in memory at once.
THIRD_PART_BYTES = 32 * MEBIBYTE

Handle = Callable[[str], None]


def announcer(found: Settings, clients: Clients) -> Announcer:
    """Return what handles new manifests and aliases of this site."""
    return Announcer(
        site=found.site,
        here=clients.objects(found.site),
        there=clients.objects(found.site.peer),
        jobs=clients.artifact_jobs(found.site),
        rebuilds=clients.artifact_rebuilds(found.site),
        chunk_bytes=found.chunk_bytes,
        trust=clients.trust,
        third=found.third_bucket is not None,
    )


def sender(found: Settings, clients: Clients) -> Handle:
    """Return what handles the body of one message that names a batch to send, or files for the third copy."""
    encoder = _encoder(clients, found.site, found.bytes_per_second)

    def handle(body: str) -> None:
        started = time.monotonic()
        job = decode_sending_job(body)
        if isinstance(job, ThirdJob):
            copy(job, started)
            return
        sent = encoder.run(job)
        telemetry.emit(
            found.metrics_namespace,
            {"site": found.site, "path": PATH, "step": ENCODE},
            {
                "bytes_raw": (sent.bytes_raw, "Bytes"),
                "bytes_known": (sent.bytes_known, "Bytes"),
                BYTES_WIRE: (sent.bytes_wire, "Bytes"),
                "seconds": (time.monotonic() - started, "Seconds"),
            },
        )

    def copy(job: ThirdJob, started: float) -> None:
        if clients.third is None:
            raise SettingsError("there is no third copy to bring a version to; name its bucket in the environment")
        done = ThirdCopier(
            PatientObjects(clients.objects(found.site)),
            clients.third,
            THIRD_PART_BYTES,
            clients.trust,
            _pace(found.bytes_per_second),
        ).run(job)
        telemetry.emit(
            found.metrics_namespace,
            {"site": found.site, "path": PATH, "step": THIRD},
            {
                "completed": (int(done.complete), "Count"),
                "bytes_raw": (done.bytes_raw, "Bytes"),
                BYTES_WIRE: (done.bytes_wire, "Bytes"),
                "seconds": (time.monotonic() - started, "Seconds"),
            },
        )

    return handle


def receiver(found: Settings, clients: Clients, clock_ms: Callable[[], int]) -> Handle:
    """Return what handles the body of one message about what has arrived here."""
    receive = Receiver(
        Rebuilder(
            site=found.site,
            store=PatientObjects(clients.objects(found.site)),
            origin=clients.objects(found.site.peer),
            asks=clients.artifact_jobs(found.site.peer),
            clock_ms=clock_ms,
            trust=clients.trust,
        )
    )

    def handle(body: str) -> None:
        done = receive.run(body)
        telemetry.emit(
            found.metrics_namespace,
            {"site": found.site, "path": PATH, "step": done.step},
            {
                "completed": (int(done.bytes_raw > 0), "Count"),
                "bytes_raw": (done.bytes_raw, "Bytes"),
                BYTES_WIRE: (done.bytes_wire, "Bytes"),
                "seconds": (done.seconds, "Seconds"),
            },
        )

    return handle


def sweep(found: Settings, clients: Clients, clock_ms: Callable[[], int]) -> Swept:
    """Compare both sites once and repair what is this one's; the files of all versions are looked through once a day."""
    now_ms = clock_ms()
    swept = Sweeper(
        site=found.site,
        here=PatientObjects(clients.objects(found.site)),
        there=PatientObjects(clients.objects(found.site.peer)),
        jobs=clients.artifact_jobs(found.site),
        rebuilds=clients.artifact_rebuilds(found.site),
        chunk_bytes=found.chunk_bytes,
        clock_ms=clock_ms,
        trust=clients.trust,
        third=clients.third,
    ).run(deep=now_ms % DAY_MS < SWEEP_MS)
    telemetry.emit(
        found.metrics_namespace,
        {"site": found.site, "path": PATH, "step": "sweep"},
        {
            "sent": (swept.sent, "Count"),
            "proven": (swept.proven, "Count"),
            "carried": (swept.carried, "Count"),
            "deleted": (swept.deleted, "Count"),
            "open": (swept.open, "Count"),
            "third": (swept.third, "Count"),
            "seconds": ((clock_ms() - now_ms) / 1000, "Seconds"),
        },
    )
    return swept


def inbox(found: Settings, clients: Clients, clock_ms: Callable[[], int]) -> Inbox:
    """Return what makes versions of files that were left in this site's inbox."""
    store = PatientObjects(clients.objects(found.site))
    return Inbox(
        store,
        Recorder(store, found.site, clients.authority(found.site), clock_ms, clients.golden(found.site)),
    )


def audit(found: Settings, clients: Clients, clock_ms: Callable[[], int], ending: Callable[[], bool]) -> Audited:
    """Look at this site's versions once, as its daily clock asks for it."""
    began_ms = clock_ms()
    done = Auditor(
        site=found.site,
        here=PatientObjects(clients.objects(found.site)),
        there=PatientObjects(clients.objects(found.site.peer)),
        authority=clients.authority(found.site),
        rule=found.retention,
        clock_ms=clock_ms,
        third=clients.third,
    ).run(ending)
    telemetry.emit(
        found.metrics_namespace,
        {"site": found.site, "path": PATH, "step": AUDIT},
        {
            "versions": (done.versions, "Count"),
            "read": (done.read, "Count"),
            "bytes_read": (done.bytes_read, "Bytes"),
            MISMATCHES: (done.mismatches, "Count"),
            "retired": (done.retired, "Count"),
            "deleted": (done.deleted, "Count"),
            "seconds": ((clock_ms() - began_ms) / 1000, "Seconds"),
        },
    )
    return done


@lru_cache(maxsize=4)
def _pace(bytes_per_second: int) -> Pace:
    """Return the one pace of this process: packs for the other site and files for the third copy share its rate."""
    return Pace(bytes_per_second)


@lru_cache(maxsize=4)
def _encoder(clients: Clients, here: Site, bytes_per_second: int) -> Encoder:
    return Encoder(
        PatientObjects(clients.objects(here)),
        PatientObjects(clients.objects(here.peer), _pace(bytes_per_second)),
        clients.artifact_rebuilds(here.peer),
    )
