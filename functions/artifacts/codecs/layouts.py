"""The dtypes of tensors as layouts of bits: what a codec must know of a number."""

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """How the bits of a dtype order; the values are part of the kernel's interface."""

    UNSIGNED = 0
    SIGNED = 1
    FLOAT = 2


@dataclass(frozen=True)
class Layout:
    """The bits of one number: `width` bytes, little-endian; a float is sign, exponent, mantissa from the top."""

    code: int
    kind: Kind
    width: int
    exponent_bits: int = 0
    mantissa_bits: int = 0

    @property
    def bits(self) -> int:
        """The size of one number in bits."""
        return 8 * self.width

    @property
    def exponent_mask(self) -> int:
        """All exponent bits set: infinities and NaNs in IEEE formats, and 0 for integers."""
        return (1 << self.exponent_bits) - 1


# Names as safetensors writes them. Codes are part of the format and never used twice; complex numbers are two floats.
LAYOUTS: dict[str, Layout] = {
    "BOOL": Layout(1, Kind.UNSIGNED, 1),
    "U8": Layout(2, Kind.UNSIGNED, 1),
    "U16": Layout(3, Kind.UNSIGNED, 2),
    "U32": Layout(4, Kind.UNSIGNED, 4),
    "U64": Layout(5, Kind.UNSIGNED, 8),
    "I8": Layout(6, Kind.SIGNED, 1),
    "I16": Layout(7, Kind.SIGNED, 2),
    "I32": Layout(8, Kind.SIGNED, 4),
    "I64": Layout(9, Kind.SIGNED, 8),
    "F8_E4M3": Layout(10, Kind.FLOAT, 1, 4, 3),
    "F8_E5M2": Layout(11, Kind.FLOAT, 1, 5, 2),
    "F16": Layout(12, Kind.FLOAT, 2, 5, 10),
    "BF16": Layout(13, Kind.FLOAT, 2, 8, 7),
    "F32": Layout(14, Kind.FLOAT, 4, 8, 23),
    "F64": Layout(15, Kind.FLOAT, 8, 11, 52),
    "C64": Layout(14, Kind.FLOAT, 4, 8, 23),
}
