"""Runs the demo: both clouds up, models and live data on their way, AWS killed under traffic, a failover by config, a report."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from functions.artifacts import kernel
from functions.artifacts.encode import exists
from functions.artifacts.paths import manifest_key
from functions.settings import Site
from functions.stores.clients import Clients
from local import paths
from local.engine.environment import STATE_AT_THE_END, engine_environment
from local.errors import GroundNotRunningError
from local.ground import user_data
from local.ground.client import DynamodbKind, GroundClient, start_ground
from local.names import Cloud, FaultMode
from local.toolchain import ensure
from local.toolchain import kernel as kernel_tool
from operate import access
from operate.demo import measure
from operate.demo.bridge import BridgeTraffic
from operate.demo.clock import now_ms
from operate.demo.features import FeatureLoad
from operate.demo.loads import LiveData
from operate.demo.models import Version, Workshop, proven, publish_and_follow
from operate.demo.outcome import Loss, Seen, result
from operate.demo.rungs import shares
from operate.demo.sessions import SessionLoad
from operate.demo.sites import Ground, wait_until
from operate.demo.story import Step, Story
from operate.demo.traffic import Traffic
from operate.demo.users import UserLoad
from operate.demo.writers import Load
from operate.output import progress, say
from operate.report.result import Artifact, Demo, ServiceFigures, Timeline
from operate.report.write import write
from operate.stacks import Outcome, Stack
from operate.verify.models import parity, verify_models
from operate.verify.parts import FEATURES, USERS, Subject
from operate.verify.parts import run as verify_parts
from operate.workspace import make_project
from service.train import TrainingPlan

STACK = "local"
GROUND = "demo"
REQUESTS_PER_SECOND = 20.0
# Rows a second of the program at home on each site. Google's go on while AWS is away, and wait there for its return.
FEATURE_ROWS = {Site.AWS: 40.0, Site.GCP: 8.0}
SESSION_ROWS = {Site.AWS: 4.0, Site.GCP: 2.0}
USER_ROWS = {Site.AWS: 4.0, Site.GCP: 3.0}
MESSAGES_PER_SECOND = 5
# What a rung of the codec ladder did for less is in demo.json alone.
TOLD_BYTES = 10_000
# The far side is asked for the rows on their way this often; it bounds how exact a lag is.
LOOK_SECONDS = {"features": 0.01, "sessions": 0.03, "userdata": 0.03}
# Long enough to see a steady state in the picture before the loss, after the failover, and once both sites are back.
STEADY_SECONDS = 8.0
AFTER_SECONDS = 3.0
TOGETHER_SECONDS = 3.0
# So many ways of each kind of data are measured before the loss, however slow the machine is.
SAMPLES = 10
WARM_LIMIT_SECONDS = 150.0
FLEET_LIMIT_SECONDS = 150.0
DETECTION_LIMIT_SECONDS = 60.0
DRAIN_LIMIT_SECONDS = 150.0
SEED = 7


class Run:
    """One demo run; each method is a step of the story."""

    def __init__(self, story: Story, resources: ExitStack) -> None:
        self._story = story
        self._resources = resources
        self._marks: list[tuple[float, str]] = []
        self._figures: list[ServiceFigures] = []
        self._artifacts: list[Artifact] = []
        self._folder: Path | None = None
        self._left_out = user_data.missing()

    def whole(self) -> tuple[Demo, Timeline]:
        """Run all steps and return what was measured."""
        self._start_clouds()
        up, second = self._deploy()
        self._models()
        self._start_load()
        loss = self._lose_aws()
        flip = self._fail_over(loss)
        self._look_after(loss)
        self._bring_back(loss)
        seen = self._compare()
        return result(self._story, self._stack.engine_version, self._dynamodb(), up, second, flip, loss, seen)

    def _start_clouds(self) -> None:
        with self._story.step(
            "Start both clouds", "emulators, provider plugins' clouds, a front door, all on this machine"
        ) as step:
            home = fresh(paths.ground_folder(GROUND))
            client = start_ground(home, owned=True)
            self._resources.callback(client.stop)
            self._ground = Ground(client)
            environment = engine_environment(home / "engine", client, None) | STATE_AT_THE_END
            os.environ.update(client.environment())
            os.environ.setdefault(access.AWS_REGION, "us-west-2")
            if library := kernel_tool.locate():
                # The functions have it in their archives.
                os.environ.setdefault(kernel.ENVIRONMENT, str(library))
            self._stack = Stack(make_project(home / "project"), STACK, environment)
            step.tell(
                f"{len(client.status().processes)} processes, DynamoDB by {self._dynamodb()}, Pulumi {self._stack.engine_version}"
            )
            if self._left_out:
                step.tell(self._left_out)

    def _dynamodb(self) -> str:
        return "DynamoDB Local" if self._ground.client.dynamodb is DynamodbKind.LOCAL else "moto (no Java or no jars)"

    def _deploy(self) -> tuple[Outcome, Outcome]:
        with self._story.step("pulumi up", "one program builds the service on AWS and on Google Cloud") as step:
            up = self._stack.up(step.working)
            step.tell(f"{up.resources} resources in {up.seconds:.1f} s")
            self._outputs = self._stack.outputs()
            self._model = str(self._outputs["model"])
            self._clients: Clients = access.clients(self._outputs, os.environ)
        with self._story.step("pulumi up, again", "a program that is in line with its clouds changes nothing") as step:
            second = self._stack.up(step.working)
            self._story.check("the second up changes nothing", second.changed == 0, f"{second.changed} changes")
        return up, second

    def _models(self) -> None:
        self._workshop = Workshop(paths.ground_folder(GROUND) / "models", TrainingPlan())
        with self._story.step("Train version 1", "a recommender, learned from 600,000 seeded interactions") as step:
            first = self._workshop.first()
            step.tell(f"ranks a held-out choice above a random one {first.quality:.1%} of the time")
        with self._story.step(
            "Publish version 1 on AWS", "the manifest's event starts the copy; nobody calls anything"
        ) as step:
            self._publish(Site.AWS, first, step)
        with self._story.step(
            "Train further, publish version 2", "newer interactions; its parent is version 1"
        ) as step:
            second = self._workshop.further("v2")
            step.tell(f"ranking quality {first.quality:.1%} -> {second.quality:.1%}")
            self._publish(Site.AWS, second, step)
        with self._story.step(
            "Publish version 3, an adapter alone", "its parent's weights stay where they are"
        ) as step:
            third = self._workshop.adapter("v3", second)
            step.tell(f"ranking quality {second.quality:.1%} -> {third.quality:.1%}")
            version = self._publish(Site.AWS, third, step)
            waited = wait_until(
                lambda: self._ground.all_serve(version), FLEET_LIMIT_SECONDS, "every host serves version 3"
            )
            step.tell(f"every host of both sites serves it {waited:.1f} s later")
            # Now, as a training beside the traffic would show as slow answers.
            self._fourth = self._workshop.further("v4")
            step.tell(f"version 4 is trained for later, ranking quality {self._fourth.quality:.1%}")

    def _publish(self, site: Site, version: Version, step: Step) -> str:
        parent = self._artifacts[-1].version if self._artifacts else None
        artifact = publish_and_follow(self._clients, site, self._model, version, parent, now_ms)
        codecs = shares(version.folder, self._folder)
        self._artifacts.append(artifact.model_copy(update={"codecs": codecs}))
        self._folder = version.folder
        step.tell(
            f"{artifact.version[:12]}: {artifact.bytes_raw / 1e6:.1f} MB, {artifact.bytes_wire / 1e6:.2f} MB sent"
            f" ({artifact.ratio:.1%}), proven and aliased on {site.peer} {artifact.seconds:.1f} s after the publish"
        )
        told = [each for each in codecs if each.bytes_raw >= TOLD_BYTES]
        step.tell(
            ", ".join(f"{each.codec} {each.bytes_raw / 1e6:.2f} -> {each.bytes_wire / 1e6:.2f} MB" for each in told)
        )
        return artifact.version

    def _start_load(self) -> None:
        with self._story.step(
            "Users and live data",
            f"{REQUESTS_PER_SECOND:.0f} requests/s through the front door; features, sessions, users and orders written on"
            " both sides, messages sent from both",
        ) as step:
            hostname = str(self._outputs["publicUrl"]).partition("://")[2]
            self._traffic = Traffic(self._ground.client.names()[hostname], hostname, REQUESTS_PER_SECOND)
            self._traffic.start()
            self._resources.callback(self._traffic.stop)
            self._sessions = SessionLoad(self._clients, SEED)
            loads: list[tuple[Load, Mapping[Site, float]]] = [
                (FeatureLoad(self._clients, TrainingPlan().embedding_size, SEED), FEATURE_ROWS),
                (self._sessions, SESSION_ROWS),
                *([] if self._left_out else [(UserLoad(self._clients, SEED), USER_ROWS)]),
            ]
            self._live = {
                load.name: LiveData(load, rates, self._traffic.began, LOOK_SECONDS[load.name]) for load, rates in loads
            }
            self._bridge = BridgeTraffic(
                self._clients, self._outputs["bridge"], self._ground.client.endpoints.pubsub, MESSAGES_PER_SECOND
            )
            parts: tuple[LiveData | BridgeTraffic, ...] = (*self._live.values(), self._bridge)
            for part in parts:
                part.start()
                self._resources.callback(part.stop)
            time.sleep(STEADY_SECONDS)
            wait_until(self._all_travel, WARM_LIMIT_SECONDS, "every kind of data travels both ways")
            answers = self._traffic.answers()
            good = [answer for answer in answers if answer.site == Site.AWS and not answer.failure]
            self._story.check("AWS answers every user", len(good) == len(answers) > 0, f"{len(good)} of {len(answers)}")
            for name, data in self._live.items():
                there, back = (measure.lag_quantiles(data.lags(site)) for site in (Site.GCP, Site.AWS))
                step.tell(
                    f"{name}: on Google Cloud after {there.p50:.0f} ms (p99 {there.p99:.0f} ms),"
                    f" on AWS after {back.p50:.0f} ms (p99 {back.p99:.0f} ms)"
                )

    def _all_travel(self) -> tuple[bool, str]:
        seen = {f"{name} to {site}": len(data.lags(site)) for name, data in self._live.items() for site in Site}
        seen |= {f"messages to {site.peer}": len(self._bridge.lags(0.0, site)) for site in Site}
        return all(count >= SAMPLES for count in seen.values()), f"seen: {seen}"

    def _lose_aws(self) -> Loss:
        with self._story.step(
            "AWS is lost", "killed in the middle of traffic: S3, DynamoDB, Aurora, SQS, Lambda, the fleet, its APIs"
        ) as step:
            self._measure(Site.AWS)
            rescued_before = int(self._ground.statistics().get("rescued", 0))
            at = time.monotonic()
            self._ground.client.fault(Cloud.AWS, FaultMode.KILL)
            # Its programs wrote on until the kill was in force, so what was lost counts from here.
            gone = time.monotonic()
            self._mark(at, "AWS killed")
            messages = self._bridge.waiting(Site.AWS)
            cuts = {name: data.cut(Site.AWS, gone) for name, data in self._live.items()}
            loss = Loss(at, gone, cuts, messages, rescued_before)
            for name, cut in cuts.items():
                step.tell(
                    f"{name}: {len(cut.unreplicated)} of {len(cut.acknowledged)} acknowledged writes were not on Google"
                    f" Cloud yet, the oldest {cut.rpo_seconds * 1000:.0f} ms old"
                )
            pool = next(name for name in self._ground.pools() if name.endswith(f"-{Site.AWS}"))
            wait_until(
                lambda: (not self._ground.pools()[pool], f"pool {pool} up"),
                DETECTION_LIMIT_SECONDS,
                "the front door sees the loss",
            )
            loss.detected_seconds = time.monotonic() - at
            self._mark(time.monotonic(), "front door takes AWS out")
            step.tell(
                f"the front door's checks take AWS out after {loss.detected_seconds:.1f} s; until then it rescues requests"
            )
        return loss

    def _fail_over(self, loss: Loss) -> Outcome:
        with self._story.step(
            "pulumi config set lifeboat:active gcp && pulumi up",
            "with every endpoint of AWS dead; the gate is asked first",
        ) as step:
            self._stack.set_config("lifeboat:active", Site.GCP)
            loss.flip_began = time.monotonic()
            self._mark(loss.flip_began, "pulumi up begins")
            flip = self._stack.up(step.working)
            loss.proven = time.monotonic()
            self._mark(loss.proven, "Google Cloud proven through the public name")
            for log in flip.logs:
                if log.message.startswith((measure.GATE, measure.VERIFICATION)):
                    step.tell(log.message)
            first = self._ground.order()[:1]
            self._story.check(
                "the failover succeeds with AWS dead",
                first == [f"{self._prefix()}-{Site.GCP}"],
                f"{flip.seconds:.1f} s",
            )
        return flip

    def _look_after(self, loss: Loss) -> None:
        serving = self._artifacts[-1].version
        with self._story.step(
            "Google Cloud serves", "the same model version, everyone's sessions, new writes of every kind"
        ):
            loss.sessions_went_on, loss.sessions_open = self._sessions.go_on(Site.GCP)
            self._story.check(
                "every session goes on at Google Cloud",
                loss.sessions_went_on == loss.sessions_open,
                f"{loss.sessions_went_on} of {loss.sessions_open}",
            )
            before = {name: len(data.acknowledged(Site.GCP)) for name, data in self._live.items()}
            for data in self._live.values():
                data.move(Site.AWS, Site.GCP)
            self._bridge.pause(Site.AWS)
            began = time.monotonic()
            time.sleep(AFTER_SECONDS)
            loss.rescued = int(self._ground.statistics().get("rescued", 0)) - loss.rescued_before
            after = [answer for answer in self._traffic.answers() if answer.sent_at >= began]
            good = [each for each in after if each.site == Site.GCP and not each.failure and each.version == serving]
            self._story.check(
                "Google Cloud answers every user with the same model version",
                len(good) == len(after) > 0,
                f"{len(good)} of {len(after)}",
            )
            taken = {name: len(data.acknowledged(Site.GCP)) - before[name] for name, data in self._live.items()}
            self._story.check(
                "Google Cloud takes every kind of write",
                all(taken.values()),
                ", ".join(f"{count} {name}" for name, count in taken.items()),
            )
            self._measure(Site.GCP)

    def _bring_back(self, loss: Loss) -> None:
        with self._story.step(
            "AWS comes back", "its data was there all the time; what either side had not sent must arrive now"
        ) as step:
            self._ground.client.restore(Cloud.AWS)
            self._mark(time.monotonic(), "AWS back")
            for data in self._live.values():
                data.move(Site.AWS, Site.AWS)
            self._bridge.pause()
            began = time.monotonic()
            newest = self._publish(Site.GCP, self._fourth, step)
            time.sleep(max(0.0, began + TOGETHER_SECONDS - time.monotonic()))
            self._bridge.pause(*Site)
            for data in self._live.values():
                data.stop_writing()
            for data in self._live.values():
                waited = data.settle()
                step.tell(
                    f"{data.name}: each site has all that the other one took, {waited:.1f} s after the last write"
                )
            lost = {name: data.lost(loss.cuts[name]) for name, data in self._live.items()}
            loss.lost_writes = sum(lost.values())
            self._story.check(
                "no acknowledged write is lost",
                loss.lost_writes == 0,
                ", ".join(f"{len(cut.acknowledged)} {name}" for name, cut in loss.cuts.items()),
            )
            wait_until(
                lambda: (not (left := self._bridge.waiting()), f"{len(left)} messages not there"),
                DRAIN_LIMIT_SECONDS,
                "every message at the other end of the bridge",
            )
            self._story.check("every message came over the bridge", True, f"{len(self._bridge.sent)} messages")
            waited = wait_until(
                lambda: self._ground.all_serve(newest), FLEET_LIMIT_SECONDS, "every host serves version 4"
            )
            step.tell(f"every host of both sites serves version 4, {waited:.1f} s later")

    def _compare(self) -> Seen:
        with self._story.step("Compare everything", "as ./lifeboat verify does: every store, at every place") as step:
            answers = self._traffic.stop()
            self._bridge.stop()
            for data in self._live.values():
                data.stop()
            at = access.places(self._clients)
            waited = wait_until(
                lambda: (all(exists(at[access.THIRD], _key(each)) for each in self._artifacts), "not all shown there"),
                DRAIN_LIMIT_SECONDS,
                "every model version in the third copy",
            )
            # A copy that the loss broke off is taken up when its message is visible again.
            step.tell(f"every model version is on R2, {waited:.1f} s later")
            models = verify_models(at, self._clients.trust, clock_ms=now_ms, tell=step.working)
            artifacts = [proven(each, models, at) for each in self._artifacts]
            subject = Subject(self._clients, now_ms, on_this_machine=True)
            parities = [*verify_parts([FEATURES, USERS], subject, step.working), parity(models)]
            for each in parities:
                rows = ", ".join(f"{side.rows:,} on {place}" for place, side in each.sides.items())
                step.tell(f"{each.store}: {rows or each.skipped}")
            self._story.check(
                "both sites hold the same rows", all(each.equal is not False for each in parities), "equal digests"
            )
            self._story.check(
                "every model version is proven on AWS, on Google Cloud and on R2",
                all(each.verified for each in artifacts),
                f"{len(artifacts)} versions read back everywhere",
            )
            refused = self._sessions.refused
            self._story.check("no session was refused", not refused, "; ".join(refused[:3]))
        return Seen(
            artifacts=artifacts,
            live=self._live,
            sessions=self._sessions,
            bridge=self._bridge,
            parities=parities,
            answers=answers,
            began=self._traffic.began,
            figures=self._figures,
            marks=self._marks,
        )

    def _measure(self, site: Site) -> None:
        found = self._ground.figures(site)
        self._figures += [found] if found else []

    def _prefix(self) -> str:
        return str(self._outputs["sites"][Site.AWS]["artifactBucket"]).removesuffix(f"-artifacts-{Site.AWS}")

    def _mark(self, at: float, label: str) -> None:
        self._marks.append((at, label))


def _key(artifact: Artifact) -> str:
    return manifest_key(artifact.model, artifact.version)


def fresh(folder: Path) -> Path:
    """Return a ground's folder with nothing in it: what an earlier run left, a running ground included, is gone.

    The demo begins with nothing, or its stack would remember where the last run had failed over to. The logs of a run stay
    until the next one.
    """
    with contextlib.suppress(GroundNotRunningError):
        GroundClient.open(folder).stop()
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def run(report: Path, *, as_json: bool) -> int:
    """Run the demo, write its report into a folder, and return the exit code: 0 when every check passed."""
    # Set-up is not part of the story, nor of its time: it happens once.
    with progress() as tell:
        notes = ensure(tell).notes
    for note in notes:
        say(note)
    story = Story(sys.stderr if as_json else sys.stdout)
    with ExitStack() as resources:
        demo, timeline = Run(story, resources).whole()
    write(demo, timeline, report)
    if as_json:
        sys.stdout.write((report / "demo.json").read_text(encoding="utf-8"))
    story.end(
        f"{'Every check passed' if demo.passed else 'Some checks FAILED'} in {demo.seconds:.0f} s."
        f" Report: {report / 'index.html'}, figures: {report / 'demo.json'}"
    )
    return 0 if demo.passed else 1
