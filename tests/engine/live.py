"""The program deployed by plain `pulumi` on a running ground: one deploy that many tests share.

A test begins by saying which site it needs active (`Live.settle`), so tests run in any order and alone; in the order of
their files hardly any of them has to deploy for that.
"""

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from functions.settings import Site
from local.engine.environment import STATE_AT_THE_END, engine_environment
from local.ground.client import GroundClient, start_ground
from local.names import Cloud, FaultMode
from local.providers import injections
from local.providers.injections import Injection
from operate import access
from operate.demo import sites
from operate.demo.clock import now_ms
from operate.demo.models import Workshop, publish_and_follow
from operate.workspace import make_project
from service.train import TrainingPlan
from tests.engine.support import COMMAND_SECONDS, Engine, Finished, wait_until

# Small, so that the tests wait for the engine and not for a training.
PLAN = TrainingPlan(user_rows=2_000, product_rows=1_000, embedding_size=32, interactions=20_000)
# A limit that only a machine without any time for the tests exceeds. What the gate's limits do is for its own tests.
FEATURE_LAG_MS = 60_000
READY_SECONDS = 90.0
OPTIONAL = ("lifeboat:userData", "lifeboat:bridge", "lifeboat:redisSource")
REQUEST_SECONDS = 5.0
GOLDEN = {"user_id": "golden", "context": "home_page", "product_ids": ["1", "2", "3"]}
HOSTNAME = "recommend.lifeboat.example"
STACK = "local"
UNCHANGED = frozenset({"same", "read", "refresh"})

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Applied:
    """How an operation of the engine ended, and what it did, in its order."""

    finished: Finished
    events: tuple[Mapping[str, Any], ...]

    @property
    def output(self) -> str:
        """What a person reads."""
        return self.finished.output

    def expect(self, code: int) -> "Applied":
        """Fail the test with the whole output unless the operation ended with the code."""
        self.finished.expect(code)
        return self

    def refused(self) -> str:
        """Return the output of an operation that must have failed, without a program's trace in it."""
        assert self.finished.code != 0, f"pulumi succeeded:\n{self.output}"
        assert "Traceback" not in self.output, self.output
        return self.output

    @property
    def steps(self) -> list[tuple[str, str]]:
        """Return ("begin", name) and ("end", name) of each resource that was to change, in order."""
        kinds = {"resourcePreEvent": "begin", "resOutputsEvent": "end"}
        return [
            (kinds[kind], _name(event[kind]["metadata"]))
            for event in self.events
            for kind in kinds
            if kind in event and event[kind]["metadata"]["op"] not in UNCHANGED
        ]

    @property
    def changed(self) -> dict[str, str]:
        """Return the operation of each resource that was changed, by name."""
        done = [event["resOutputsEvent"]["metadata"] for event in self.events if "resOutputsEvent" in event]
        return {_name(each): each["op"] for each in done if each["op"] not in UNCHANGED}

    @property
    def planned(self) -> list[tuple[str, dict[str, Any]]]:
        """Return type and inputs of every resource that the operation came to."""
        met = [event["resourcePreEvent"]["metadata"] for event in self.events if "resourcePreEvent" in event]
        return [(each["type"], (each.get("new") or {}).get("inputs") or {}) for each in met]


def operate(engine: Engine, *arguments: str) -> Applied:
    """Run an operation of the engine to its end and keep its events."""
    log = engine.ground / "events.json"
    log.unlink(missing_ok=True)
    # The flag is one of the engine's hidden ones.
    environment = {"PULUMI_DEBUG_COMMANDS": "true"} | STATE_AT_THE_END
    finished = engine.run(*arguments, "--event-log", str(log), environment=environment)
    lines = log.read_text().splitlines() if log.exists() else []
    return Applied(finished, tuple(json.loads(line) for line in lines))


