"""Marks each test with the kind that its folder names, and keeps every test off the network.

A test that needs the world outside carries `@pytest.mark.network`; everything else reaches loopback alone.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers import Sharing, kind_of

KINDS = frozenset({"unit", "program", "engine", "local", "chaos", "sim", "page"})
TESTS = Path(__file__).resolve().parent
# The property of a report that holds a line of counts.
TOLD = "told"

# Provider packages take seconds to compile, in every process that a test starts, where this is set.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


class NetworkBlockedError(RuntimeError):
    """A test tried to leave the machine."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "network: may leave the machine; all other tests reach loopback alone")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing:
    return Sharing(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    told = [
        (report.nodeid, text)
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        for name, text in report.user_properties
        if name == TOLD
    ]
    if told:
        terminalreporter.section("counts")
    for nodeid, text in told:
        terminalreporter.write_line(f"{nodeid.rpartition('::')[2]}: {text}")


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Return what takes a line of counts for the end of the run, whichever process the test runs in."""
    return lambda text: record_property(TOLD, text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        items.sort(key=kind_of)
    for item in items:
        kind = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if kind in KINDS:
            item.add_marker(getattr(pytest.mark, kind))


def _is_outside(address: Any) -> bool:
    """Tell whether a socket address leaves the machine; names count as outside, except the machine's own."""
    if not isinstance(address, tuple):
        return False
    host = str(address[0])
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host not in {"localhost", ""}


# Of the whole session, not of each test: fixtures of wider scope run under it too.
_allowed = False
_connect, _connect_ex, _lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _guarded_connect(self: socket.socket, address: Any) -> None:
    _refuse(address)
    return _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    _refuse(address)
    return _connect_ex(self, address)


def _guarded_lookup(host: Any, *arguments: Any, **options: Any) -> Any:
    # A lookup asks a name server, which is outside as well.
    if host is not None:
        _refuse((host.decode() if isinstance(host, bytes) else host,))
    return _lookup(host, *arguments, **options)


def _refuse(address: Any) -> None:
    if not _allowed and _is_outside(address) and not _is_wildcard(address):
        raise NetworkBlockedError(
            f"this test reached for {address}: use loopback, or mark it with @pytest.mark.network"
        )


def _is_wildcard(address: Any) -> bool:
    return isinstance(address, tuple) and str(address[0]) in {"0.0.0.0", "::"}


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guarded_connect)
    patch.setattr(socket.socket, "connect_ex", _guarded_connect_ex)
    patch.setattr(socket, "getaddrinfo", _guarded_lookup)
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _network_by_marker(request: pytest.FixtureRequest) -> Iterator[None]:
    global _allowed
    _allowed = request.node.get_closest_marker("network") is not None
    yield
    _allowed = False
