"""Cloud Scheduler: `gcp:cloudscheduler/job:Job` with an HTTP target, most often a function of this cloud.

A failed call is not repeated before the next tick, whatever the job's retry settings say: what is scheduled must bear either.
Calls carry no identity token, as pushes do not.
"""

import base64
import binascii
from typing import Any
from urllib.parse import urlsplit

from local.clouds.clock import unix_timetable
from local.clouds.errors import ActorError, UnsupportedError
from local.clouds.gcp.functions import FunctionHost
from local.clouds.gcp.instances import FunctionRequest
from local.clouds.gcp.resources import properties, required, text_map
from local.clouds.ticker import Ticker
from local.state import Resource

JOB_TYPE = "gcp:cloudscheduler/job:Job"


class ScheduleActor:
    """Calls functions when their jobs are due."""

    def __init__(self, host: FunctionHost) -> None:
        self._host = host
        self.ticker = Ticker()

    async def ensure(self, resource: Resource) -> None:
        """Begin the job. Raises UnsupportedError for another target than HTTP."""
        given = properties(resource)
        if given.get("paused"):
            await self.ticker.remove(resource.id)
            return
        target = given.get("httpTarget")
        if not target:
            raise UnsupportedError(f"job {resource.id} has no httpTarget; the local cloud's jobs make HTTP calls")
        parts = urlsplit(str(target.get("uri")))
        if not parts.hostname:
            raise ActorError(f"job {resource.id}: uri {target.get('uri')!r} has no host name")
        hostname = parts.hostname
        request = FunctionRequest(
            str(target.get("httpMethod") or "POST"),
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            {
                "host": hostname,
                "content-type": "application/octet-stream",
                # Names know no case: two spellings of one would be two headers, which servers refuse.
                **{name.lower(): value for name, value in text_map(target.get("headers")).items()},
            },
            _body(resource, target.get("body")),
        )
        timetable = unix_timetable(str(required(resource, "schedule")), str(given.get("timeZone") or "Etc/UTC"))

        async def call() -> None:
            answer = await self._host.invoke(hostname, request)
            if answer.status >= 300:
                raise ActorError(f"{hostname} answered {answer.status}: {answer.body[:500].decode(errors='replace')}")

        await self.ticker.ensure(resource.id, timetable, call)

    async def remove(self, resource: Resource) -> None:
        """End the job."""
        await self.ticker.remove(resource.id)

    def statistics(self) -> dict[str, Any]:
        """Return what every job has done."""
        return self.ticker.statistics()


def _body(resource: Resource, text: Any) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except binascii.Error as error:
        raise ActorError(f"job {resource.id}: httpTarget.body is no base64, as the API wants it") from error