class Live:
    """The program's local stack on a ground of its own."""

    def __init__(self, folder: Path, client: GroundClient, engine: Engine) -> None:
        self.client = client
        self.engine = engine
        self.ground = sites.Ground(client)
        self._folder = folder
        self._config = engine.project / "stacks" / f"Pulumi.{STACK}.yaml"
        self._pristine = self._config.read_text()
        self._paused: set[int] = set()
        self._in_line: Site | None = None
        self._version: str | None = None

    @classmethod
    @contextmanager
    def running(cls, folder: Path, *, whole: bool) -> Iterator["Live"]:
        """Start a ground, with the stack made and nothing in it.

        Only `whole` it has user data, the bridge and Redis: a third of the resources, which have no part in a failover.
        """
        client = start_ground(folder / "ground", owned=True)
        try:
            inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "AWS_"))}
            environment = inherited | engine_environment(folder / "home", client, None)
            engine = Engine(make_project(folder / "project"), client.folder, environment, STACK)
            engine.run("stack", "init", STACK).expect(0)
            engine.run("config", "set", "--path", "lifeboat:objectives.featureLagMs", str(FEATURE_LAG_MS)).expect(0)
            for part in OPTIONAL:
                engine.run("config", "set", part, "true" if whole else "false").expect(0)
            yield cls(folder, client, engine)
        finally:
            client.stop()

    # The engine

    def up(self) -> Applied:
        """Deploy, as `pulumi up` does."""
        self._in_line = None
        applied = operate(self.engine, "up", "--yes", "--skip-preview")
        if applied.finished.code == 0 and set(self.client.status().faults.values()) == {FaultMode.NONE}:
            self._in_line = Site(self.engine.outputs()["active"])
        return applied

    def preview(self) -> Applied:
        """Preview an update."""
        return operate(self.engine, "preview")

    def activate(self, site: Site) -> None:
        """Set the config of a failover, and nothing else."""
        self.engine.configure("lifeboat:active", site)

    def hold(self, type_token: str, operation: str) -> Callable[[], bool]:
        """Hold the next operation of a kind up for longer than any test; return what tells whether it is held."""
        self.engine.inject(Injection(type_token, operation, delay_seconds=COMMAND_SECONDS, times=1))
        file = self.client.folder / injections.FILE_NAME
        return lambda: json.loads(file.read_text())[-1]["times"] == 0

    def kill_up_when(self, condition: Callable[[], bool], what: str) -> None:
        """Begin to deploy and SIGKILL the engine as soon as the condition holds; return when its plugins are gone too.

        This run writes its state at every step, as a user's does: what a kill leaves of it is what is tested.
        """
        self._in_line = None
        with (self._folder / "killed.log").open("w") as log:
            command = ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive"]
            process = subprocess.Popen(
                command, cwd=self.engine.project, env=self.engine.environment, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                wait_until(lambda: condition() or process.poll() is not None, what, COMMAND_SECONDS)
            finally:
                process.kill()
                process.wait()
        assert process.returncode == -signal.SIGKILL, f"the engine was done before {what}"
        wait_until(lambda: not self._plugins(), "the end of the killed engine's plugins", COMMAND_SECONDS)

    def pending(self) -> list[dict[str, Any]]:
        """Return the resources of operations that the state holds as begun and not ended."""
        return [each["resource"] for each in self._state().get("pending_operations") or []]

    def known(self) -> set[str]:
        """Return the URNs of all that the engine's state holds."""
        return {each["urn"] for each in self._state().get("resources") or []}

    def deployed(self) -> set[tuple[str, str]]:
        """Return type and id of each of the engine's resources that a cloud should hold."""
        held = [each for each in self._state().get("resources") or [] if each["custom"]]
        return {(each["type"], each["id"]) for each in held if not each["type"].startswith("pulumi:")}

    def _state(self) -> dict[str, Any]:
        exported = json.loads(self.engine.run("stack", "export").expect(0).output)
        deployment: dict[str, Any] = exported["deployment"]
        return deployment

    # The clouds

    def rows(self, *clouds: Cloud) -> list[Row]:
        """Return the clouds' resources as they are stored, every byte and the time of the last change."""
        with sqlite3.connect(self.client.folder / "state.db") as connection:
            rows = connection.execute("SELECT * FROM resources ORDER BY ordinal").fetchall()
        connection.close()
        return [row for row in rows if not clouds or row[1] in clouds]

    def row(self, name: str) -> Row:
        """Return the stored resource of a name."""
        (row,) = [row for row in self.rows() if row[4] == name]
        return row

    def fault(self, cloud: Cloud, mode: FaultMode) -> None:
        """Lose a cloud."""
        self.client.fault(cloud, mode)

    def restore(self, cloud: Cloud) -> None:
        """Bring a cloud back and wait until its fleet answers again."""
        self.client.restore(cloud)
        self.wait_for(self._fleets_ready, "every host is ready again")

    def pause(self, process: str) -> None:
        """Make a process of the ground stand still, as a store does that accepts and never answers."""
        (pid,) = [each.pid for each in self.client.status().processes if each.name == process]
        assert pid is not None
        self._paused.add(pid)
        os.kill(pid, signal.SIGSTOP)

    def unpause(self) -> None:
        """Let paused processes go on."""
        while self._paused:
            os.kill(self._paused.pop(), signal.SIGCONT)

    def leftovers(self) -> list[str]:
        """Return what runs for a cloud beside its own process: functions, instances."""
        clouds = [each.pid for each in self.client.status().processes if each.name.startswith("cloud-")]
        children = [child for pid in clouds if pid for child in psutil.Process(pid).children(recursive=True)]
        commands = [" ".join(child.cmdline()) for child in children if child.is_running()]
        # The supervisor's own: it ends the others should the cloud's process die.
        return [command for command in commands if not command.endswith("reaper.py")]

    def site_that_answers(self) -> str:
        """Return the site that answers a golden request through the public name."""
        port = self.client.names()[HOSTNAME]
        url, headers = f"http://127.0.0.1:{port}/recommend", {"Host": HOSTNAME}
        answer = httpx.post(url, json=GOLDEN, headers=headers, timeout=REQUEST_SECONDS, trust_env=False)
        assert answer.status_code == httpx.codes.OK, answer.text
        assert {each["product_id"] for each in answer.json()["recommendations"]} == {"1", "2", "3"}
        return str(answer.json()["site"])

    def until_answered_by(self, site: Site) -> None:
        """Wait until a site answers the public name, as it does at once unless the machine is busy beyond the probes' limits."""
        self.wait_for(lambda: ((found := self.site_that_answers()) == site, found), f"{site} answers the public name")

    def balancer_alone(self, site: Site) -> tuple[bool, str]:
        """Say whether a site's balancer answers for itself, as it does once it found out that it has no ready host."""
        url = self.engine.outputs()["sites"][site]["url"]
        with httpx.Client(proxy=self.client.endpoints.probe_proxy, timeout=REQUEST_SECONDS, trust_env=False) as client:
            answer = client.get(f"{url}/ready")
        alone = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "no healthy target" in answer.text
        return bool(alone), answer.text

    def pool_order(self) -> list[str]:
        """Return the front door's pools in the order that it was told, whatever their health."""
        state = httpx.get(f"{self.client.endpoints.cloudflare_api}/front-door/state", trust_env=False).json()
        (door,) = state["balancers"]
        return list(door["configured_order"])

    def wait_for(self, condition: Callable[[], tuple[bool, str]], what: str) -> None:
        """Wait for a condition that tells what it sees; the limit fails the test with it."""
        sites.wait_until(condition, READY_SECONDS, what)

    # The state that tests begin with

    def settle(self, active: Site) -> None:
        """Have the stack deployed with this site active, the model served by every host, and no fault anywhere."""
        self.mend()
        if self._version is None:
            # Before any shift: no gate is green while there is nothing to serve.
            self.up().expect(0)
            self._version = self._publish()
            self.wait_for(self.all_serve, "every host serves the model")
        self.activate(active)
        if self._in_line is not active:
            self.up().expect(0)
        self.wait_for(self.all_serve, "every host serves the model")

    def mend(self) -> None:
        """End every fault, pause and injection, and take the config back to what it was."""
        self.unpause()
        for cloud, mode in self.client.status().faults.items():
            if mode is not FaultMode.NONE:
                self.client.restore(cloud)
        self.engine.recover()
        self._config.write_text(self._pristine)

    def destroy(self) -> Applied:
        """Delete everything that the stack holds."""
        self._in_line, self._version = None, None
        return operate(self.engine, "destroy", "--yes", "--skip-preview")

    def all_serve(self) -> tuple[bool, str]:
        """Say whether all hosts that were asked for are there and serve the model, and the front door knows it."""
        ready, seen = self._fleets_ready()
        serving, also_seen = self.ground.all_serve(self._version or "")
        pools = self.ground.pools()
        return ready and serving and all(pools.values()), f"{seen}, {also_seen}, pools {pools}"

    def _fleets_ready(self) -> tuple[bool, str]:
        fleets = {site.value: self.ground.fleet(site) for site in Site}
        ready = all(fleet and fleet.asked == fleet.running == fleet.ready for fleet in fleets.values())
        return ready, str(fleets)

    def _publish(self) -> str:
        version = Workshop(self._folder / "models", PLAN).first()
        outputs = self.engine.outputs()
        with pytest.MonkeyPatch.context() as patch:
            # The AWS SDK reads its own environment only; its clients keep what they found there when they were made.
            for name, value in (self.client.environment() | {access.AWS_REGION: "us-west-2"}).items():
                patch.setenv(name, value)
            clients = access.clients(outputs, self.client.environment())
            return publish_and_follow(clients, Site.AWS, outputs["model"], version, None, now_ms).version

    def _plugins(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if {"local.providers", "local.engine.host"} & set(process.info["cmdline"] or ())
            and self._serves_this_ground(process)
        ]

    def _serves_this_ground(self, process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get("LIFEBOAT_GROUND_FOLDER") == str(self.client.folder))
        except psutil.NoSuchProcess:
            return False


def _name(metadata: Mapping[str, Any]) -> str:
    return str(metadata["urn"]).rpartition("::")[2]
