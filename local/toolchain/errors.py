"""What can go wrong while tools are looked for or made."""


class ToolchainError(Exception):
    """A tool is not there or cannot be made; the message names the tool, the cause and the next step."""


class ToolMissingError(ToolchainError):
    """A tool was found neither in the override folder, nor on PATH, nor in the cache."""

    def __init__(self, tool: str, cause: str, next_step: str, *, optional: bool) -> None:
        self.tool = tool
        self.next_step = next_step
        self.optional = optional
        goes_on = "The demo goes on without it." if optional else "The demo cannot go on without it."
        super().__init__(f"{tool}: {cause}. {next_step} {goes_on}")


class ToolBuildError(ToolchainError):
    """Making a tool was tried and failed."""

    def __init__(self, tool: str, cause: str, next_step: str) -> None:
        super().__init__(f"{tool} could not be made: {cause}. {next_step}")
