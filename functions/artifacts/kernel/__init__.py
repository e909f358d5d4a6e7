"""The compiled form of the float codecs: found, checked and called here; where there is none, NumPy writes the same bytes.

The library is looked for in the file that LIFEBOAT_KERNEL names, then beside this module as liblifeboat-<machine>.so, which is
where it lies in a function's archive. It is never built here: that needs a compiler, and a function has none. Calls release the
interpreter's lock, so threads use all cores.
"""

import ctypes
import functools
import mmap
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from functions.artifacts.codecs.errors import DamagedBlockError, KernelError

ENVIRONMENT = "LIFEBOAT_KERNEL"
# For people who must do without compiled code, and for tests of the other form.
OFF = "off"
INTERFACE = 2
SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in (
        "base.h",
        "bits.h",
        "delta.h",
        "floats.h",
        "groups.h",
        "layout.h",
        "lifeboat.c",
        "numbers.h",
        "rans.h",
        "rans512.h",
        "tables.h",
        "workspace.h",
    )
)

_OUT_OF_MEMORY = -1
_NO_ROOM = -2
_TOO_MANY_EXPONENTS = -4

Bytes = bytes | bytearray | memoryview
# Kind, width in bytes, exponent bits and mantissa bits of a number.
Numbers = tuple[int, int, int, int]


