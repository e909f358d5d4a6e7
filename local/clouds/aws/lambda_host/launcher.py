"""Runs one Lambda runtime on the code that was deployed, and on nothing else of this project.

Called as a script, isolated from the caller's environment: `launcher.py TASK_ROOT HANDLER`. The interpreter that runs it
has the project installed in place, so its source tree would answer imports that the archive forgot, and a broken
deployment would look sound. This removes every such way before the handler is imported, then hands over to Lambda's
own runtime interface client.
"""

import importlib.util
import os
import sys
from pathlib import Path

EXIT_WRONG_SOURCE = 66
SOURCE_ROOT = Path(__file__).resolve().parents[4]


def seal(task_root: Path, source_root: Path) -> None:
    """Put the task root first on the import path and take the project's source tree off it in every form."""
    kept = []
    for entry in sys.path:
        resolved = Path(entry or ".").resolve()
        in_tree = resolved == source_root or source_root in resolved.parents
        if not in_tree or "site-packages" in resolved.parts:
            kept.append(entry)
    sys.path[:] = [str(task_root), *kept]
    # Editable installs answer through finders of generated modules `__editable__...` (setuptools).
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _module_of(finder).startswith("__editable__")]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if not _module_of(hook).startswith("__editable__")]
    sys.path_importer_cache.clear()


def _module_of(finder: object) -> str:
    return getattr(finder, "__module__", None) or type(finder).__module__


def handler_location(handler: str) -> Path | None:
    """Return the folder or file that the handler's top package would be imported from."""
    package = handler.rpartition(".")[0].replace("/", ".").split(".")[0]
    found = importlib.util.find_spec(package) if package else None
    if found is None:
        return None
    places = list(found.submodule_search_locations or []) or [found.origin or ""]
    return Path(places[0]).resolve()


def main() -> None:
    """Seal the import path, check the handler's origin, run it until the process is ended."""
    task_root, handler = Path(sys.argv[1]).resolve(), sys.argv[2]
    seal(task_root, SOURCE_ROOT)
    os.chdir(task_root)
    location = handler_location(handler)
    if location is None or task_root not in location.parents:
        sys.stderr.write(
            f"handler {handler} does not come from the deployed archive at {task_root}"
            f" (found: {location or 'nowhere'}); pack its package into the archive\n"
        )
        sys.exit(EXIT_WRONG_SOURCE)
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    bootstrap.run(handler, LambdaRuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"]))


if __name__ == "__main__":
    main()
