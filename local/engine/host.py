"""A language host for Python programs, for machines where the CLI is there without the official one.

It answers the LanguageRuntime protocol on top of the server that the SDK uses for inline programs
(`pulumi.automation`), and runs the program in its own process and interpreter, which must be the one that has the
program's packages. `runtime.options` of Pulumi.yaml is ignored for that reason. Program errors are reported as the
official host reports them: once, with the program's own frames only.
"""
# ruff: noqa: N802 - the protocol names the methods

import asyncio
import contextvars
import gc
import importlib.metadata
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pulumi
from pulumi.automation._server import LanguageServer
from pulumi.runtime import reset_options, run_in_stack, set_all_config
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

WORKERS = 16
PARENT_CHECK_SECONDS = 1.0
# The SDK's inline server multiplies the engine's parallelism by the same factor: blocked registrations hold a thread.
THREADS_PER_OPERATION = 4


class Host(LanguageServer):
    """Runs programs and policy packs for one engine."""

    def __init__(self, engine_address: str) -> None:
        super().__init__(lambda: None)
        self._engine_address = engine_address

    def Handshake(self, request: Any, context: Any) -> Any:
        """Accept the engine's greeting; there is nothing to negotiate."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Report the version of the SDK that runs the programs."""
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def Run(self, request: Any, context: Any) -> Any:
        """Run the program; an error is shown to the user here, so the engine is only told to stop."""
        # The runtime's settings live in context variables, so each run has a context of its own.
        succeeded = contextvars.copy_context().run(self._run, request)
        return language_pb2.RunResponse(bail=not succeeded)

    def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:
        """Run a policy pack or a plugin written in Python, and pass its output on until it ends."""
        folder = request.info.program_directory or request.program
        command = [sys.executable]
        if request.kind == "analyzer":
            command += ["-m", "pulumi.policy", *request.args, folder]
        else:
            command += [str(Path(folder) / (request.info.entry_point or ".")), *request.args]
        environment = dict(item.partition("=")[::2] for item in request.env)
        process = subprocess.Popen(
            command,
            cwd=request.pwd or None,
            env=environment or None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # The engine ends a plugin by ending the call.
        context.add_callback(process.terminate)
        for name, chunk in _output_of(process):
            yield _plugin_output(name, chunk)
        yield language_pb2.RunPluginResponse(exitcode=process.wait())

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        """Install the requirements.txt of a program or policy pack into this interpreter's environment."""
        folder = Path(request.info.program_directory or request.directory)
        if not (folder / "requirements.txt").exists():
            return
        process = subprocess.Popen(
            [sys.executable, "-m", "pip", "install", "-r", "requirements.txt"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name, chunk in _output_of(process):
            yield language_pb2.InstallDependenciesResponse(**{name: chunk})
        if process.wait():
            context.abort(grpc.StatusCode.UNKNOWN, f"pip could not install {folder / 'requirements.txt'}")

    def _run(self, request: Any) -> bool:
        program = Path(request.info.program_directory, request.info.entry_point or request.program)
        reset_options(
            project=request.project,
            stack=request.stack,
            root_directory=request.info.root_directory,
            monitor_address=request.monitor_address,
            engine_address=self._engine_address,
            parallel=request.parallel,
            preview=request.dryRun,
            organization=request.organization or "organization",
        )
        set_all_config(dict(request.config), list(request.configSecretKeys))
        # A failed deployment leaves futures unobserved, which asyncio would complain about at length.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        loop = asyncio.new_event_loop()
        loop.set_default_executor(ThreadPoolExecutor(max(request.parallel, 1) * THREADS_PER_OPERATION))
        try:
            with _program_environment(program, request.pwd):
                loop.run_until_complete(run_in_stack(lambda: _run_path(program)))
            return True
        except pulumi.RunError as error:
            pulumi.log.error(str(error))
        except grpc.RpcError as error:
            # An unavailable monitor is one that ends because the deployment failed; the engine has said why.
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                pulumi.log.error(f"the engine refused a request of the program: {error.details()}")
        except SystemExit as error:
            if not error.code:
                return True
            pulumi.log.error(f"Program ended with exit code {error.code}")
        except Exception as error:  # noqa: BLE001 - whatever the program raised is for its author
            pulumi.log.error("Program failed with an unhandled exception:\n" + _program_trace(error, program))
        finally:
            _close(loop)
        return False


def _run_path(program: Path) -> None:
    if program.is_dir() and not (program / "__main__.py").exists():
        raise pulumi.RunError(f"unable to find main python program `__main__.py` in `{program}`")
    runpy.run_path(str(program), run_name="__main__")


@contextmanager
def _program_environment(program: Path, folder: str) -> Iterator[None]:
    """Give the program its folder and import path; the engine starts a fresh host for preview and update each."""
    old_path, old_folder = list(sys.path), Path.cwd()
    sys.path.insert(0, str(program if program.is_dir() else program.parent))
    os.chdir(folder)
    try:
        yield
    finally:
        sys.path[:] = old_path
        os.chdir(old_folder)


def _program_trace(error: BaseException, program: Path) -> str:
    main = program / "__main__.py" if program.is_dir() else program
    frames = traceback.extract_tb(error.__traceback__)
    first = next((index for index, frame in enumerate(frames) if Path(frame.filename) == main), 0)
    return "".join(traceback.format_exception(error, limit=first - len(frames)))


def _close(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            loop.run_until_complete(task)
    loop.close()
    sys.stdout.flush()
    sys.stderr.flush()


def _plugin_output(name: str, chunk: bytes) -> Any:
    return (
        language_pb2.RunPluginResponse(stdout=chunk)
        if name == "stdout"
        else language_pb2.RunPluginResponse(stderr=chunk)
    )


def _output_of(process: subprocess.Popen[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield a process's output as it comes, marked with the stream's name, until both streams end."""
    chunks: SimpleQueue[tuple[str, bytes]] = SimpleQueue()

    def forward(name: str, stream: Any) -> None:
        while chunk := stream.read1(65536):
            chunks.put((name, chunk))
        chunks.put((name, b""))

    streams = {"stdout": process.stdout, "stderr": process.stderr}
    for name, stream in streams.items():
        threading.Thread(target=forward, args=(name, stream), daemon=True).start()
    while streams:
        name, chunk = chunks.get()
        if chunk:
            yield name, chunk
        else:
            del streams[name]


def main(arguments: Sequence[str]) -> None:
    """Serve the engine whose address is the last argument, until SIGINT, SIGTERM or its end."""
    # One program runs here, once. What it imports and builds lives to its end, and looking through all that for garbage
    # again and again takes two fifths of the run's time.
    gc.disable()
    parent = os.getppid()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=[("grpc.max_receive_message_length", -1)])
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(arguments[-1]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    while not ended.wait(PARENT_CHECK_SECONDS) and os.getppid() == parent:
        pass
    server.stop(0)
    # A program's thread that waits for a dead engine would hold the interpreter's exit up.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
