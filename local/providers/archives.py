"""Assets and archives as files: each is kept once, under the SHA-256 of its bytes, in the ground's folder.

A row then carries the file's path and hash, and a function host unpacks exactly the bytes that the program deployed.
Folders and maps of files are packed into a zip with fixed times and order, so equal content has one hash.
"""

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from local.providers.errors import ArchiveError
from local.providers.wire import SIGNATURE, Asset

# The earliest time that a zip can carry.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def store_assets(value: Any, folder: Path) -> Any:
    """Return the value with every asset replaced by {archive: path, sha256, hash}, its bytes copied under `folder`.

    Paths of the program are taken relative to the current folder, where the engine starts its plugins.
    Raises ArchiveError when a file is missing or the asset is of a kind that needs the network.
    """
    if isinstance(value, Asset):
        stored = _keep(value, folder)
        return {"archive": str(stored), "sha256": stored.name, "hash": value.hash}
    if isinstance(value, dict):
        return {name: store_assets(item, folder) for name, item in value.items()}
    if isinstance(value, list):
        return [store_assets(item, folder) for item in value]
    return value


def describe_assets(value: Any) -> Any:
    """Return the value with every asset replaced by its content hash, for values whose files may be gone."""
    if isinstance(value, Asset):
        return {"hash": value.hash}
    if isinstance(value, dict):
        return {name: describe_assets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [describe_assets(item) for item in value]
    return value


def restore_assets(value: Any, known: Any) -> Any:
    """Return a stored value with the assets of `known` (the state's value) put back where the content is the same."""
    if isinstance(value, dict) and isinstance(known, Asset):
        return (
            known
            if value.get("hash") == known.hash
            else Asset(known.archive, value.get("hash", ""), _moved(value, known))
        )
    if isinstance(value, dict) and isinstance(known, dict):
        return {name: restore_assets(item, known.get(name)) for name, item in value.items()}
    if isinstance(value, list) and isinstance(known, list):
        padded = [*known, *([None] * len(value))]
        return [restore_assets(item, padded[index]) for index, item in enumerate(value)]
    return value


def _moved(value: dict[str, Any], known: Asset) -> dict[str, Any]:
    return {SIGNATURE: known.body[SIGNATURE], "hash": value.get("hash", ""), "path": value.get("archive", "")}


def _keep(asset: Asset, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            _write(asset, stream)
        target = folder / _sha256(temporary)
        if target.exists():
            temporary.unlink()
        else:
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(asset: Asset, stream: io.BufferedIOBase) -> None:
    body = asset.body
    if body.get("uri"):
        raise ArchiveError(f"asset {body['uri']}: remote assets need the network; use a file of the program")
    if body.get("text"):
        stream.write(str(body["text"]).encode())
        return
    if "assets" in body:
        _zip(_members_of_map(body["assets"], ""), stream)
        return
    path = Path(str(body.get("path", ""))).absolute()
    if path.is_dir() and asset.archive:
        _zip(_members_of_folder(path), stream)
    elif path.is_file():
        with path.open("rb") as source:
            shutil.copyfileobj(source, stream)
    else:
        raise ArchiveError(f"asset {path} is no file: build it before the deployment, or give its absolute path")


_Member = tuple[str, Callable[[], bytes]]


def _members_of_folder(folder: Path) -> Iterator[_Member]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes


def _members_of_map(assets: dict[str, Any], prefix: str) -> Iterator[_Member]:
    for name, body in sorted(assets.items()):
        place = f"{prefix}{name}"
        if "assets" in body:
            yield from _members_of_map(body["assets"], f"{place}/")
        elif body.get("path") and Path(body["path"]).is_dir():
            for inner, read in _members_of_folder(Path(body["path"])):
                yield f"{place}/{inner}", read
        else:
            yield place, partial(_content, body)


def _content(body: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    _write(Asset(archive=False, hash="", body=body), buffer)
    return buffer.getvalue()


def _zip(members: Iterator[_Member], stream: io.BufferedIOBase) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, read in members:
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), read(), zipfile.ZIP_DEFLATED)
