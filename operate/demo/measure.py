"""Turns what a run saw into the figures of its report. Pure: no clock, no network."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from operate.demo.traffic import Answered
from operate.report.result import FailureReason, LagSample, Quantiles, Requests, Step
from operate.stacks import Outcome

GATE = "gate:"
VERIFICATION = "verification:"


def lag_quantiles(samples: Sequence[LagSample]) -> Quantiles:
    """Return median and 99th percentile of the lags; raises ValueError when there is none to speak of."""
    if not samples:
        raise ValueError("no feature row was seen on the other side, so there is no lag to report")
    p50, p99 = np.percentile([sample.lag_ms for sample in samples], (50, 99))
    return Quantiles(p50=round(float(p50), 1), p99=round(float(p99), 1))


def arrived_before(samples: Sequence[LagSample], second: float) -> list[LagSample]:
    """Return the ways that had ended by a second; what was still on its way at a loss is counted as exposed, not as slow."""
    return [each for each in samples if each.second + each.lag_ms / 1000 < second]


def requests_between(answers: Sequence[Answered], begin: float, end: float, rescued: int) -> Requests:
    """Count the requests sent between two instants; `rescued` comes from the front door, which alone knows of a retry."""
    sent = [answer for answer in answers if begin <= answer.sent_at < end]
    reasons = Counter(reason_of(answer.failure) for answer in sent if answer.failure)
    return Requests(
        sent=len(sent),
        failed=sum(reasons.values()),
        rescued=rescued,
        explained=[FailureReason(reason=reason, count=count) for reason, count in reasons.most_common()],
    )


def reason_of(failure: str) -> str:
    """Say in words why a request failed, from what its client saw."""
    if "502" in failure or "520" in failure:
        return "the site died while it was answering, after the request had reached it: not sent twice, as the front door rules"
    if "Timeout" in failure:
        return "no answer within the client's patience"
    return failure


def engine_steps(outcome: Outcome) -> list[Step]:
    """Split an update into what a reader knows by name; the seconds add up to the whole update."""
    first_change = min(
        (mark.seconds for mark in outcome.marks if mark.operation in ("create", "update", "replace")), default=0.0
    )
    gate = [log.seconds for log in outcome.logs if log.message.startswith(GATE)]
    verified = [log.seconds for log in outcome.logs if log.message.startswith(VERIFICATION)]
    borders = [("program and plan", first_change)]
    if gate:
        borders += [("fleet grows", gate[0]), ("gate", gate[-1])]
    if verified:
        borders.append(("traffic moves and is verified", verified[-1]))
    borders.append(("the rest of the update", outcome.seconds))
    steps, before = [], 0.0
    for name, end in borders:
        steps.append(Step(name=f"pulumi up: {name}", seconds=round(max(0.0, end - before), 2)))
        before = max(before, end)
    return steps
