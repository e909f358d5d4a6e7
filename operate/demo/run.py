"""Runs the demo: both clouds up, models and features on their way, AWS killed under traffic, a failover by config, a report."""

import contextlib
import os
import platform
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from functions.features.client import FeatureStore
from functions.settings import Site
from functions.stores.clients import Clients
from local import paths
from local.engine.environment import engine_environment
from local.errors import GroundNotRunningError
from local.ground.client import DynamodbKind, GroundClient, start_ground
from local.names import Cloud, FaultMode
from local.toolchain import ensure
from operate import access
from operate.demo import measure
from operate.demo.features import Acknowledged, LagWatch, Writer, divergent, missing, read_all
from operate.demo.models import Workshop, publish_and_follow
from operate.demo.sites import Ground, wait_until
from operate.demo.story import Story
from operate.demo.traffic import Answered, Traffic, by_second
from operate.output import progress, say
from operate.report.result import (
    Artifact,
    Demo,
    Engine,
    Failover,
    Features,
    Host,
    Mark,
    ServiceFigures,
    Step,
    Timeline,
)
from operate.report.result import Ground as GroundNote
from operate.report.write import write
from operate.stacks import Outcome, Stack
from operate.workspace import make_project
from service.train import TrainingPlan

STACK = "local"
GROUND = "demo"
ROWS_PER_SECOND = 40.0
REQUESTS_PER_SECOND = 20.0
# Long enough to see a steady state in the picture before and after the loss.
STEADY_SECONDS = 8.0
AFTER_SECONDS = 4.0
FLEET_LIMIT_SECONDS = 60.0
DETECTION_LIMIT_SECONDS = 60.0
DRAIN_LIMIT_SECONDS = 60.0
SEED = 7


@dataclass
class Loss:
    """What was known at the instant AWS was gone, and what became of it."""

    at: float
    unreplicated: list[Acknowledged]
    detected_seconds: float = 0.0
    first_answer_seconds: float = 0.0
    flip_began: float = 0.0
    proven: float = 0.0
    rescued: int = 0
    acknowledged: list[Acknowledged] = field(default_factory=list)


