"""Names of objects in an artifact bucket, and the rules that a name from outside must keep before it becomes part of one."""

import re

from functions.artifacts.errors import ManifestError, UnsafePathError

# Both stores take keys of 1,024 bytes; the prefix of a version needs about 200 of them.
MOST_PATH_BYTES = 512

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NOTE = re.compile(r"done/([0-9]{6,})-([0-9]+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_name(name: str, what: str) -> str:
    """Return the name of a model or alias if it can stand in a key; ManifestError if not."""
    if not _NAME.fullmatch(name):
        raise ManifestError(
            f"{what} {name[:100]!r}: letters, digits, '.', '_' and '-' are allowed, at most 100 of them"
        )
    return name


def check_version(version: str) -> str:
    """Return the version if it is a root in hexadecimal; ManifestError if not."""
    if not _DIGEST.fullmatch(version):
        raise ManifestError(f"version {version[:100]!r} is no root of 64 hexadecimal digits")
    return version


def is_version(name: str) -> bool:
    """Return whether a name is that of a version: a root in hexadecimal."""
    return _DIGEST.fullmatch(name) is not None


def check_path(path: str) -> str:
    """Return a file's path if it means the same harmless thing to every store, loader and file system.

    Raises UnsafePathError for absolute paths, empty, `.` and `..` steps, backslashes, control characters and long names.
    """
    steps = path.split("/")
    problem = (
        "has no UTF-8 form or is too long"
        if len(path.encode(errors="replace")) > MOST_PATH_BYTES or any(0xD800 <= ord(char) < 0xE000 for char in path)
        else "holds a control character, a backslash or a colon"
        if any(ord(char) < 32 or ord(char) == 127 or char in "\\:" for char in path)
        else "leaves its folder or has an empty step"
        if any(step in ("", ".", "..") for step in steps)
        else ""
    )
    if problem:
        raise UnsafePathError(f"file {path[:100]!r} {problem}; rename it")
    return path


def manifest_key(model: str, version: str) -> str:
    """Where the manifest of a version stands; a version exists on a site exactly when this object does."""
    return f"manifests/{model}/{version}.json"


def manifests_prefix(model: str = "") -> str:
    """Below which the manifests of a model, or of all models, stand."""
    return f"manifests/{model}/" if model else "manifests/"


def aliases_prefix(model: str = "") -> str:
    """Below which the aliases of a model, or of all models, stand."""
    return f"aliases/{model}/" if model else "aliases/"


def tombstone_key(model: str, version: str) -> str:
    """Where a version's tombstone stands; it outlives all else of the version."""
    return f"tombstones/{model}/{version}.json"


def tombstones_prefix(model: str = "") -> str:
    """Below which the tombstones of a model, or of all models, stand."""
    return f"tombstones/{model}/" if model else "tombstones/"


def chain_prefix(model: str, site: str) -> str:
    """Below which a site's statements about a model stand in their order."""
    return f"chain/{model}/{site}/"


def chain_key(model: str, site: str, sequence: int) -> str:
    """Where the statement of that number stands: whoever creates this object has taken the turn."""
    return f"{chain_prefix(model, site)}{sequence:010d}.json"


def verdict_key(model: str, version: str) -> str:
    """Where a site says whether a version may be pointed to, and why not."""
    return f"verdicts/{model}/{version}.json"


def inbox_prefix(model: str) -> str:
    """Below which tools that can only copy files leave those of a model's next version."""
    return f"inbox/{model}/"


def audit_key(site: str, day: str) -> str:
    """Where a site says, signed, what it found when it read versions back on a day, written 2026-11-24."""
    return f"audits/{site}/{day}.json"


def pending_key(model: str, version: str) -> str:
    """Where the manifest waits on the far side until all it names is there."""
    return f"pending/{model}/{version}.json"


def file_key(model: str, version: str, path: str) -> str:
    """Where a plain file of a version stands."""
    return f"models/{model}/{version}/{path}"


def alias_key(model: str, alias: str) -> str:
    """Where an alias stands."""
    return f"aliases/{model}/{alias}.json"


def receipt_key(model: str, version: str) -> str:
    """Where a site says that it has proven the version's bytes."""
    return f"receipts/{model}/{version}.json"


def transfer_key(model: str, version: str) -> str:
    """Where the receiving site says what the transfer of a version came to."""
    return f"transfers/{model}/{version}.json"


def pack_key(digest: str) -> str:
    """Where a pack stands, by the BLAKE3 of its bytes."""
    return f"packs/{digest}"


def parts_prefix(version: str, chunk_bytes: int) -> str:
    """Below which the parts of a version stand. The chunk size is in it: parts of two plans must never mix."""
    return f"parts/{version}/{chunk_bytes}/"


def part_key(version: str, chunk_bytes: int, file: int, index: int) -> str:
    """Where one decoded chunk stands."""
    return f"{parts_prefix(version, chunk_bytes)}{file:05d}/{index:06d}"


def note_key(version: str, chunk_bytes: int, batch: int, bytes_wire: int) -> str:
    """Where it is noted that a batch is in; the bytes that crossed for it are in the name, so a listing tells them all."""
    return f"{notes_prefix(version, chunk_bytes, batch)}{bytes_wire}"


def notes_prefix(version: str, chunk_bytes: int, batch: int) -> str:
    """Below which the notes of a batch stand: one, or more if it crossed more than once."""
    return f"{parts_prefix(version, chunk_bytes)}done/{batch:06d}-"


def batch_of_note(key: str, version: str, chunk_bytes: int) -> tuple[int, int] | None:
    """Return (batch, bytes on the wire) of a note's key, None for any other key."""
    found = _NOTE.fullmatch(key.removeprefix(parts_prefix(version, chunk_bytes)))
    return (int(found[1]), int(found[2])) if found else None


def proven_key(version: str, chunk_bytes: int, file: int) -> str:
    """Where it is noted that the rebuilt file has the digests of the manifest."""
    return f"{parts_prefix(version, chunk_bytes)}{file:05d}/proven"


def parse_name(key: str) -> tuple[str, str] | None:
    """Return (model, version or alias) of a small document's key of the form folder/model/name.json, None for any other key."""
    steps = key.split("/")
    if len(steps) != 3 or not steps[2].endswith(".json"):
        return None
    model, name = steps[1], steps[2].removesuffix(".json")
    return (model, name) if _NAME.fullmatch(model) and _NAME.fullmatch(name) else None


def parse_key(key: str) -> tuple[str, str, str] | None:
    """Return (kind, model, version or alias) of a manifest or alias key, None for any other key.

    Raises ManifestError for a key of that form with a name that can't be.
    """
    steps = key.split("/")
    if len(steps) != 3 or steps[0] not in ("manifests", "aliases") or not steps[2].endswith(".json"):
        return None
    kind, model, name = steps[0], check_name(steps[1], "model"), steps[2].removesuffix(".json")
    return kind, model, check_version(name) if kind == "manifests" else check_name(name, "alias")
