"""One kind of live data in a run: programs that write it on both sites, watches that measure its lag, and what a loss cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from functions.errors import FunctionError
from functions.settings import Site
from operate.demo.sites import wait_until
from operate.demo.writers import Acknowledged, LagWatch, Load, Writer, missing, read_all
from operate.report.result import LagSample

SETTLE_LIMIT_SECONDS = 150.0


@dataclass(frozen=True)
class Cut:
    """What a site had acknowledged when it was lost, and what of it the other one lacked."""

    at: float
    acknowledged: list[Acknowledged]
    unreplicated: list[Acknowledged]

    @property
    def rpo_seconds(self) -> float:
        """Return how old the oldest write was that the other site lacked, 0 when it had all."""
        return max((max(0.0, self.at - write.at) for write in self.unreplicated), default=0.0)


class LiveData:
    """A load with a program at home on each site, and a watch that reads each site for the other's writes."""

    def __init__(self, load: Load, rows_per_second: Mapping[Site, float], began: float, look_seconds: float) -> None:
        self._load = load
        self._writers = {
            site: Writer(load, site, chooser, rows_per_second[site]) for chooser, site in enumerate(rows_per_second)
        }
        writers = list(self._writers.values())
        self._watches = {site: LagWatch(load, site, writers, began, look_seconds) for site in Site}

    @property
    def name(self) -> str:
        """Return what the data is called."""
        return self._load.name

    def start(self) -> None:
        """Start writing and watching."""
        for writer in self._writers.values():
            writer.start()
        for watch in self._watches.values():
            watch.start()

    def move(self, home: Site, to: Site) -> None:
        """Let the program that is at home on a site write to another one from its next row on."""
        self._writers[home].move(to)

    def stop_writing(self) -> None:
        """Stop writing; the watches go on."""
        for writer in self._writers.values():
            writer.stop()

    def stop(self) -> None:
        """Stop everything."""
        self.stop_writing()
        for watch in self._watches.values():
            watch.stop()

    def acknowledged(self, site: Site | None = None) -> list[Acknowledged]:
        """Return the acknowledged writes, of one site or all."""
        writes = [write for writer in self._writers.values() for write in list(writer.acknowledged)]
        return [write for write in writes if site in (None, write.site)]

    @property
    def refused(self) -> int:
        """Return how many writes no site took."""
        return sum(writer.refused for writer in self._writers.values())

    def lags(self, reader: Site) -> list[LagSample]:
        """Return the measured ways of rows to a site."""
        return list(self._watches[reader].samples)

    def cut(self, lost: Site, at: float) -> Cut:
        """Look at what the site that is left has of the other's acknowledged writes."""
        writes = self.acknowledged(lost)
        there = read_all(lambda keys: self._load.versions(lost.peer, keys), {write.key for write in writes})
        return Cut(at, writes, missing(writes, there))

    def settle(self) -> float:
        """Wait until each site has every write that the other one took; return the seconds it took."""

        def settled() -> tuple[bool, str]:
            late = {site: self._late(site) for site in Site}
            told = ", ".join(f"{len(some)} on {site} such as {some[:2]}" for site, some in late.items() if some)
            return not any(late.values()), f"writes not there: {told}"

        return wait_until(settled, SETTLE_LIMIT_SECONDS, f"{self.name} of each site on the other")

    def lost(self, cut: Cut) -> int:
        """Return how many of the writes that a site had acknowledged at its loss the other one has not come to."""
        keys = {write.key for write in cut.acknowledged}
        return len(missing(cut.acknowledged, read_all(lambda some: self._load.versions(Site.GCP, some), keys)))

    def _late(self, reader: Site) -> list[Acknowledged]:
        writes = self.acknowledged(reader.peer)
        try:
            there = read_all(lambda keys: self._load.versions(reader, keys), {write.key for write in writes})
        except FunctionError:
            return writes
        return missing(writes, there)
