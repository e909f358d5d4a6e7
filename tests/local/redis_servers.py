"""A Valkey server for a test, under the supervisor: it ends with the test process whatever happens to it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from local.ground.valkey import valkey
from local.supervisor import Supervisor


class RedisServer:
    """A running server; it can be killed and started again on the same port and folder."""

    def __init__(self, folder: Path, keep: bool) -> None:
        self._loop = asyncio.new_event_loop()
        self._supervisor = Supervisor(folder)
        self._make = valkey(folder, keep=keep)
        process, self.port = self._loop.run_until_complete(self._supervisor.start_on_free_port(self._make))
        self.name = process.name
        self.url = f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def kill(self) -> None:
        self._loop.run_until_complete(self._supervisor.kill(self.name))

    def start(self) -> None:
        self._loop.run_until_complete(self._supervisor.start(self._make(self.port)))

    def stop(self) -> None:
        self._loop.run_until_complete(self._supervisor.stop_all())
        self._loop.close()


@contextmanager
def redis_server(folder: Path, *, keep: bool = False) -> Iterator[RedisServer]:
    server = RedisServer(folder, keep)
    try:
        yield server
    finally:
        server.stop()
