"""Options that several commands have."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
StackName = Annotated[str, typer.Option("--stack", "-s", help="local, dev or prod.")]
