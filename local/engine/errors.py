"""What is missing for the Pulumi engine to run on this machine."""


class EngineEnvironmentError(Exception):
    """The engine's environment cannot be composed."""
