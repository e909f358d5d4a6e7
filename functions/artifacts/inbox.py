"""The inbox: a tool that can only copy files leaves them under `inbox/<model>/` and a file `_DONE` last; they become a version.

`_DONE` may be empty, or say in JSON what the version was trained from and which alias is to move (class Order). Files are read
where they lie, copied inside the bucket, and taken out of the inbox when the version stands. What was taken is written down
before anything is deleted, so that a repeat after a crash neither publishes a half-emptied inbox nor leaves files to mix with the
next ones.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.artifacts.alias import resolve
from functions.artifacts.digest import digest, object_blocks
from functions.artifacts.documents import JSON
from functions.artifacts.encode import exists
from functions.artifacts.errors import ManifestError, UnfitError, VerificationError
from functions.artifacts.manifest import MOST_FILES, FileEntry
from functions.artifacts.paths import check_name, check_path, file_key, inbox_prefix
from functions.artifacts.publish import file_entry
from functions.artifacts.record import Recorded, Recorder, Wish
from functions.artifacts.safetensors import SUFFIX, tensors
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectInfo, ObjectStore

DONE = "_DONE"
# What was taken out of the inbox, while it is being emptied.
TAKEN = "_TAKEN"
MOST_ORDER_BYTES = 512 * 1024
MOST_TAKEN_BYTES = 32 << 20


class Order(BaseModel):
    """What `_DONE` says. `parent` is a version or an alias; `epoch` that of whoever moves the alias."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    parent: Annotated[str, Field(max_length=100)] | None = None
    alias: Annotated[str, Field(max_length=100)] | None = None
    epoch: Annotated[int, Field(ge=0)] = 0
    lineage: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Inbox:
    """One site's inbox; `recorder` makes versions of what lies in it."""

    store: ObjectStore
    recorder: Recorder

    def run(self, key: str) -> Recorded | None:
        """Handle one object that was created in the bucket; None for all but the file that says an inbox is complete.

        Raises ManifestError for a name, order or file that can't be, SafetensorsError for a malformed model file,
        VerificationError if a file changed while it was read, errors of `artifacts.record.Recorder.run`. The inbox is emptied
        when the version stands, also if an alias then stays where it is.
        """
        steps = key.split("/")
        if len(steps) != 3 or (steps[0], steps[2]) != ("inbox", DONE):
            return None
        model = check_name(steps[1], "model")
        if exists(self.store, f"{inbox_prefix(model)}{TAKEN}"):
            self._empty(model)
            return None
        try:
            data, _ = self.store.get(key, MOST_ORDER_BYTES)
        except NotFoundError:
            # A repeat of an event whose version stands.
            return None
        order = _order(data, model)
        lying = self._lying(model)
        parent = None if order.parent is None else resolve(self.store, model, order.parent)
        wish = Wish(model, parent, order.alias, order.lineage, order.epoch)
        self.recorder.check(wish)
        files = [self._describe(path, info) for path, info in lying.items()]
        version = self.recorder.check_version(wish, files)
        for file in files:
            self._copy(lying[file.path].key, model, version, file)
        try:
            recorded = self.recorder.run(wish, files)
        except UnfitError:
            self._take(model, lying)
            raise
        self._take(model, lying)
        return recorded

    def _lying(self, model: str) -> dict[str, ObjectInfo]:
        """Return what lies in the inbox, by path, in the order of a manifest."""
        prefix = inbox_prefix(model)
        found: dict[str, ObjectInfo] = {}
        for info in self.store.list(prefix):
            path = info.key.removeprefix(prefix)
            # Consoles mark a folder by an empty object of its name.
            if path == DONE or (path.endswith("/") and not info.size):
                continue
            found[check_path(path)] = info
            if len(found) > MOST_FILES:
                raise ManifestError(f"{prefix} holds more than {MOST_FILES} files; put small ones into an archive")
        if not found:
            raise ManifestError(f"{prefix} holds {DONE} and nothing else; copy the files first and {DONE} last")
        return {path: found[path] for path in sorted(found, key=str.encode)}

    def _describe(self, path: str, info: ObjectInfo) -> FileEntry:
        def read(offset: int, length: int) -> bytes:
            return self.store.get_range(info.key, offset, length)

        spans = tensors(read, info.size, path) if path.endswith(SUFFIX) else []
        return file_entry(path, digest(object_blocks(self.store, info.key, info.size), spans), spans)

    def _copy(self, source: str, model: str, version: str, file: FileEntry) -> None:
        key = file_key(model, version, file.path)
        try:
            info = self.store.head(key)
        except NotFoundError:
            info = self.store.assemble(key, [source], file.crc32c)
        if (info.size, info.crc32c) != (file.size, file.crc32c):
            self.store.delete(key)
            raise VerificationError(
                f"{model} {version} file {file.path!r} changed while it was read; copy it again, then {DONE}"
            )

    def _take(self, model: str, lying: Mapping[str, ObjectInfo]) -> None:
        taken = json.dumps([info.key for info in lying.values()]).encode()
        self.store.put(f"{inbox_prefix(model)}{TAKEN}", taken, content_type=JSON)
        self._empty(model)

    def _empty(self, model: str) -> None:
        """Delete what was taken: the files, the order, and last the note of both."""
        prefix = inbox_prefix(model)
        data, _ = self.store.get(f"{prefix}{TAKEN}", MOST_TAKEN_BYTES)
        try:
            keys = json.loads(data)
            safe = isinstance(keys, list) and all(isinstance(key, str) and key.startswith(prefix) for key in keys)
        except (ValueError, RecursionError):
            safe = False
        if not safe:
            raise ManifestError(f"{prefix}{TAKEN} names files outside of {prefix} or is no list; remove it by hand")
        for key in (*keys, f"{prefix}{DONE}", f"{prefix}{TAKEN}"):
            self.store.delete(key)


def _order(data: bytes, model: str) -> Order:
    if not data.strip():
        return Order()
    try:
        return Order.model_validate_json(data)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        raise ManifestError(
            f"{inbox_prefix(model)}{DONE} is neither empty nor an order in JSON: {problems}. Write it again"
        ) from error
