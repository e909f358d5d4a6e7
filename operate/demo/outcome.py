"""Puts together the result of a run from what its steps saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from functions.settings import Site
from operate.demo import measure
from operate.demo.bridge import BridgeTraffic, Sent
from operate.demo.loads import Cut, LiveData
from operate.demo.sessions import SessionLoad
from operate.demo.story import Story
from operate.demo.traffic import Answered, by_second
from operate.host import host
from operate.report.result import (
    Artifact,
    Bridge,
    Demo,
    Engine,
    Failover,
    Features,
    LagSample,
    Mark,
    Parity,
    Quantiles,
    ServiceFigures,
    Sessions,
    SideParity,
    Step,
    Timeline,
    UserData,
)
from operate.report.result import Ground as GroundNote
from operate.stacks import Outcome
from operate.verify.parity import StoreParity

FEATURES, SESSIONS, USERS = "features", "sessions", "userdata"


@dataclass
class Loss:
    """What was known when AWS was gone, by kind of data, and what became of it.

    The kill began at `at` and was in force at `gone`: programs wrote on until then.
    """

    at: float
    gone: float
    cuts: Mapping[str, Cut]
    messages: Sequence[Sent]
    rescued_before: int
    detected_seconds: float = 0.0
    flip_began: float = 0.0
    proven: float = 0.0
    rescued: int = 0
    sessions_open: int = 0
    sessions_went_on: int = 0
    lost_writes: int = 0

    @property
    def rpo(self) -> dict[str, float]:
        """Return, by store, the seconds of acknowledged writes that the other site lacked."""
        oldest = max((max(0.0, self.gone - message.at) for message in self.messages), default=0.0)
        return {**{name: round(cut.rpo_seconds, 3) for name, cut in self.cuts.items()}, "bridge": round(oldest, 3)}


@dataclass(frozen=True)
class Seen:
    """What the run's programs and watches saw from the first request to the last comparison."""

    artifacts: list[Artifact]
    live: Mapping[str, LiveData]
    sessions: SessionLoad
    bridge: BridgeTraffic
    parities: Sequence[StoreParity]
    answers: list[Answered]
    began: float
    figures: list[ServiceFigures] = field(default_factory=list)
    marks: Sequence[tuple[float, str]] = ()

    def steady(self, samples: Sequence[LagSample], loss: Loss) -> Quantiles:
        """Return the quantiles of what was written and had arrived while both sites were there."""
        return measure.lag_quantiles(measure.arrived_before(samples, loss.at - self.began))

    def lags(self, name: str, loss: Loss) -> dict[str, Quantiles]:
        """Return the lags of a kind of data in both directions."""
        data = self.live[name]
        return {
            "lag_ms": self.steady(data.lags(Site.GCP), loss),
            "lag_back_ms": self.steady(data.lags(Site.AWS), loss),
        }


def result(
    story: Story, engine: str, dynamodb: str, up: Outcome, second: Outcome, flip: Outcome, loss: Loss, seen: Seen
) -> tuple[Demo, Timeline]:
    """Return the figures of the run, and what the pictures are drawn from."""
    during = measure.requests_between(seen.answers, loss.at - 1.0, loss.proven, loss.rescued)
    explained = sum(each.count for each in during.explained)
    story.check(
        "every failed request is explained", explained == during.failed, f"{during.failed} of {during.sent} failed"
    )
    steps = measure.engine_steps(flip)
    failover = Failover(
        trigger="AWS killed, found by the front door's health checks, then pulumi up",
        rto_seconds=round(loss.proven - loss.at, 2),
        steps=[
            Step(name="front door finds AWS down", seconds=round(loss.detected_seconds, 2)),
            Step(name="the decision to fail over", seconds=round(loss.flip_began - loss.at - loss.detected_seconds, 2)),
            *steps,
        ],
        requests=during,
        rpo=loss.rpo,
        unreplicated_writes=sum(len(cut.unreplicated) for cut in loss.cuts.values()),
        lost_writes=loss.lost_writes,
    )
    flipped = failover.model_copy(
        update={
            "trigger": "pulumi up with lifeboat:active=gcp, AWS dead",
            "rto_seconds": round(flip.seconds, 2),
            "steps": steps,
            "requests": measure.requests_between(seen.answers, loss.flip_began, loss.proven, 0),
        }
    )
    demo = Demo(
        engine=Engine(
            version=engine,
            resources=up.resources,
            up_seconds=round(up.seconds, 2),
            second_up_changes=second.changed,
            second_up_seconds=round(second.seconds, 2),
            flip_seconds=round(flip.seconds, 2),
        ),
        artifacts=seen.artifacts,
        features=_features(seen, loss),
        sessions=_sessions(seen, loss),
        userdata=_userdata(seen, loss),
        bridge=_bridge(seen, loss),
        parity=[_parity(each) for each in seen.parities],
        failover=failover,
        flip=flipped,
        service=seen.figures,
        ground=GroundNote(dynamodb=dynamodb),
        host=host(),
        seconds=round(story.seconds, 1),
        passed=story.passed,
        checks=story.checks,
    )
    timeline = Timeline(
        requests=by_second(seen.answers, seen.began),
        marks=[Mark(second=round(at - seen.began, 2), label=label) for at, label in seen.marks],
        lag=seen.live[FEATURES].lags(Site.GCP),
        lag_back=seen.live[FEATURES].lags(Site.AWS),
    )
    return demo, timeline


def _features(seen: Seen, loss: Loss) -> Features:
    (parity,) = [each for each in seen.parities if each.store == FEATURES]
    return Features(
        written=len(seen.live[FEATURES].acknowledged()),
        **seen.lags(FEATURES, loss),
        divergent=parity.differing,
        rows_compared=parity.sides[Site.AWS].rows,
    )


def _sessions(seen: Seen, loss: Loss) -> Sessions:
    return Sessions(
        opened=seen.sessions.opened,
        saved=len(seen.live[SESSIONS].acknowledged()),
        moved=seen.sessions.moved,
        refused=len(seen.sessions.refused),
        open_at_loss=loss.sessions_open,
        went_on=loss.sessions_went_on,
        **seen.lags(SESSIONS, loss),
    )


def _userdata(seen: Seen, loss: Loss) -> UserData | None:
    if USERS not in seen.live:
        return None
    tables = [each for each in seen.parities if each.store.startswith(f"{USERS}/")]
    return UserData(
        written=len(seen.live[USERS].acknowledged()),
        **seen.lags(USERS, loss),
        divergent=sum(each.differing for each in tables),
        rows_compared=sum(each.sides[Site.AWS].rows for each in tables),
    )


def _bridge(seen: Seen, loss: Loss) -> Bridge:
    lags = {site: seen.steady(seen.bridge.lags(seen.began, site), loss) for site in Site}
    sent = len(seen.bridge.sent)
    return Bridge(
        sent=sent,
        received=sent - len(seen.bridge.waiting()),
        repeated=seen.bridge.repeats(),
        lag_ms=lags[Site.AWS],
        lag_back_ms=lags[Site.GCP],
    )


def _parity(found: StoreParity) -> Parity:
    sides = {
        site: SideParity(
            rows=side.rows, tombstones=side.tombstones, digest=side.digest, lag_ms=side.lag_ms, parked=side.parked
        )
        for site, side in found.sides.items()
    }
    return Parity(store=found.store, equal=found.equal, differing=found.differing, sides=sides, skipped=found.skipped)
