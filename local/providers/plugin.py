"""The process behind `pulumi-resource-aws`, `-gcp` and `-cloudflare`: serve until the engine is done.

The engine reads the port from the first line of standard output, and ends the process with SIGINT. A Ctrl-C in a
terminal does not reach plugins directly (they have a process group of their own), so SIGINT always means "end", and
ends without a word.
"""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from local.names import Cloud, GroundKind
from local.providers.clouds import CloudClient, GroundCloud, RecordCloud
from local.providers.errors import PluginEnvironmentError
from local.providers.servicer import Provider

# More than the engine's usual parallelism: a slow create must not hold up the others.
WORKERS = 64
# A plugin whose engine was killed must not stay behind; this is how often it looks.
PARENT_CHECK_SECONDS = 1.0
STOP_GRACE_SECONDS = 2.0
_NO_MESSAGE_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

KIND_VARIABLE = "LIFEBOAT_GROUND"
FOLDER_VARIABLE = "LIFEBOAT_GROUND_FOLDER"
_HELP = "run `eval $(./lifeboat local env)` first, or use ./lifeboat up, which sets it"


def connect(cloud: Cloud) -> tuple[CloudClient, Path]:
    """Return the cloud that the environment asks for, recorded or running on the local ground, and its ground's folder.

    Raises PluginEnvironmentError when the environment does not say, or the ground does not run.
    """
    kind, place = os.environ.get(KIND_VARIABLE), os.environ.get(FOLDER_VARIABLE)
    if kind not in set(GroundKind):
        given = f'is "{kind}"' if kind else "is not set"
        raise PluginEnvironmentError(f"{KIND_VARIABLE} {given}, and must be local or record: {_HELP}")
    if not place:
        raise PluginEnvironmentError(f"{FOLDER_VARIABLE} is not set, so there is no ground to deploy to: {_HELP}")
    folder = Path(place)
    if kind == GroundKind.RECORD:
        return RecordCloud(cloud, folder), folder
    # Imported here: a recorded stack needs nothing of the ground.
    from local.errors import GroundNotRunningError
    from local.ground.client import GroundClient

    try:
        endpoints = GroundClient.open(folder).endpoints
    except GroundNotRunningError as error:
        raise PluginEnvironmentError(str(error)) from error
    return GroundCloud(cloud, getattr(endpoints, f"{cloud.value}_api"), folder), folder


def serve(provider: provider_pb2_grpc.ResourceProviderServicer) -> None:
    """Serve until SIGINT, SIGTERM or the end of the engine's process."""
    parent = os.getppid()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=_NO_MESSAGE_LIMIT)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    while not ended.wait(PARENT_CHECK_SECONDS) and os.getppid() == parent:
        pass
    server.stop(STOP_GRACE_SECONDS).wait()
    # Threads in the middle of a request to a lost cloud would hold the interpreter's exit up.
    os._exit(0)


def main(arguments: list[str]) -> int:
    """Run the plugin of the package named by the first argument."""
    cloud = Cloud(arguments[0])
    serve(Provider(cloud, lambda: connect(cloud)))
    return 0
