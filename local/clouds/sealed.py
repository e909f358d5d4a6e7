"""Runs one function on the code that was deployed, and on nothing else of this project.

Called as a script: `sealed.py lambda TASK_ROOT HANDLER`, or `sealed.py function ARCHIVE_FOLDER` with the function's environment
(PORT, FUNCTION_TARGET, FUNCTION_SIGNATURE_TYPE, THREADS). The interpreter that runs it has the project installed in place, so
its source tree would answer imports that the archive forgot, and a broken deployment would look sound. Every such way is taken
off before the function's code is imported; then Lambda's runtime interface client or Google's functions-framework takes over.
"""

import importlib.util
import os
import sys
from pathlib import Path

EXIT_WRONG_SOURCE = 66
SOURCE_ROOT = Path(__file__).resolve().parents[2]
GRACEFUL_SECONDS = 5


def seal(archive: Path, source_root: Path) -> None:
    """Put the archive's folder first on the import path and take the project's source tree off it in every form."""
    kept = []
    for entry in sys.path:
        resolved = Path(entry or ".").resolve()
        in_tree = resolved == source_root or source_root in resolved.parents
        if not in_tree or "site-packages" in resolved.parts:
            kept.append(entry)
    sys.path[:] = [str(archive), *kept]
    # Editable installs answer through finders of generated modules `__editable__...` (setuptools).
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _module_of(finder).startswith("__editable__")]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if not _module_of(hook).startswith("__editable__")]
    sys.path_importer_cache.clear()


def _module_of(finder: object) -> str:
    return getattr(finder, "__module__", None) or type(finder).__module__


def strangers(archive: Path, source_root: Path) -> list[str]:
    """Return the source tree's packages that an import would still find outside the archive."""
    found = []
    for package in sorted(path.parent.name for path in source_root.glob("*/__init__.py")):
        spec = importlib.util.find_spec(package)
        origin = Path((spec.origin if spec else None) or "/").resolve()
        # The archive's folder and the environment may themselves lie inside the source tree.
        if source_root in origin.parents and archive not in origin.parents and "site-packages" not in origin.parts:
            found.append(f"{package} from {origin}")
    return found


def handler_location(handler: str) -> Path | None:
    """Return the folder or file that a Lambda handler's top package would be imported from."""
    package = handler.rpartition(".")[0].replace("/", ".").split(".")[0]
    found = importlib.util.find_spec(package) if package else None
    if found is None:
        return None
    places = list(found.submodule_search_locations or []) or [found.origin or ""]
    return Path(places[0]).resolve()


def _refuse(reason: str) -> None:
    sys.stderr.write(f"{reason}\n")
    sys.exit(EXIT_WRONG_SOURCE)


def _run_lambda(task_root: Path, handler: str) -> None:
    location = handler_location(handler)
    if location is None or task_root not in location.parents:
        _refuse(
            f"handler {handler} does not come from the deployed archive at {task_root}"
            f" (found: {location or 'nowhere'}); pack its package into the archive"
        )
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    bootstrap.run(handler, LambdaRuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"]))


def _run_function(archive: Path) -> None:
    from functions_framework import create_app
    from functions_framework._http import create_server

    environment = os.environ
    main_file, target = str(archive / "main.py"), environment["FUNCTION_TARGET"]
    app = create_app(target, main_file, environment["FUNCTION_SIGNATURE_TYPE"])  # type: ignore[no-untyped-call]
    # Gunicorn's control socket has one fixed path for all, and nobody here talks to it.
    options = {"control_socket_disable": True, "graceful_timeout": GRACEFUL_SECONDS}
    server = create_server(app, False, **options)  # type: ignore[no-untyped-call]
    server.run("127.0.0.1", int(environment["PORT"]))


def main() -> None:
    """Seal the import path, check that nothing outside the archive answers, run the function until it is ended."""
    kind, archive = sys.argv[1], Path(sys.argv[2]).resolve()
    seal(archive, SOURCE_ROOT)
    os.chdir(archive)
    foreign = strangers(archive, SOURCE_ROOT)
    if foreign:
        _refuse(f"imports reach outside the deployed archive {archive}: {', '.join(foreign)}")
    if kind == "lambda":
        _run_lambda(archive, sys.argv[3])
    else:
        _run_function(archive)


if __name__ == "__main__":
    main()
