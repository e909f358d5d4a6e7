"""What can go wrong in the service: each error names the thing, the cause and the next step."""


class ServiceError(Exception):
    """Base of the service's errors."""


class ModelInvalidError(ServiceError):
    """A model folder or version does not hold what this service needs; it is never served."""


class ModelNotPublishedError(ServiceError):
    """The alias names no version in this site's bucket yet."""


class ModelUntrustedError(ServiceError):
    """A version's bytes here are not what its site signed; never served as they are, and worth another look once repaired."""


class BusyError(ServiceError):
    """The host does what was asked for, for somebody else; ask again."""
