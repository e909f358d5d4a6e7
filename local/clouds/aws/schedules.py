"""EventBridge Scheduler: `aws:scheduler/schedule:Schedule` whose target is a Lambda function.

A failed call is not repeated before the next tick, which the real service would do for up to a day: what is scheduled must bear
either. Flexible windows are taken as none.
"""

import logging
from typing import Any

from functions.settings import USER_DATABASES
from local.clouds.aws.arns import Arn
from local.clouds.aws.lambda_host.host import LambdaHost
from local.clouds.clock import aws_timetable
from local.clouds.context import CloudContext
from local.clouds.errors import ActorError, UnsupportedError
from local.clouds.ticker import Ticker
from local.ground import user_data
from local.state import Resource

logger = logging.getLogger(__name__)

SCHEDULE_TYPE = "aws:scheduler/schedule:Schedule"
# A schedule calls asynchronously: its events wait for a free place of the function.
PATIENCE_SECONDS = 60.0


class ScheduleActor:
    """Calls functions when their schedules are due."""

    def __init__(self, context: CloudContext) -> None:
        self._lambda = context.part(LambdaHost)
        self.ticker = Ticker()

    async def ensure(self, resource: Resource) -> None:
        """Begin the schedule. Raises UnsupportedError for another target than a function."""
        given = resource.inputs
        if given.get("state") == "DISABLED":
            await self.ticker.remove(resource.id)
            return
        target = given.get("target") or {}
        arn = Arn.parse(str(target.get("arn")))
        if arn.service != "lambda":
            raise UnsupportedError(
                f"schedule {resource.id} calls {arn.service}; the local cloud's schedules call Lambda functions"
            )
        function = arn.resource.removeprefix("function:").partition(":")[0]
        if (reason := user_data.missing()) and USER_DATABASES in self._lambda.settings(function).environment:
            logger.warning("schedule %s is only recorded: %s", resource.id, reason)
            return
        payload = str(target.get("input") or "{}").encode()
        timetable = aws_timetable(
            str(given.get("scheduleExpression")), str(given.get("scheduleExpressionTimezone") or "UTC")
        )

        async def call() -> None:
            answer = await self._lambda.invoke(function, payload, PATIENCE_SECONDS)
            if not answer.succeeded:
                raise ActorError(f"function {function} failed: {answer.payload[:500].decode(errors='replace')}")

        await self.ticker.ensure(resource.id, timetable, call)

    async def remove(self, resource: Resource) -> None:
        """End the schedule."""
        await self.ticker.remove(resource.id)

    def statistics(self) -> dict[str, Any]:
        """Return what every schedule has done."""
        return self.ticker.statistics()
