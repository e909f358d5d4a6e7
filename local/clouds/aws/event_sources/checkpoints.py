"""Where each mapping stands in its stream, kept so that a killed cloud process goes on where it was."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class StreamPosition:
    """A place in a stream: everything up to `sequence_number` of `shard_id` is finished, and all of `closed_shards`."""

    stream_arn: str
    shard_id: str | None = None
    sequence_number: str | None = None
    iterator: str | None = None
    """A LATEST iterator taken when the mapping was made: until the first record nothing else marks that moment."""
    closed_shards: tuple[str, ...] = field(default_factory=tuple)


class CheckpointFile:
    """The position of one mapping in one file, replaced as a whole."""

    def __init__(self, folder: Path, mapping_id: str) -> None:
        # The id is a UUID for Pulumi, but nothing here should depend on its letters.
        self._path = folder / f"{hashlib.sha256(mapping_id.encode()).hexdigest()[:32]}.json"
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, stream_arn: str) -> StreamPosition:
        """Return the position in this stream; the start of it when none was kept, or only one of another stream."""
        try:
            stored = json.loads(self._path.read_text())
        except FileNotFoundError:
            return StreamPosition(stream_arn)
        position = StreamPosition(**{**stored, "closed_shards": tuple(stored["closed_shards"])})
        return position if position.stream_arn == stream_arn else StreamPosition(stream_arn)

    def save(self, position: StreamPosition) -> None:
        """Keep a position; a crash leaves the old or the new one."""
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(position)))
        unfinished.replace(self._path)

    def remove(self) -> None:
        """Forget the position."""
        self._path.unlink(missing_ok=True)
