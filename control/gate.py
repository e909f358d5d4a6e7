"""The gate: whether a site may become active, decided from facts alone.

Pure: it asks nobody and knows no clock, so every rule is tested by itself; control/gate_client.py brings the facts.
The rules differ by whether the active site still serves, that is, answers that it is ready. If it does, a shift is a
choice, and the target must be warm, on the same model version and up to date. If it does not, what has not arrived may
never arrive: waiting for it helps nobody, so the silence is stated as what the failover loses instead of refusing it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelVersion:
    """What a host serves: a model, the alias it followed and the version the alias named."""

    name: str
    alias: str
    version: str


@dataclass(frozen=True)
class Answer:
    """One answer of a site's /ready; `problem` is set when there was none that could be read. Times in milliseconds."""

    ready: bool
    reasons: tuple[str, ...] = ()
    instance: str | None = None
    model: ModelVersion | None = None
    lag_ms: float | None = None
    silence_ms: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Facts:
    """Several answers of the target, and one of the site that serves now (None: it does not answer)."""

    target: str
    active: str
    samples: tuple[Answer, ...]
    active_answer: Answer | None

    @property
    def active_serves(self) -> bool:
        """Say whether the active site answers that it is ready."""
        return self.active_answer is not None and self.active_answer.ready

    @property
    def why_not(self) -> str:
        """Return in words why the active site does not serve."""
        if self.active_answer is None or self.active_answer.problem:
            return f"{self.active} does not answer"
        return f"{self.active} is not ready ({'; '.join(self.active_answer.reasons) or 'no reason given'})"


@dataclass(frozen=True)
class Limits:
    """What the target is held to."""

    feature_lag_ms: int


@dataclass(frozen=True)
class Check:
    """One rule's outcome; `value` and `limit` are for people, `note` says what else they should know."""

    name: str
    passed: bool
    value: str
    limit: str
    note: str = ""

    def line(self) -> str:
        """Return the check in one line."""
        return f"{self.name} {self.value} (limit {self.limit})" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True)
class Verdict:
    """All checks; the gate is green when none failed."""

    target: str
    checks: tuple[Check, ...]

    @property
    def green(self) -> bool:
        """Say whether the site may become active."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """Return the checks that stand in the way."""
        return tuple(check for check in self.checks if not check.passed)


def judge(facts: Facts, limits: Limits) -> Verdict:
    """Return the verdict over the target site."""
    return Verdict(
        facts.target,
        (_ready(facts), _one_version(facts), _same_version(facts), _lag(facts, limits), _silence(facts, limits)),
    )


def _ready(facts: Facts) -> Check:
    ready = [answer for answer in facts.samples if answer.ready and answer.problem is None]
    hosts = {answer.instance for answer in ready if answer.instance}
    reasons = sorted(
        {reason for answer in facts.samples for reason in answer.reasons}
        | {answer.problem for answer in facts.samples if answer.problem}
    )
    passed = bool(facts.samples) and len(ready) == len(facts.samples)
    note = "; ".join(reasons) if not passed else f"{len(hosts)} host(s) answered"
    return Check("ready", passed, f"{len(ready)} of {len(facts.samples)} answers", "all", note)


def _versions(facts: Facts) -> set[ModelVersion | None]:
    return {answer.model for answer in facts.samples}


def _one_version(facts: Facts) -> Check:
    versions = _versions(facts)
    passed = len(versions) == 1 and None not in versions
    value = ", ".join(sorted(_name(version) for version in versions)) or "none"
    return Check("one_model", passed, value, "one version on every host")


def _same_version(facts: Facts) -> Check:
    versions = _versions(facts)
    target = next(iter(versions)) if len(versions) == 1 else None
    value = _name(target) if target else "none"
    active = facts.active_answer.model if facts.active_answer else None
    if not facts.active_serves or active is None:
        note = f"{facts.why_not}: {facts.target} is held to the alias in its own store"
        return Check("same_model", target is not None, value, f"the version of alias {_alias(target)}", note)
    passed = target is not None and (target.name, target.version) == (active.name, active.version)
    return Check("same_model", passed, value, f"{_name(active)} as on {facts.active}")


def _lag(facts: Facts, limits: Limits) -> Check:
    limit = f"{limits.feature_lag_ms:,} ms"
    lag = _worst(facts, lambda answer: answer.lag_ms)
    if lag is not None:
        return Check("feature_lag", lag <= limits.feature_lag_ms, f"{lag:,.0f} ms", limit)
    silence = _worst(facts, lambda answer: answer.silence_ms)
    if not facts.active_serves and silence is not None:
        return Check(
            "feature_lag", True, "unknown", limit, "the last heartbeats are older than what the lag is taken from"
        )
    return Check("feature_lag", False, "unknown", limit, _unheard(facts))


def _silence(facts: Facts, limits: Limits) -> Check:
    silence = _worst(facts, lambda answer: answer.silence_ms)
    if not facts.active_serves:
        value = "unknown" if silence is None else f"{silence:,.0f} ms"
        note = f"{facts.why_not}: what it wrote in that time may be lost"
        return Check("feature_silence", True, value, "none while the serving site is down", note)
    limit = f"{limits.feature_lag_ms:,} ms"
    if silence is None:
        return Check("feature_silence", False, "unknown", limit, _unheard(facts))
    return Check("feature_silence", silence <= limits.feature_lag_ms, f"{silence:,.0f} ms", limit)


def _worst(facts: Facts, reading: Callable[[Answer], float | None]) -> float | None:
    """Return the largest reading, None if any answer has none: an unknown host may be the worst one."""
    values: Sequence[float | None] = [reading(answer) for answer in facts.samples]
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _unheard(facts: Facts) -> str:
    """Say why a figure is not known: who could not be asked may have heard from the active site all the same."""
    if any(answer.problem for answer in facts.samples):
        return f"not every answer of {facts.target} could be read"
    return f"no heartbeat of {facts.active} has arrived on {facts.target}"


def _name(version: ModelVersion | None) -> str:
    return f"{version.name}@{version.version}" if version else "none"


def _alias(version: ModelVersion | None) -> str:
    return version.alias if version else "unknown"