class Kernel:
    """The functions of a loaded library. A result of None means: not smaller than the numbers as they are."""

    def __init__(self, path: Path) -> None:
        try:
            library = ctypes.CDLL(str(path.absolute()))
            interface = library.lifeboat_interface
        except (OSError, AttributeError) as error:
            raise KernelError(
                f"compiled kernel {path} cannot be loaded: {error}. Build it again with ./lifeboat local up"
            ) from error
        interface.restype = ctypes.c_int64
        if interface() != INTERFACE:
            raise KernelError(f"compiled kernel {path} is of another release. Build it again with ./lifeboat local up")
        self.path = path
        self._room = threading.local()
        buffer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._delta_encode = _declared(
            library.lifeboat_delta_encode, buffer, buffer, size, *(number,) * 4, size, buffer, buffer, size
        )
        self._delta_decode = _declared(
            library.lifeboat_delta_decode, buffer, size, buffer, size, number, number, number, number, buffer
        )
        self._floats_encode = _declared(
            library.lifeboat_floats_encode, buffer, size, number, number, number, size, buffer, buffer, size
        )
        self._floats_decode = _declared(
            library.lifeboat_floats_decode, buffer, size, size, number, number, number, buffer
        )
        self._workspace = _declared(library.lifeboat_workspace, size, number)
        self._cuts = _declared(library.lifeboat_cuts, buffer, size, buffer, number, size, size, buffer, size)

    def delta_encode(self, child: Bytes, parent: Bytes, numbers: Numbers, stretch: int) -> bytes | None:
        """Return the payload of codecs/delta.py, or None if it is larger than the child."""
        count = len(child) // numbers[1]
        with self._borrowed(count, numbers[1]) as (memory, payload), _addresses(child, parent, memory, payload) as at:
            size = self._delta_encode(at[0], at[1], count, *numbers, stretch, at[2], at[3], len(child))
            return _written(size, payload)

    def delta_decode(self, payload: Bytes, parent: Bytes, numbers: Numbers, child: memoryview) -> None:
        """Fill `child`, as large as the parent, from a payload of codecs/delta.py; DamagedBlockError if none wrote it."""
        with _addresses(payload, parent, child) as (source, of_parent, out):
            count = len(parent) // numbers[1]
            result = self._delta_decode(source, len(payload), of_parent, count, *numbers, out)
        _check(result)

    def floats_encode(self, child: Bytes, numbers: Numbers, stretch: int) -> bytes | None:
        """Return the payload of codecs/planes.py, or None if it is larger than the child or cannot be."""
        count = len(child) // numbers[1]
        with self._borrowed(count, numbers[1]) as (memory, payload), _addresses(child, memory, payload) as at:
            size = self._floats_encode(at[0], count, *numbers[1:], stretch, at[1], at[2], len(child))
            return _written(size, payload)

    def floats_decode(self, payload: Bytes, numbers: Numbers, child: memoryview) -> None:
        """Fill `child` from a payload of codecs/planes.py; DamagedBlockError if none wrote it."""
        with _addresses(payload, child) as (source, out):
            result = self._floats_decode(source, len(payload), len(child) // numbers[1], *numbers[1:], out)
        _check(result)

    def cuts(self, data: memoryview, gear: bytes, bits: int, least: int, most: int) -> list[int]:
        """Return the ends of the chunks of codecs/chunks.py."""
        room = len(data) // least + 2
        ends = (ctypes.c_uint64 * room)()
        with _addresses(data, gear) as (source, table):
            found = self._cuts(source, len(data), table, bits, least, most, ctypes.addressof(ends), room)
        _check(found)
        return ends[:found]

    @contextmanager
    def _borrowed(self, count: int, width: int) -> Iterator[tuple[memoryview, memoryview]]:
        """Yield this thread's memory to encode a block in, and the place for its payload; both stay with the thread.

        Fresh memory for each block would cost a fifth of the time, most of it in the system's kernel.
        """
        wanted = self._workspace(count, width)
        _check(wanted)
        held: mmap.mmap | None = getattr(self._room, "held", None)
        if held is None or len(held) < wanted + count * width:
            held = mmap.mmap(-1, wanted + count * width, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._room.held = held
        with memoryview(held) as view:
            yield view[: len(held) - count * width], view[len(held) - count * width :]


def find() -> Path | None:
    """Return where the library is, or None. A file that the environment names must exist: KernelError if it does not."""
    named = os.environ.get(ENVIRONMENT)
    if named == OFF:
        return None
    if named:
        if not Path(named).is_file():
            raise KernelError(f"{ENVIRONMENT} names {named}, which is no file. Unset it, or set it to `{OFF}`")
        return Path(named)
    beside = Path(__file__).with_name(file_name(platform.machine()))
    return beside if beside.is_file() else None


def file_name(machine: str) -> str:
    """Return the library's file name for a machine as `platform.machine` names it (x86_64, aarch64)."""
    return f"liblifeboat-{machine}.so"


def load() -> Kernel | None:
    """Return the kernel of this machine, or None where NumPy takes its place."""
    path = find()
    return _loaded(path) if path and _is_suitable() else None


@functools.cache
def _is_suitable() -> bool:
    """Tell whether the processor knows the instructions that a build for x86_64 uses; elsewhere there is one kind."""
    information = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not information.exists():
        return True
    flags = next((line for line in information.read_text().splitlines() if line.startswith("flags")), "")
    return {"avx2", "bmi2"} <= set(flags.split())


@functools.cache
def _loaded(path: Path) -> Kernel:
    return Kernel(path)


def _declared(function: Any, *arguments: Any) -> Any:
    function.argtypes = arguments
    function.restype = ctypes.c_int64
    return function


class _Buffer(ctypes.Structure):
    """Py_buffer of CPython's stable interface: the only way to the address of read-only memory without a copy."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        # Not py_object: the reference belongs to the buffer, and reading the field must not count another.
        ("owner", ctypes.c_void_p),
        ("size", ctypes.c_ssize_t),
        ("item_size", ctypes.c_ssize_t),
        ("read_only", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_SIMPLE = 0
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)
_release_buffer.restype = None


@contextmanager
def _addresses(*memories: Bytes) -> Iterator[list[int]]:
    """Yield where the bytes are; they stay there inside the block."""
    held: list[_Buffer] = []
    try:
        for memory in memories:
            buffer = _Buffer()
            # It raises by itself where the memory is not in one piece.
            _get_buffer(memory, ctypes.byref(buffer), _SIMPLE)
            held.append(buffer)
        yield [buffer.address or 0 for buffer in held]
    finally:
        for buffer in held:
            _release_buffer(ctypes.byref(buffer))


def _written(size: int, payload: memoryview) -> bytes | None:
    if size in (_NO_ROOM, _TOO_MANY_EXPONENTS):
        return None
    _check(size)
    return bytes(payload[:size])


def _check(result: int) -> None:
    if result == _OUT_OF_MEMORY:
        raise KernelError("the kernel could not get the few megabytes that a block takes. Give the process more memory")
    if result < 0:
        raise DamagedBlockError(
            "block holds what no encoder writes: it was damaged or made up. Fetch or encode it again"
        )
