"""Fetches DynamoDB Local, with Maven if there is one, else straight from the repository, and says how to start it."""

import concurrent.futures
import hashlib
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import httpx

from local.toolchain.errors import ToolBuildError
from local.toolchain.golang import Progress
from local.toolchain.pins import Tool
from local.toolchain.places import JARS, POM, UNFINISHED, dynamodb_folder, locate, tools_folder
from local.toolchain.running import cause_of, run
from local.toolchain.versions import version_of

MAIN_CLASS = "software.amazon.dynamodb.services.local.main.ServerRunner"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
FETCH_SECONDS = 300.0
# First Java that warns about native access that was not asked for; older ones refuse to start with the option.
NATIVE_ACCESS_JAVA = (24,)
NEXT_STEP = (
    "Check the network and Maven's settings (~/.m2/settings.xml), then run this again. Until then moto takes over."
)


def command(jars: Path, java: Path) -> tuple[str, ...]:
    """Return the command that starts DynamoDB Local; port and storage options come after it."""
    native = (
        ("--enable-native-access=ALL-UNNAMED",) if (version_of(Tool.JAVA, java) or ()) >= NATIVE_ACCESS_JAVA else ()
    )
    # Left alone the heap may take a quarter of the machine; one collector thread is enough and starts faster. The second
    # compiler takes more time than it saves: without it a start costs half, and so do the first 6,000 writes.
    options = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return (str(java), *options, *native, "-cp", f"{jars}{os.sep}*", MAIN_CLASS)


def fetch(progress: Progress, lock: int) -> None:
    """Fetch the jars into the cache, all or none. Raises ToolBuildError."""
    target = dynamodb_folder()
    maven = locate(Tool.MAVEN)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=tools_folder()) as temporary:
        jars = Path(temporary) / "jars" / "lib"
        jars.mkdir(parents=True)
        if maven:
            progress("fetching DynamoDB Local with Maven (50 MB): stands for DynamoDB and its streams")
            _with_maven(maven, jars, Path(temporary) / "repository", lock)
        else:
            progress("fetching DynamoDB Local from the Maven repository (27 MB, no Maven on PATH): stands for DynamoDB")
            _with_http(jars)
        jars.parent.rename(target)


def _with_maven(maven: Path, jars: Path, repository: Path, lock: int) -> None:
    # The user's own local repository if there is one (it may hold what the network does not), else a throw-away one.
    users = Path("~/.m2/repository").expanduser()
    options = () if users.is_dir() else (f"-Dmaven.repo.local={repository}",)
    outcome = run(
        [str(maven), "-q", "-B", "-f", str(POM), COPY, "-DincludeScope=runtime", f"-DoutputDirectory={jars}", *options],
        environment=os.environ,
        seconds=FETCH_SECONDS,
        keep_open=lock,
    )
    if outcome.exit_code != 0:
        raise ToolBuildError("DynamoDB Local", f"Maven failed: {cause_of(outcome)}", NEXT_STEP)


def pinned_jars(listing: str) -> dict[str, str]:
    """Read a list of `sha256  path` lines; return path -> digest."""
    lines = (line.split("#", 1)[0].split() for line in listing.splitlines())
    return {path: digest for digest, path in (parts for parts in lines if parts)}


def repository_address(settings: Path) -> str:
    """Return the address that a Maven settings file sends Maven Central to, or Maven Central's own."""
    try:
        # The user's own file, on the user's own machine.
        mirrors = ElementTree.parse(settings).getroot().findall(".//{*}mirror")  # noqa: S314
    except (OSError, ElementTree.ParseError):
        return MAVEN_CENTRAL
    for mirror in mirrors:
        of = (mirror.findtext("{*}mirrorOf") or "").split(",")
        address = (mirror.findtext("{*}url") or "").strip()
        if address.startswith("http") and {"*", "external:*", "central"} & {part.strip() for part in of}:
            return address.rstrip("/")
    return MAVEN_CENTRAL


def _with_http(jars: Path) -> None:
    address = repository_address(Path("~/.m2/settings.xml").expanduser())
    pinned = pinned_jars(JARS.read_text(encoding="utf-8"))
    with (
        httpx.Client(timeout=FETCH_SECONDS, follow_redirects=True) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):

        def fetch_one(path: str) -> None:
            try:
                answer = client.get(f"{address}/{path}").raise_for_status()
            except httpx.HTTPError as error:
                raise ToolBuildError("DynamoDB Local", f"{address}/{path}: {error}", NEXT_STEP) from error
            if hashlib.sha256(answer.content).hexdigest() != pinned[path]:
                raise ToolBuildError(
                    "DynamoDB Local", f"{address}/{path} is not the file that is pinned in {JARS}", NEXT_STEP
                )
            (jars / Path(path).name).write_bytes(answer.content)

        for done in [pool.submit(fetch_one, path) for path in pinned]:
            done.result()
