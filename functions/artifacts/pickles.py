"""Tells pickles from other bytes, by what they are and not by their name: loading one runs whatever it says.

Nothing is unpickled here: opcodes are read, as pickletools does, from a bounded prefix; archives are judged by their directory.
"""

import io
import pickletools
from collections.abc import Callable

Read = Callable[[int, int], bytes]

# Enough for the opcodes that matter: a pickle that runs code names it before its data.
MOST_PREFIX_BYTES = 1 << 20
# A directory of a model's archive has some hundred entries.
MOST_DIRECTORY_BYTES = 16 << 20
# The longest comment that may follow a zip's end record, and the record itself (APPNOTE.TXT, 4.3.16).
_TAIL_BYTES = 65_535 + 22

# Opcodes by which a pickle calls what it names.
_CALLS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
# As many opcodes in a row make sense by no accident.
_ENOUGH_OPCODES = 64
_PICKLE_NAMES = (b".pkl", b".pickle")


def pickled(read: Read, size: int) -> str:
    """Return why a file of `size` bytes counts as a pickle, "" if it does not; `read(offset, length)` reads a range of it."""
    prefix = read(0, min(size, MOST_PREFIX_BYTES))
    if _is_pickle(prefix, whole=size <= len(prefix)):
        return "it is a pickle"
    if prefix.startswith(b"\x93NUMPY") and b"|O" in prefix[:1_024]:
        return "it is a NumPy array of Python objects, which is a pickle"
    if prefix.startswith(b"PK\x03\x04"):
        return _in_archive(read, size, prefix)
    return ""


def _is_pickle(data: bytes, whole: bool) -> bool:
    if len(data) < 2:
        return False
    seen = calls = 0
    newer = data[0] == 0x80 and data[1] <= 5
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(data)):
            seen += 1
            calls += opcode.name in _CALLS
            if seen >= _ENOUGH_OPCODES and (newer or calls):
                return True
            if opcode.name == "STOP":
                # Text can be a pickle of two opcodes by accident ("N."); one that calls, or says its protocol, is none.
                return newer or calls > 0
    except Exception:  # noqa: BLE001 - pickletools raises anything on bytes that are none; here that is the answer
        # What is cut off at the prefix's end, or was damaged on purpose, is still one to a lenient reader.
        return newer and seen >= 2
    return newer and not whole


def _in_archive(read: Read, size: int, prefix: bytes) -> str:
    tail_start = max(0, size - _TAIL_BYTES)
    tail = read(tail_start, size - tail_start)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        return "it begins as a zip archive and has no directory"
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    start = int.from_bytes(tail[end + 16 : end + 20], "little")
    if 0xFFFFFFFF in (length, start):
        # zip64: the directory's place stands in another record before this one (4.3.14).
        locator = tail.rfind(b"PK\x06\x06", 0, end)
        if locator < 0 or len(tail) - locator < 56:
            return "it is a zip archive whose directory can't be found"
        length = int.from_bytes(tail[locator + 40 : locator + 48], "little")
        start = int.from_bytes(tail[locator + 48 : locator + 56], "little")
    if length > MOST_DIRECTORY_BYTES or start + length > size:
        return f"it is a zip archive that claims a directory of {length} bytes at {start}"
    directory = read(start, length)
    position = 0
    while position + 46 <= len(directory) and directory[position : position + 4] == b"PK\x01\x02":
        lengths = [int.from_bytes(directory[position + at : position + at + 2], "little") for at in (28, 30, 32)]
        name = directory[position + 46 : position + 46 + lengths[0]]
        if name.lower().endswith(_PICKLE_NAMES):
            return f"it is an archive with the pickle {name.decode(errors='replace')[:80]!r} in it"
        if name.lower().endswith(b".npy"):
            offset = int.from_bytes(directory[position + 42 : position + 46], "little")
            if b"|O" in read(offset, min(2_048, size - offset)):
                return f"it is an archive with the array of objects {name.decode(errors='replace')[:80]!r} in it"
        position += 46 + sum(lengths)
    # A torch archive without its directory is still found by its first entry.
    return "it is an archive with a pickle in it" if b"data.pkl" in prefix[:1_024] else ""
