"""Faults of model versions, told apart by what a handler may do about them."""

from functions.errors import NotReadyError, PermanentError, TransientError


class ManifestError(PermanentError):
    """A manifest, alias or receipt is malformed, out of bounds, or does not describe what it claims to."""


class UnsafePathError(ManifestError):
    """A file name would leave its folder, or means different things to different tools."""


class SafetensorsError(PermanentError):
    """A safetensors header is malformed or lies about the file."""


class PackError(PermanentError):
    """A pack is malformed, lies about its lengths, or holds other bytes than it says."""


class VerificationError(PermanentError):
    """Bytes at rest do not have the checksum that the manifest names."""


class SignatureError(PermanentError):
    """A statement is not signed by the site that it says it comes from, or a key is not one that can sign."""


class ChainError(PermanentError):
    """A model's history has a gap or a fork: a version was taken out, changed, or put in out of its order."""


class UnfitError(PermanentError):
    """A version did not pass validation; it is kept with the reason, and no alias will point to it."""


class RetiredError(PermanentError):
    """A version carries a tombstone: it is on its way out, and nothing may point to it or build on it any more."""


class StaleEpochError(PermanentError):
    """An alias belongs to a newer epoch than the writer's: the writer's site is no longer the one to move it."""


class AliasConflictError(TransientError):
    """Another writer moved the alias in the same moment; look at where it points, then move it again if still wanted."""


class BaseMissingError(TransientError):
    """Bytes that a pack builds on are not here, or not those of the sender; the batch is asked for again without them."""


class VersionNotReadyError(NotReadyError):
    """The other site has not proven this version yet."""


class BusyError(TransientError):
    """Other writers took every turn to publish this model; publish again."""
