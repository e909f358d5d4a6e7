"""Runs every check of the repository: format, rules and types first, then the tests, whose own summary comes last."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from local import paths
from local.toolchain import ensure
from local.toolchain.pins import Tool
from local.toolchain.places import locate
from operate.output import Progress, progress, say, write_json

# How page tests find the browser; without it they are skipped and say why.
BROWSER = "LIFEBOAT_CHROMIUM"
INSTALL_SECONDS = 300.0
# Half of what the tests take is waiting for servers. More processes would help only where there are more cores than two, and
# each has grounds of its own.
PROCESSES = 2


@dataclass(frozen=True)
class Check:
    """One check that is not a test, and how it ended."""

    name: str
    passed: bool
    seconds: float


_CHECKS = (
    ("ruff format", ("ruff", "format", "--check", "--quiet", ".")),
    ("ruff check", ("ruff", "check", "--quiet", ".")),
    ("mypy --strict", ("mypy", "--strict", "--no-error-summary")),
)


def run(arguments: list[str], *, as_json: bool) -> int:
    """Run all checks, then pytest with `arguments`; return the exit code, which is not 0 if anything failed.

    With `as_json` everything that the checks say goes to standard error, and the result to standard output.
    """
    with progress() as tell:
        tools = ensure(tell)
        browser = _browser(tell)
    for note in tools.notes:
        say(note)
    environment = {**os.environ, **({BROWSER: str(browser)} if browser else {})}
    checks = [_check(name, command, environment) for name, command in _CHECKS]
    failed = [check.name for check in checks if not check.passed]
    if failed:
        say(f"FAILED before the tests: {', '.join(failed)}. The reasons are above; the tests run all the same.")
    else:
        say("format, rules and types: passed")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        exit_code = _pytest(arguments, environment, report if as_json else None)
        passed = exit_code == 0 and not failed
        if as_json:
            write_json({"passed": passed, "checks": checks, "tests": _counts(report), "pytest_exit_code": exit_code})
    return 0 if passed else exit_code or 1


def _check(name: str, command: tuple[str, ...], environment: dict[str, str]) -> Check:
    # The type check takes a minute or more the first time, without a word.
    say(f"{name} ...")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command], cwd=paths.ROOT, env=environment, stdout=sys.stderr.fileno(), check=False
    )
    check = Check(name, done.returncode == 0, round(time.monotonic() - started, 1))
    say(f"{name}: {'passed' if check.passed else 'FAILED'} in {check.seconds} s")
    return check


def _pytest(arguments: list[str], environment: dict[str, str], report: Path | None) -> int:
    # A choice of tests runs in one process, where a debugger and `-s` work.
    shared = [] if arguments else [f"--numprocesses={PROCESSES}"]
    command = [sys.executable, "-P", "-m", "pytest", *shared, *arguments]
    if report:
        command.append(f"--junitxml={report}")
    # From the root, where pytest's settings are. Paths among the arguments are meant from there, as in every document of ours.
    output = sys.stderr.fileno() if report else None
    with subprocess.Popen(command, cwd=paths.ROOT, env=environment, stdout=output) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # pytest got the same signal: it stops what it started, writes its summary and ends by itself.
                continue


def _counts(report: Path) -> dict[str, int]:
    if not report.exists():
        return {}
    # pytest's own file, written a moment ago.
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))  # noqa: S314
    return {
        name: sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }


def _browser(tell: Progress) -> Path | None:
    """Return a Chromium for the page tests; install it where that is ours to do: as root on a Debian without one."""
    found = locate(Tool.CHROMIUM)
    apt = shutil.which("apt-get")
    wanted = any((paths.ROOT / "tests" / "page").glob("**/test_*.py"))
    if found or not wanted or not apt or os.geteuid() != 0:
        return found
    tell("installing Chromium with apt-get (395 MB): page tests open pages in it")
    install = [apt, "install", "-y", "--no-install-recommends", "chromium"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # An image's package lists are often empty or old: the second try fetches them first.
    for steps in ([install], [[apt, "update"], install]):
        try:
            if all(
                subprocess.run(
                    step, env=environment, capture_output=True, timeout=INSTALL_SECONDS, check=False
                ).returncode
                == 0
                for step in steps
            ):
                break
        except subprocess.TimeoutExpired:
            break
    return locate(Tool.CHROMIUM)
