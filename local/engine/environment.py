"""The environment in which plain `pulumi` deploys to a local or recorded ground.

Language host and provider plugins are put into a PULUMI_HOME of our own, as the engine's plugin cache lays them out
(`plugins/resource-aws-v7.51.1/pulumi-resource-aws`): found there, they are used without the warning that plugins on
PATH cause, and the real plugins in the user's own home stay untouched. An official language host on PATH or beside
`pulumi` still comes first, as the engine looks there before its cache.
"""

import importlib.metadata
import os
import stat
import sys
import tempfile
from pathlib import Path

from local.engine.errors import EngineEnvironmentError
from local.ground.client import GroundClient
from local.names import Cloud, GroundKind
from local.providers import schema
from local.toolchain import find

# No sidecar file beside a stack's state: an engine killed while it writes one leaves it empty, and the state that it
# belongs to, itself whole, is then refused by every command (gocloud.dev/blob/fileblob, URL parameter `metadata`).
STATE_OPTIONS = "metadata=skip"
# For stacks whose ground is thrown away when a run of the engine dies: the state is written at the end of an operation, also
# of a failed or interrupted one, and not twice at every resource, which takes two thirds of the engine's time
# (github.com/pulumi/pulumi/issues/10668). An engine that is killed then leaves resources that no state knows.
STATE_AT_THE_END = {"PULUMI_SKIP_CHECKPOINTS": "true"}


def engine_environment(home: Path, ground: GroundClient | None, record_folder: Path | None) -> dict[str, str]:
    """Return the variables to add to a process's environment so that `pulumi` works on one ground.

    `home` holds plugins, credentials and, unless PULUMI_BACKEND_URL is set, the stacks' state. Exactly one of `ground`
    (a running local ground) and `record_folder` (resources are only recorded there) is given.
    Raises EngineEnvironmentError otherwise.
    """
    if (ground is None) == (record_folder is None):
        raise EngineEnvironmentError("give a running ground or a folder to record in, and not both")
    install_plugins(home)
    backend = home / "state"
    backend.mkdir(parents=True, exist_ok=True)
    variables = {
        "PATH": _path(),
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{backend}?{STATE_OPTIONS}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    if ground is not None:
        kind, folder = GroundKind.LOCAL, ground.folder
        variables |= ground.environment()
    else:
        assert record_folder is not None
        kind, folder = GroundKind.RECORD, record_folder
        folder.mkdir(parents=True, exist_ok=True)
    return variables | {"LIFEBOAT_GROUND": kind.value, "LIFEBOAT_GROUND_FOLDER": str(folder.resolve())}


def install_plugins(home: Path) -> None:
    """Write the launchers of the language host and the provider plugins into the plugin cache of a PULUMI_HOME."""
    sdk = importlib.metadata.version("pulumi")
    _launcher(home, f"language-python-v{sdk}", "pulumi-language-python", "local.engine.host")
    for cloud in Cloud:
        version = schema.package_version(cloud.value)
        _launcher(home, f"resource-{cloud}-v{version}", f"pulumi-resource-{cloud}", f"local.providers {cloud}")


def _launcher(home: Path, folder_name: str, program: str, module: str) -> None:
    folder = home / "plugins" / folder_name
    folder.mkdir(parents=True, exist_ok=True)
    # A shell script, as a first line `#!` with an interpreter's path is cut off at 127 characters and at spaces.
    script = f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n'
    target = folder / program
    if target.exists() and target.read_text() == script:
        return
    handle, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w") as stream:
        stream.write(script)
    Path(temporary).chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    Path(temporary).replace(target)


def _path() -> str:
    # This interpreter's folder first: an official language host runs the first python3 it finds.
    first = [str(Path(sys.executable).parent), str(find("pulumi").parent)]
    rest = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry not in first]
    return os.pathsep.join([*first, *rest])