class Run:
    """One demo run; each method is a step of the story."""

    def __init__(self, story: Story, resources: ExitStack) -> None:
        self._story = story
        self._resources = resources
        self._marks: list[tuple[float, str]] = []

    def whole(self) -> tuple[Demo, Timeline]:
        """Run all steps and return what was measured."""
        self._start_clouds()
        up, second = self._deploy()
        artifacts = self._models()
        self._start_load()
        loss, figures = self._lose_aws()
        flip = self._fail_over(loss)
        self._look_after(loss, artifacts[-1].version)
        figures += self._figures(Site.GCP)
        features, lost = self._bring_back(loss)
        answers = self._traffic.stop()
        return self._result(up, second, flip, artifacts, features, lost, loss, answers, figures)

    def _start_clouds(self) -> None:
        with self._story.step(
            "Start both clouds", "emulators, provider plugins' clouds, a front door, all on this machine"
        ) as step:
            home = fresh(paths.ground_folder(GROUND))
            client = start_ground(home, owned=True)
            self._resources.callback(client.stop)
            self._ground = Ground(client)
            environment = engine_environment(home / "engine", client, None)
            os.environ.update(client.environment())
            os.environ.setdefault(access.AWS_REGION, "us-west-2")
            self._stack = Stack(make_project(home / "project"), STACK, environment)
            step.tell(
                f"{len(client.status().processes)} processes, DynamoDB by {self._dynamodb()}, Pulumi {self._stack.engine_version}"
            )

    def _dynamodb(self) -> str:
        return "DynamoDB Local" if self._ground.client.dynamodb is DynamodbKind.LOCAL else "moto (no Java or no jars)"

    def _deploy(self) -> tuple[Outcome, Outcome]:
        with self._story.step("pulumi up", "one program builds the service on AWS and on Google Cloud") as step:
            up = self._stack.up(step.working)
            step.tell(f"{up.resources} resources in {up.seconds:.1f} s")
            self._outputs = self._stack.outputs()
            self._clients: Clients = access.clients(self._outputs, os.environ)
        with self._story.step("pulumi up, again", "a program that is in line with its clouds changes nothing") as step:
            second = self._stack.up(step.working)
            self._story.check("the second up changes nothing", second.changed == 0, f"{second.changed} changes")
        return up, second

    def _models(self) -> list[Artifact]:
        workshop = Workshop(paths.ground_folder(GROUND) / "models", TrainingPlan())
        name = str(self._outputs["model"])
        with self._story.step("Train version 1", "a recommender, learned from 600,000 seeded interactions") as step:
            first = workshop.first()
            step.tell(f"ranks a held-out choice above a random one {first.quality:.1%} of the time")
        with self._story.step(
            "Publish version 1 on AWS", "the manifest's event starts the copy; nobody calls anything"
        ) as step:
            one = publish_and_follow(self._clients, Site.AWS, name, first, None, now_ms)
            self._tell_arrival(one, step.tell)
        with self._story.step(
            "Train version 2 further, publish it", "newer interactions; its parent is version 1"
        ) as step:
            second = workshop.further(first)
            two = publish_and_follow(self._clients, Site.AWS, name, second, one.version, now_ms)
            step.tell(f"ranking quality {first.quality:.1%} -> {second.quality:.1%}")
            self._tell_arrival(two, step.tell)
            self._story.check(
                "both versions verified on Google Cloud by SHA-256 and CRC32C", one.verified and two.verified
            )
            waited = wait_until(
                lambda: self._ground.all_serve(two.version), FLEET_LIMIT_SECONDS, "every host serves version 2"
            )
            step.tell(f"every host of both sites serves it {waited:.1f} s later")
        return [one, two]

    def _tell_arrival(self, artifact: Artifact, tell: object) -> None:
        assert callable(tell)
        tell(
            f"{artifact.version[:12]}: {artifact.bytes_raw / 1e6:.1f} MB, {artifact.bytes_wire / 1e6:.1f} MB sent,"
            f" proven and aliased on Google Cloud {artifact.seconds:.1f} s after the publish"
        )

    def _start_load(self) -> None:
        with self._story.step(
            "Users and live features",
            f"{REQUESTS_PER_SECOND:.0f} requests/s through the front door, {ROWS_PER_SECOND:.0f} feature rows/s written on AWS",
        ) as step:
            hostname = str(self._outputs["publicUrl"]).partition("://")[2]
            self._traffic = Traffic(self._ground.client.names()[hostname], hostname, REQUESTS_PER_SECOND)
            self._traffic.start()
            self._resources.callback(self._traffic.stop)
            store = FeatureStore(self._clients.rows(Site.AWS), Site.AWS, now_ms)
            self._writer = Writer(Site.AWS, store, TrainingPlan().embedding_size, ROWS_PER_SECOND, SEED)
            self._watch = LagWatch(self._writer, Site.GCP, self._clients.rows(Site.GCP), self._traffic.began)
            self._writer.start()
            self._resources.callback(self._writer.stop)
            self._watch.start()
            self._resources.callback(self._watch.stop)
            time.sleep(STEADY_SECONDS)
            answers = self._traffic.answers()
            good = [answer for answer in answers if answer.site == Site.AWS and not answer.failure]
            self._story.check("AWS answers every user", len(good) == len(answers) > 0, f"{len(good)} of {len(answers)}")
            lag = measure.lag_quantiles(self._watch.samples)
            step.tell(f"a row is readable on Google Cloud after {lag.p50:.0f} ms (median), {lag.p99:.0f} ms (p99)")

    def _lose_aws(self) -> tuple[Loss, list[ServiceFigures]]:
        with self._story.step(
            "AWS is lost", "killed in the middle of traffic: S3, DynamoDB, SQS, Lambda, the fleet, its APIs"
        ) as step:
            figures = self._figures(Site.AWS)
            self._rescued_before = int(self._ground.statistics().get("rescued", 0))
            at = time.monotonic()
            self._ground.client.fault(Cloud.AWS, FaultMode.KILL)
            self._mark(at, "AWS killed")
            acknowledged = [write for write in self._writer.acknowledged if write.at <= time.monotonic()]
            there = read_all(self._clients.rows(Site.GCP), {write.key for write in acknowledged})
            loss = Loss(at, missing(acknowledged, there), acknowledged=acknowledged)
            step.tell(
                f"{len(loss.unreplicated)} of {len(acknowledged)} acknowledged writes were not on Google Cloud yet"
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
        return loss, figures

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

    def _figures(self, site: Site) -> list[ServiceFigures]:
        found = self._ground.figures(site)
        return [found] if found else []

    def _prefix(self) -> str:
        return str(self._outputs["sites"][Site.AWS]["artifactBucket"]).removesuffix(f"-artifacts-{Site.AWS}")

    def _look_after(self, loss: Loss, version: str) -> None:
        with self._story.step(
            "Google Cloud serves", "the same model version, the features that were replicated, and new writes"
        ) as step:
            self._writer.move(Site.GCP, FeatureStore(self._clients.rows(Site.GCP), Site.GCP, now_ms))
            written = len(self._writer.acknowledged)
            began = time.monotonic()
            time.sleep(AFTER_SECONDS)
            loss.rescued = int(self._ground.statistics().get("rescued", 0)) - self._rescued_before
            after = [answer for answer in self._traffic.answers() if answer.sent_at >= began]
            good = [
                answer
                for answer in after
                if answer.site == Site.GCP and not answer.failure and answer.version == version
            ]
            self._story.check(
                "Google Cloud answers every user with the same model version",
                len(good) == len(after) > 0,
                f"{len(good)} of {len(after)}",
            )
            taken = len(self._writer.acknowledged) - written
            self._story.check("Google Cloud takes feature writes", taken > 0, f"{taken} rows")
            self._writer.stop()
            step.tell(f"{self._writer.refused} writes were refused while no site took them")

    def _bring_back(self, loss: Loss) -> tuple[Features, int]:
        with self._story.step(
            "AWS comes back", "its data was there all the time; what either side had not sent must arrive now"
        ) as step:
            self._ground.client.restore(Cloud.AWS)
            self._mark(time.monotonic(), "AWS back")
            near, far = self._clients.rows(Site.AWS), self._clients.rows(Site.GCP)
            keys = {write.key for write in loss.acknowledged}

            def drained() -> tuple[bool, str]:
                late = missing(loss.acknowledged, read_all(far, keys))
                return not late, f"{len(late)} writes not there"

            waited = wait_until(drained, DRAIN_LIMIT_SECONDS, "every acknowledged write is on Google Cloud")
            step.tell(f"everything that AWS had acknowledged was on Google Cloud {waited:.1f} s later")
            lost = len(missing(loss.acknowledged, read_all(far, keys)))
            self._story.check("no acknowledged write is lost", lost == 0, f"{len(loss.acknowledged)} writes")
            written_there = [write for write in self._writer.acknowledged if write.site is Site.GCP]
            keys = {write.key for write in self._writer.acknowledged}

            def returned() -> tuple[bool, str]:
                late = missing(written_there, read_all(near, keys))
                return not late, f"{len(late)} rows not there"

            waited = wait_until(returned, DRAIN_LIMIT_SECONDS, "every row written on Google Cloud is on AWS")
            step.tell(f"{len(written_there)} writes that Google Cloud took meanwhile were on AWS {waited:.1f} s later")
            here, there = read_all(near, keys), read_all(far, keys)
            different = divergent(here, there)
            self._story.check("both tables hold the same bytes", not different, f"{len(keys)} rows compared")
            features = Features(
                written=len(self._writer.acknowledged),
                lag_ms=measure.lag_quantiles(
                    [each for each in self._watch.samples if each.second < loss.at - self._traffic.began]
                ),
                divergent=len(different),
                rows_compared=len(here),
            )
        return features, lost

    def _mark(self, at: float, label: str) -> None:
        self._marks.append((at, label))

    def _result(
        self,
        up: Outcome,
        second: Outcome,
        flip: Outcome,
        artifacts: list[Artifact],
        features: Features,
        lost: int,
        loss: Loss,
        answers: list[Answered],
        figures: list[ServiceFigures],
    ) -> tuple[Demo, Timeline]:
        rpo_seconds = max((loss.at - write.at for write in loss.unreplicated), default=0.0)
        during = measure.requests_between(answers, loss.at - 1.0, loss.proven, loss.rescued)
        explained = sum(each.count for each in during.explained)
        self._story.check(
            "every failed request is explained", explained == during.failed, f"{during.failed} of {during.sent} failed"
        )
        steps = measure.engine_steps(flip)
        failover = Failover(
            trigger="AWS killed, found by the front door's health checks, then pulumi up",
            rto_seconds=round(loss.proven - loss.at, 2),
            steps=[
                Step(name="front door finds AWS down", seconds=round(loss.detected_seconds, 2)),
                Step(
                    name="the decision to fail over",
                    seconds=round(loss.flip_began - loss.at - loss.detected_seconds, 2),
                ),
                *steps,
            ],
            requests=during,
            rpo={"features": round(max(0.0, rpo_seconds), 3)},
            unreplicated_writes=len(loss.unreplicated),
            lost_writes=lost,
        )
        flipped = failover.model_copy(
            update={
                "trigger": "pulumi up with lifeboat:active=gcp, AWS dead",
                "rto_seconds": round(flip.seconds, 2),
                "steps": steps,
                "requests": measure.requests_between(answers, loss.flip_began, loss.proven, 0),
            }
        )
        began = self._traffic.began
        demo = Demo(
            engine=Engine(
                version=self._stack.engine_version,
                resources=up.resources,
                up_seconds=round(up.seconds, 2),
                second_up_changes=second.changed,
                second_up_seconds=round(second.seconds, 2),
                flip_seconds=round(flip.seconds, 2),
            ),
            artifacts=artifacts,
            features=features,
            failover=failover,
            flip=flipped,
            service=figures,
            ground=GroundNote(dynamodb=self._dynamodb()),
            host=host(),
            seconds=round(self._story.seconds, 1),
            passed=self._story.passed,
            checks=self._story.checks,
        )
        timeline = Timeline(
            requests=by_second(answers, began),
            marks=[Mark(second=round(at - began, 2), label=label) for at, label in self._marks],
            lag=self._watch.samples,
        )
        return demo, timeline


def host() -> Host:
    """Return the machine that this runs on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return Host(cpu=model, cores=os.cpu_count() or 1, memory=f"{psutil.virtual_memory().total / 2**30:.0f} GiB")


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


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def now_ms() -> int:
    """Return the time in epoch milliseconds, as versions of rows and documents count it."""
    return time.time_ns() // 1_000_000
