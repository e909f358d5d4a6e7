"""What can go wrong when a block of a tensor is decoded; none of it can be helped by trying again."""

from functions.errors import PermanentError


class CodecError(PermanentError):
    """A tensor cannot be written or read as asked: the caller gave parts that do not belong together."""


class UnknownCodecError(CodecError):
    """A block names a codec, or a tensor a format version, that this release does not know."""


class DamagedBlockError(CodecError):
    """An encoded block or tensor is truncated, lies about a size, or holds values that no encoder writes."""


class ParentMissingError(CodecError):
    """A block can only be read with the parent's bytes, and they are absent or of another size."""


class ChecksumError(CodecError):
    """A block decodes, but to other bytes than were encoded: it was damaged or read with the wrong parent."""


class KernelError(CodecError):
    """The compiled kernel cannot be loaded, is of another version, or ran out of memory."""
