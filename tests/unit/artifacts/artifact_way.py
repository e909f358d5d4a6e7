"""Both sites in memory, and the path between them driven by hand."""

from pathlib import Path

from memory_objects import NOW_MS, MemoryObjects, MemoryQueue
from signing import authority, trust

from functions.artifacts import plan
from functions.artifacts.announce import Announcer
from functions.artifacts.documents import Transfer, find
from functions.artifacts.encode import Encoder
from functions.artifacts.manifest import decode
from functions.artifacts.paths import file_key, manifest_key, transfer_key
from functions.artifacts.publish import Published, publish
from functions.artifacts.rebuild import Rebuilder
from functions.artifacts.receive import Receiver
from functions.artifacts.verify import verify
from functions.settings import Site

# The least that settings allow: the test's model then has several chunks a file.
CHUNK_BYTES = 10 << 20


def clock_ms() -> int:
    return NOW_MS


class Way:
    """Both sites and what lies between them, from one to the other."""

    def __init__(self, site: Site = Site.AWS) -> None:
        self.site = site
        self.here, self.there = MemoryObjects(), MemoryObjects()
        self.jobs, self.topic, self.arrived = MemoryQueue(), MemoryQueue(), MemoryQueue()

    @property
    def back(self) -> "Way":
        """The same two sites, the other way."""
        back = Way(self.site.peer)
        back.here, back.there = self.there, self.here
        return back

    def publish(self, folder: Path, **more: object) -> Published:
        return publish(
            folder,
            "m",
            self.here,
            site=self.site,
            authority=authority(self.site),
            clock_ms=clock_ms,
            **more,  # type: ignore[arg-type]
        )

    def announce(self, key: str) -> None:
        Announcer(self.site, self.here, self.there, self.jobs, self.arrived, CHUNK_BYTES, trust()).run(key)

    def encode_all(self) -> None:
        encoder = Encoder(self.here, self.there, self.topic)
        for message in self.jobs.messages:
            encoder.run(plan.decode_sending_job(message.body))

    @property
    def rebuilder(self) -> Rebuilder:
        return Rebuilder(self.site.peer, self.there, self.here, self.jobs, clock_ms, trust())

    def rebuild(self, body: str) -> bool:
        return Receiver(self.rebuilder).run(body).complete

    def travel(self, version: str) -> None:
        """Run every queue until it is empty."""
        self.announce(manifest_key("m", version))
        while self.jobs.messages:
            self.encode_all()
            self.jobs.messages.clear()
            for message in self.topic.messages:
                self.rebuild(message.body)
            self.topic.messages.clear()

    def wire(self, version: str) -> int:
        """Return the bytes that crossed for a version."""
        found = find(self.there, transfer_key("m", version), Transfer)
        assert found is not None
        return found[0].bytes_wire

    def verify(self, version: str) -> None:
        verify(self.there, "m", version, site=self.site.peer, trust=trust(), clock_ms=clock_ms, again=True)

    def whole(self, version: str) -> bool:
        """Tell whether the far side holds the very files and manifest of the near one."""
        manifest = decode(self.here.objects[manifest_key("m", version)][0], "m", version)
        keys = [manifest_key("m", version), *(file_key("m", version, file.path) for file in manifest.files)]
        return all(
            key in self.there.objects and self.there.objects[key][0] == self.here.objects[key][0] for key in keys
        )
