"""All event source mappings of the AWS cloud: one poller each, replaced when a mapping changes."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from local.clouds.api import describe
from local.clouds.aws.arns import Arn
from local.clouds.aws.clients import AwsClients
from local.clouds.aws.event_sources.checkpoints import CheckpointFile
from local.clouds.aws.event_sources.counters import SourceCounters
from local.clouds.aws.event_sources.queue_poller import QueuePoller
from local.clouds.aws.event_sources.settings import MappingSettings
from local.clouds.aws.event_sources.stream_poller import StreamPoller
from local.clouds.aws.lambda_host.host import LambdaHost
from local.clouds.context import CloudContext
from local.state import Resource

logger = logging.getLogger(__name__)

# A poller that ends was met by an error nobody foresaw; it starts again, visibly and not at once.
RESTART_SECONDS = 1.0


@dataclass
class RunningMapping:
    """A mapping and its poller; a disabled one has no task."""

    settings: MappingSettings
    counters: SourceCounters = field(default_factory=SourceCounters)
    poller: QueuePoller | StreamPoller | None = None
    task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """End the poller; records in flight come again."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


class EventSourceMappings:
    """Carries events to functions, as `aws:lambda/eventSourceMapping:EventSourceMapping` asks."""

    def __init__(self, context: CloudContext) -> None:
        self._folder = context.folder / "event-sources"
        self._clients = context.part(AwsClients)
        self._host = context.part(LambdaHost)
        self._mappings: dict[str, RunningMapping] = {}

    async def ensure(self, resource: Resource) -> None:
        """Poll as the mapping says; one that runs so already is left alone."""
        settings = MappingSettings.of(resource)
        running = self._mappings.get(settings.id)
        if running is not None and running.settings == settings:
            return
        if running is not None:
            await running.stop()
        mapping = RunningMapping(settings)
        if settings.enabled:
            mapping.task = asyncio.create_task(self._run(mapping), name=f"event source of {settings.function_name}")
        self._mappings[settings.id] = mapping

    async def remove(self, resource: Resource) -> None:
        """Stop polling and forget the checkpoint."""
        running = self._mappings.pop(resource.id, None)
        if running is not None:
            await running.stop()
        CheckpointFile(self._folder, resource.id).remove()

    async def stop(self) -> None:
        """Stop all pollers; checkpoints stay."""
        await asyncio.gather(*(mapping.stop() for mapping in self._mappings.values()))

    def statistics(self) -> list[dict[str, Any]]:
        """Return counts and place of every mapping."""
        return [
            {
                "id": mapping.settings.id,
                "source": mapping.settings.source_arn,
                "function": mapping.settings.function_name,
                "enabled": mapping.settings.enabled,
                **mapping.counters.report(),
                **(mapping.poller.report() if mapping.poller is not None else {}),
            }
            for mapping in self._mappings.values()
        ]

    async def _run(self, mapping: RunningMapping) -> None:
        while True:
            mapping.poller = self._poller(mapping)
            try:
                await mapping.poller.run()
            except Exception as error:  # a mapping that stays down would lose nothing, but nobody would know why
                mapping.counters.last_error = describe(error)
                logger.exception("event source %s of %s", mapping.settings.source_arn, mapping.settings.function_name)
                await asyncio.sleep(RESTART_SECONDS)

    def _poller(self, mapping: RunningMapping) -> QueuePoller | StreamPoller:
        settings = mapping.settings
        if Arn.parse(settings.source_arn).service == "sqs":
            return QueuePoller(settings, self._clients, self._host, mapping.counters)
        checkpoints = CheckpointFile(self._folder, settings.id)
        return StreamPoller(settings, self._clients, self._host, checkpoints, mapping.counters)
