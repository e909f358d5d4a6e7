"""What a provider plugin refuses or fails at. Every text goes to the user of `pulumi up` as it is."""


class ProviderError(Exception):
    """The base of all errors that a plugin reports to the engine."""


class PluginEnvironmentError(ProviderError):
    """The plugin was started without the environment that says which ground it works on."""


class SchemaError(ProviderError):
    """The installed provider package has no such type, or it is not laid out as expected."""


class UnknownTypeError(ProviderError):
    """A resource type, or a provider function, that no behaviour covers."""


class ArchiveError(ProviderError):
    """An asset or archive that cannot be read or packed."""


class CloudUnreachableError(ProviderError):
    """A cloud's control plane does not answer."""


class CloudRefusedError(ProviderError):
    """A cloud answered an operation with an error of its own."""


class AlreadyExistsError(ProviderError):
    """A cloud holds a resource of that type and id."""


class NotFoundError(ProviderError):
    """A cloud holds no resource of that type and id."""


class InjectedError(ProviderError):
    """A failure that a test asked for."""


class CancelledError(ProviderError):
    """The engine cancelled the operation."""
