"""The apply path of a source that only names the rows that changed: read them again, then apply as every direction does."""

from collections.abc import Sequence
from dataclasses import dataclass

from functions.errors import TransientError
from functions.events import PubSubMessage
from functions.features.apply import FeatureApplier, Result
from functions.features.plan import Outcome
from functions.features.reread.notice import collect
from functions.features.reread.plan import plan_rows
from functions.stores.protocols import Applied
from functions.telemetry import LOGGER


@dataclass(frozen=True)
class Reapplied:
    """What a request came to; `failed` are the identities of messages that must come again."""

    failed: frozenset[str]
    result: Result


@dataclass(frozen=True)
class RereadApplier:
    """Applies what messages of the change stream ask for, through the appliers' common path."""

    applier: FeatureApplier

    def run(self, messages: Sequence[PubSubMessage]) -> Reapplied:
        """Apply the messages. A store that can't be read fails all of them; nothing is raised for a single one's sake."""
        applier = self.applier
        told = collect(messages)
        try:
            home = applier.home.read(list(told.by_key))
            asked = [key for key, notice in told.by_key.items() if key not in home or notice.since_ms]
            far = applier.far.read(asked) if asked else {}
            todo = plan_rows(told, home, far, applier.clock_ms(), applier.site)
            answers = applier.home.apply(todo.restored) if todo.restored else []
        except TransientError as error:
            LOGGER.warning("rows of %d messages could not be read: %s", len(messages), error)
            everything = frozenset(message.identity for message in messages)
            return Reapplied(everything, Result(None, {Outcome.FAILED: len(messages)}, []))
        done = applier.execute(todo.plan)
        # One message stands for all that told of its row.
        failed_keys = {told.keys.get(identity) for identity in done.failed}
        lost = (Applied.FAILED, Applied.REFUSED)
        failed_keys |= {row.key for row, answer in zip(todo.restored, answers, strict=True) if answer in lost}
        failed = {identity for identity, key in told.keys.items() if key in failed_keys} | set(done.failed)
        return Reapplied(frozenset(failed), done.result(None))
